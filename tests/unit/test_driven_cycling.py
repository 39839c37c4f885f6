"""A system that noise drives, from a nature run through `cycler run` to a table: every stage takes it."""

from __future__ import annotations

from pathlib import Path

import yaml
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.experiment import load_plan

SYSTEM = {"kind": "stochastic_ns", "size": 32, "time_step": 0.1}


def config(folder: Path) -> dict[str, object]:
    return {
        "name": "driven",
        "root": str(folder / "runs"),
        "seed": 3,
        "system": SYSTEM,
        "nature": {
            "kind": "simulated",
            "path": str(folder / "nature.nc"),
            "seed": 5,
            "start": "2020-01-01T00:00Z",
            "steps": 20,
            "system": SYSTEM,
        },
        "start": {"kind": "lagged_nature", "steps": 10},
        "forecast": {"kind": "numerical", "system": SYSTEM},
        "ensemble": {"members": 12, "batch": 12},
        "cycles": {"start": "2020-01-01T01:00Z", "count": 2, "every": "30min"},
        "observations": [
            {
                "stream": "block",
                "folder": str(folder / "observations"),
                "operator": {"kind": "block_mean", "factor": 4},
                "draw": {"network": {"kind": "stride", "stride": 4}, "error": {"vorticity": 0.1}},
            }
        ],
        "chains": [
            {"name": "letkf", "scheme": {"kind": "letkf", "localization_radius_cells": 8}},
            {"name": "free_run", "scheme": {"kind": "free_run"}},
        ],
        "executor": {"kind": "serial"},
        "verification": {"scale": {"vorticity": 2.28}},
        "plots": False,
    }


def test_cycles_of_a_driven_system_end_with_analyses_better_than_the_free_run(tmp_path):
    path = tmp_path / "driven.yaml"
    path.write_text(yaml.safe_dump(config(tmp_path)))
    done = CliRunner().invoke(app, ["run", str(path), "--orchestrator", "none"])
    assert done.exit_code == 0, done.output
    rows = load_plan(str(path)).closing_rows()
    rmse = {row.method: row.value for row in rows if (row.case, row.metric) == ("analysis", "rmse")}
    # 0.60 with 12 members in two cycles; what is asked is that the observations arrive.
    assert rmse["letkf"] < 0.8 * rmse["free_run"]
