"""What if: an archived analysis made again from changed observations, and its difference from the archived one.

Background and noise keys are those of the archive (common random numbers): the difference is due to the
observations alone, and dropping nothing gives the archived analysis bit for bit. Into the output folder go

    analysis.nc      the what-if analysis, all members
    difference.nc    member by member: what-if minus archived; its mean is the difference of the means
    feedback/        every observation, the dropped ones with their reason
    report.json      what was changed and how much it moved

Limits: one cycle. What the difference grows to is seen by a run from another store.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import CannotWrite
from cycler_da.obs.base import Observations
from cycler_da.obs.qc import flag_counts
from cycler_da.products.atomic import refusals_explained
from cycler_da.products.dataset import open_nature, write_ensemble
from cycler_da.products.feedback import write_feedback
from cycler_da.replay.analysis import OpenAnalysis, open_analysis
from cycler_da.replay.change import Change, changed
from cycler_da.replay.shadow import ArchivedCycle
from cycler_da.schemes.window.hx import window_hx
from cycler_da.times import time_stamp

if TYPE_CHECKING:
    from torch import Tensor


def what_if(archived: ArchivedCycle, change: Change, out: Path, *, check: bool = True) -> dict[str, Any]:
    """Write the what-if analysis of a cycle into the empty or absent folder `out`; returns the report.

    With `check` the unchanged analysis is made first and must be the archived one. Raises ConfigError for a
    change that names nothing, CannotWrite when `out` holds files, and what `open_analysis` raises.
    """
    if out.is_dir() and any(out.iterdir()):
        raise CannotWrite(f"{out} is not empty; give another folder with --out, or remove it")
    with TemporaryDirectory(prefix="cycler-whatif-") as scratch, open_analysis(archived, Path(scratch)) as opened:
        observations = changed(opened.checked, change)
        if check:
            opened.require_same()
        analysis = opened.again(observations)
        report = _report(opened, change, observations, analysis)
        with refusals_explained(out):
            out.mkdir(parents=True, exist_ok=True)
            _write(opened, change, observations, analysis, out)
            (out / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return report


def _write(opened: OpenAnalysis, change: Change, observations: Observations, analysis: Ensemble, out: Path) -> None:
    title = f"WHAT IF {change.describe()}: {opened.archived.name}"
    facts = opened.work.facts("whatif", title=title, comment=f"not a product of the chain; {change.describe()}")
    write_ensemble(out / "analysis.nc", analysis, facts=facts)
    difference = analysis.with_values(analysis.values - opened.analysis.values)
    facts = opened.work.facts("whatif_difference", title=title, comment="what-if analysis minus archived analysis")
    write_ensemble(out / "difference.nc", difference, facts=facts)
    background = opened.work.setting.control.from_control(opened.work.background())
    write_feedback(
        out / "feedback",
        observations,
        background_hx=window_hx(background, observations),
        analysis_hx=window_hx(analysis, observations),
        facts=opened.work.facts("feedback", title=title),
    )


def _report(opened: OpenAnalysis, change: Change, observations: Observations, analysis: Ensemble) -> dict[str, Any]:
    before, after = opened.analysis.latest.to(torch.float64), analysis.latest.to(torch.float64)
    truth = _truth(opened)
    layout = analysis.layout
    return {
        "cycle": time_stamp(opened.archived.time),
        "chain": opened.archived.chain,
        "change": change.describe(),
        "counts": {name: count for name, count in flag_counts(observations).items() if count},
        "n_used_before": len(opened.checked.used()),
        "n_used": len(observations.used()),
        "is_same": bool(torch.equal(analysis.values, opened.analysis.values)),
        "variables": {
            name: _moved(before[:, i], after[:, i], None if truth is None else truth[i], layout.variables[i].units)
            for i, name in enumerate(layout.channels)
        },
    }


def _moved(before: Tensor, after: Tensor, truth: Tensor | None, units: str) -> dict[str, Any]:
    difference = after.mean(0) - before.mean(0)
    place = np.unravel_index(int(difference.abs().argmax()), difference.shape)
    moved: dict[str, Any] = {
        "units": units,
        "rms_difference": _rms(difference),
        "largest_difference": float(difference[place]),
        "largest_at_cell": [int(index) for index in place],
        "spread_before": _rms(before.std(0)),
        "spread": _rms(after.std(0)),
    }
    if truth is not None:
        moved |= {"rmse_before": _rms(before.mean(0) - truth), "rmse": _rms(after.mean(0) - truth)}
    return moved


def _truth(opened: OpenAnalysis) -> Tensor | None:
    path = opened.archived.folder / "diag" / "truth.nc"
    if not path.is_file():
        return None
    stored = open_nature(path, layout=opened.work.setting.layout)
    return stored.states(np.array([opened.archived.time]))[0].to(torch.float64)


def _rms(values: Tensor) -> float:
    known = values[torch.isfinite(values)]
    return float((known**2).mean().sqrt()) if len(known) else 0.0
