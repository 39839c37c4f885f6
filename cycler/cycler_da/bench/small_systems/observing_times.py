"""Benchmark `observing_times`: what it is worth to use the observations of a window at their own times.

The experiment `lorenz96_windows` (windows of 24 h, half of the values observed every 6 h, a learned model) in three
ways, on the same truths and the same observations, value by value:

    own times        the LETKF from H(x) at the observing times, applied to the end of the window (4D-LETKF)
    end of window    the same observations, all taken to be at its end
    every 6 h        a cycle for every observing time: no window at all

Scores are of the analysis at the end of a day, pooled over cycles after the spin-up; intervals over truths, Student's
t. "every 6 h" has the inflation of a day shared between its four cycles. Nothing is tuned. Takes 4 minutes of one core.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from cycler_da.bench.independent import independent_row
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.config import load_config
from cycler_da.cycle_plan import run_plan
from cycler_da.experiment import Experiment
from cycler_da.setting import build_setting
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.scores import score
from cycler_da.verification.sums import ScoreSums

CONFIG = Path("config/experiments/lorenz96_windows.yaml")
DAY = np.timedelta64(24, "h")
INFLATION = 1.06
WAYS: Mapping[str, tuple[str, ...]] = {
    "own times": (),
    "end of window": ("cycles.frames=null",),
    "every 6 h": ("cycles.frames=null", "cycles.every=6h", "observations.insitu.draw.every=null"),
}
METRICS = {"rmse": "RMSE", "fair_crps": "fair CRPS", "spread_skill": "spread/skill"}


@benchmark("observing_times", summary="observations of a window at their own times, at its end, or in cycles")
def observing_times(quick: bool, progress: Progress) -> BenchResult:
    """Run every way on every truth."""
    seeds, days, spin_up = ((5,), 8, 2) if quick else ((5, 7, 8), 60, 20)
    rows: list[Row] = []
    for done, (name, changes) in enumerate(WAYS.items()):
        progress(done, len(WAYS), name)
        found = [run_days(name, changes, seed, days=days, spin_up=spin_up) for seed in seeds]
        for metric, heading in METRICS.items():
            values = [score(sums, variable="u", metric=metric) for sums in found]
            rows.append(independent_row("Lorenz-96, windows of 24 h", name, heading, values))
    return BenchResult(
        name="observing_times",
        config={"file": str(CONFIG), "days": days, "spin-up days": spin_up},
        seeds=seeds,
        rows=tuple(rows),
        notes=("20 of 40 values every 6 h with error 1; 20 members; LETKF, half-width 5, inflation 1.06 a day.",),
    )


def run_days(name: str, changes: tuple[str, ...], seed: int, *, days: int, spin_up: int) -> ScoreSums:
    """Analysis sums at the end of all days after the spin-up."""
    per_day = 4 if name == "every 6 h" else 1
    with tempfile.TemporaryDirectory() as folder:
        shared = (
            f"root={folder}/runs",
            f"nature.path={folder}/nature.nc",
            f"nature.seed={seed}",
            f"nature.steps={4 * days}",
            f"observations.insitu.folder={folder}/observations",
            f"cycles.count={per_day * days}",
            f"chains.letkf.scheme.inflation={INFLATION ** (1 / per_day)}",
            "verification.spin_up=0",
        )
        with Experiment(build_setting(load_config(CONFIG, [*shared, *changes]))) as experiment:
            experiment.prepare()
            run_plan(experiment)
            store = experiment.store("letkf")
            ends = [experiment.setting.valid_times[0] + day * DAY for day in range(spin_up + 1, days + 1)]
            stored = [store.cycle_folder(end) / "diag" / "scores.json" for end in ends]
            return reduce(add, [ScoreSums.from_json(json.loads(path.read_text())["analysis"]) for path in stored])
