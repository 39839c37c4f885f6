"""Calibration of a cycle: what it adds to the trailing window, what the window says, and whether that changed.

diag/window.json.gz      the window of sums, this cycle last; the next cycle goes on from it
diag/calibration.json    final numbers of that window, for the page and for monitoring
/calibration             in background.nc and analysis.nc: the window of the cycles before this one
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cycler_da.cycle.fallback import FULL
from cycler_da.cycle.trailing_window import WINDOW
from cycler_da.cycle.unseen import assimilated_sums, unseen_sums, with_flags, withheld_fit
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.obs.base import QC, Observations
from cycler_da.obs.qc_stream import fits_to_background
from cycler_da.obs.qc_table import make_table
from cycler_da.products.calibration import GroupCalibration, append_calibration
from cycler_da.schemes.window.hx import window_hx
from cycler_da.times import time_stamp
from cycler_da.verification.calibration import CalibrationSums, calibrations, chi_squares, squared_spreads
from cycler_da.verification.drift import SPREAD_MATTERS, drift
from cycler_da.verification.innovations import innovation_scores
from cycler_da.verification.window import CycleCalibration, pack

SAMPLES = {
    "background": "all accepted observations of each cycle: the background has seen none of them",
    "analysis": "withheld observations: the analysis has not seen them",
}


def put_passport(work: CycleWork, path: Path, kind: str) -> None:
    """Write the group `/calibration` into an ensemble file of the cycle, from the cycles before it."""
    window = work.window
    span = f"{window[0].stamp} to {window[-1].stamp}, {len(window)} cycles" if window else "no cycle yet"
    groups = calibrations([_sums(cycle, kind) for cycle in window])
    append_calibration(path, groups, window=span, sample=SAMPLES[kind])


def calibrate_cycle(work: CycleWork) -> Facts:
    """Add this cycle to the window, write it, and return what the summary shows."""
    if work.is_start:
        return {}
    checked = work.checked()
    window = (*work.window, _this_cycle(work, checked))[-work.setting.config.verification.window :]
    (work.folder / WINDOW).parent.mkdir(exist_ok=True)
    (work.folder / WINDOW).write_bytes(pack(window))
    content = _numbers(window)
    work.write_json("diag/calibration.json", content)
    return {"calibration": _short(content), "alerts": content["alerts"]}


def drift_alerts(window: Sequence[CycleCalibration]) -> list[str]:
    """Streams whose innovations no longer fit spread and error as they did, or whose spread changed, in words."""
    sums = [cycle.background for cycle in window]
    names = sorted({group.partition("/")[0] for one in sums for group in one.scores})
    fits = [(name, drift(chi_squares(sums, name))) for name in names]
    spreads = [(name, drift(squared_spreads(sums, name), matters=SPREAD_MATTERS)) for name in names]
    return [
        *(one.describe(name) for name, one in fits if one is not None and one.is_flagged),
        *(one.describe_spread(name) for name, one in spreads if one is not None and one.is_flagged),
    ]


def _this_cycle(work: CycleWork, checked: Observations) -> CycleCalibration:
    background, analysis = work.background(), work.analysis()
    physical = work.setting.control.from_control(background)
    reached = with_flags(checked, (QC.USED, QC.PASSIVE, QC.FIRST_GUESS, QC.THINNED))
    table = make_table(reached, window_hx(physical, reached))
    kept = {stream for stream in set(table.stream.tolist()) if stream not in work.set_aside(checked)}
    fits = fits_to_background(table, torch.ones(len(table), dtype=torch.bool).numpy())
    fits_after = withheld_fit(work, checked, analysis, background=background)
    return CycleCalibration(
        stamp=time_stamp(work.time),
        background=unseen_sums(work, checked, background, "background"),
        analysis=unseen_sums(work, checked, analysis, "analysis"),
        assimilated=assimilated_sums(work, checked, background, analysis),
        deviation={name: one.deviation for name, one in fits.items() if name.partition("/")[0] in kept},
        analysis_deviation={s: one.deviation for s, one in fits_after.items() if one.n_obs},
        error_factor=work.error_factors,
        is_full_scheme=work.done_facts("assimilate").get("rung", FULL) == FULL,
    )


def _numbers(window: Sequence[CycleCalibration]) -> dict[str, Any]:
    merged = window[0].assimilated
    for cycle in window[1:]:
        merged = merged + cycle.assimilated
    return {
        "first": window[0].stamp,
        "last": window[-1].stamp,
        "n_cycles": len(window),
        "samples": SAMPLES,
        **{kind: [_plain(one) for one in calibrations([_sums(c, kind) for c in window])] for kind in SAMPLES},
        "assimilated": {group: _finite(scores) for group, scores in innovation_scores(merged).items()},
        "error_factor": _finite(dict(window[-1].error_factor)),
        "deviation": _finite(window[-1].deviation),
        "analysis_deviation": _finite(window[-1].analysis_deviation),
        "alerts": drift_alerts(window),
    }


def _sums(cycle: CycleCalibration, kind: str) -> CalibrationSums:
    return cycle.background if kind == "background" else cycle.analysis


def _short(content: dict[str, Any]) -> dict[str, Any]:
    """Coverage of the 90 % interval and chi-square by kind and group, for the summary."""
    return {
        kind: {
            one["name"]: {"coverage_90": one["coverage"][-1][0], "chi_square": one["chi_square"][0]}
            for one in content[kind]
        }
        for kind in SAMPLES
    }


def _plain(one: GroupCalibration) -> dict[str, Any]:
    plain: dict[str, Any] = _finite(dataclasses.asdict(one))
    return plain


def _finite(value: Any) -> Any:
    """The same nest with null for what is not finite."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
