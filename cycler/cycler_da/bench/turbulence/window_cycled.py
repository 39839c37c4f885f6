"""Benchmark `window_cycled`: SDA, SOAD and PDEDiff in a cycling system of two-layer QG, beside filters.

The experiment `qg_soad` (arctan(3 x) of 5 % of the values every day, one analysis every four days) over several truths.
Every window begins at the analysis of the one before:

    coupled   members carried through the window are moved by its observations first, as the LETKF moves them, and the
              chain begins there (`schemes.window.coupling`); PDEDiff continues members whose first frames were moved
    waves     each member for itself, the background with the ensemble's covariance by waves (`window.background`)
    cells     every cell of it by itself, with one error variance for each variable
    noise     as waves, but the chain begins at noise, not at the members carried through the window (`window.guess`)

The LETKF sees the same observations of a window, each at its own time; `daily` filters analyse them every day. Radius
and inflation of every filter and coupling were searched on another truth (SOAD has those of SDA). All forecast with the
released one-step transition, which the windows' smoother has as well; one LETKF with the truth's own solver. Scores of
all analyses after the first eight days; intervals are over truths (n = 4: wide), differences are taken truth by truth.
About 45 minutes of processor time, which the cores share.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cycler_da.bench.in_processes import in_processes
from cycler_da.bench.independent import independent_row
from cycler_da.bench.pattern_search import Found, Point, pattern_search
from cycler_da.bench.registry import Progress, benchmark, no_progress
from cycler_da.bench.turbulence.qg_default import TRUE_MODEL, scores_of
from cycler_da.config import ExperimentConfig, load_config
from cycler_da.tables.report import BenchResult, Row

CONFIG = Path("config/experiments/qg_soad.yaml")
WINDOW = {"weights": "data/weights/two_layer_qg/window"}
#: Window schemes whose members go each for itself.
SCHEMES: Mapping[str, Mapping[str, Any]] = {
    "SDA, waves": {"kind": "sda", "start": "background", **WINDOW},
    "SDA, cells": {"kind": "sda", "start": "background", "background": "cells", **WINDOW},
    "SDA, waves, from noise": {"kind": "sda", "start": "noise", **WINDOW},
    "SOAD, waves": {"kind": "soad", "start": "background", **WINDOW},
    "PDEDiff": {"kind": "pdediff", **WINDOW},
}
SDA, SOAD, PDEDIFF = "SDA, coupled", "SOAD, coupled", "PDEDiff, coupled"
LETKF, DAILY_LETKF, TRUE_LETKF = "LETKF", "LETKF, daily", "LETKF, daily, true model"
INTERPOLANT = "interpolant filter, daily"
WINDOW_KINDS = ("sda", "soad", "pdediff")
DAYS = 4  # of a window
AXES = {"radius": (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0), "inflation": (1.02, 1.1, 1.2, 1.3, 1.4, 1.6, 2.0)}
BEGIN: Point = (2.0, 1.2)
TUNING_SEED = 6
#: What is searched: kind of scheme, and days between analyses.
SEARCHED: Mapping[str, tuple[str, int]] = {
    SDA: ("sda", DAYS),
    PDEDIFF: ("pdediff", DAYS),
    LETKF: ("letkf", DAYS),
    DAILY_LETKF: ("letkf", 1),
    INTERPOLANT: ("interpolant_filter", 1),
}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    seeds: tuple[int, ...] = (5, 7, 8, 9)
    count: int = 8
    spin_up: int = 2
    members: int = 8
    is_searched: bool = True
    schemes: tuple[str, ...] = tuple(SCHEMES)


FULL, QUICK = Size(), Size((5,), 2, 0, 4, is_searched=False, schemes=("SDA, waves",))


@benchmark("window_cycled", summary="SDA, SOAD and PDEDiff cycled on QG over several truths, beside tuned filters")
def window_cycled(quick: bool, progress: Progress) -> BenchResult:
    """Search the filters' options, then run all chains on every truth; each truth has a process."""
    size = QUICK if quick else FULL
    searches = {name: (kind, days, size) for name, (kind, days) in SEARCHED.items()}
    chosen = dict(zip(searches, in_processes(searched, searches, progress), strict=True))
    schemes = {name: local_scheme(SEARCHED[name][0], one.point) for name, one in chosen.items()}
    schemes |= {SOAD: local_scheme("soad", chosen[SDA].point), TRUE_LETKF: schemes[DAILY_LETKF]}
    windows = {**{name: SCHEMES[name] for name in size.schemes}, **{n: schemes[n] for n in (SDA, SOAD, PDEDIFF, LETKF)}}
    days = {name: schemes[name] for name in (DAILY_LETKF, TRUE_LETKF, INTERPOLANT)}
    found = in_processes(_one_truth, {f"truth {seed}": (size, seed, windows, days) for seed in size.seeds}, progress)
    values: dict[tuple[str, str, str], list[float]] = {}
    for rows in found:
        for row in rows:
            values.setdefault((row.case, row.method, row.metric), []).append(row.value)
    values |= differences(values)
    return BenchResult(
        "window_cycled",
        {
            "file": str(CONFIG),
            "members": size.members,
            "cycles": size.count,
            "spin_up": size.spin_up,
            "weights": WINDOW["weights"],
        },
        (*size.seeds, TUNING_SEED),
        tuple(independent_row(*key, some) for key, some in values.items()),
        (
            "Units: climatological standard deviations. Background: the forecast of four days, daily of one.",
            f"minus {LETKF}: differences of the fair CRPS of analyses on the same truth.",
            *(f"{name}: {words(one)}" for name, one in chosen.items()),
        ),
    )


def words(option: Found) -> str:
    """What was chosen, of how many, and what the search could not see beyond."""
    radius, inflation = option.point
    tried = f"best of {option.n_scored}{option.ends}" if option.n_scored else "not searched"
    return f"radius {radius:g} cells, inflation {inflation:g} ({tried})"


def differences(values: Mapping[tuple[str, str, str], list[float]]) -> dict[tuple[str, str, str], list[float]]:
    """Fair CRPS of every analysis minus that of the LETKF, truth by truth."""
    reference = values["analysis", LETKF, "fair_crps"]
    return {
        ("analysis", method, f"fair_crps minus {LETKF}"): [a - b for a, b in zip(found, reference, strict=True)]
        for (case, method, metric), found in values.items()
        if case == "analysis" and metric == "fair_crps" and method != LETKF
    }


def searched(kind: str, days: int, size: Size) -> Found:
    """Radius and inflation with the least fair CRPS on a truth that is not reported."""
    torch.set_num_threads(1)
    if not size.is_searched:
        return Found(BEGIN, float("nan"), 0, ())

    def crps(point: Point) -> float:
        chains: list[Mapping[str, Any]] = [{}, {}]
        chains[days == 1] = {kind: local_scheme(kind, point)}
        rows = _one_truth(size, TUNING_SEED, *chains)
        return next(row.value for row in rows if (row.case, row.method, row.metric) == ("analysis", kind, "fair_crps"))

    return pattern_search(AXES, BEGIN, crps)


def _one_truth(
    size: Size, seed: int, windows: Mapping[str, Mapping[str, Any]], days: Mapping[str, Mapping[str, Any]]
) -> list[Row]:
    """Closing rows of schemes with a window and of daily ones on one truth, by their names in the table."""
    torch.set_num_threads(1)
    rows = list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        for schemes, length in ((windows, DAYS), (days, 1)):
            if not schemes:
                continue
            names = dict(zip(_chain_names(schemes), schemes, strict=True))
            config = closing_config(schemes, size, folder, seed=seed, days=length)
            for row in scores_of(config, no_progress):
                if row.method in names:  # persistence is none of them
                    rows.append(Row(row.case, names[row.method], row.metric, row.value))
    return rows


def closing_config(
    schemes: Mapping[str, Mapping[str, Any]], size: Size, folder: str, *, seed: int, days: int
) -> ExperimentConfig:
    """The experiment of some schemes on one truth, with an analysis every few days; a chain for each."""
    described = load_config(CONFIG, _changes(size, folder, seed, days)).resolved()
    described["chains"] = [
        {"name": chain, "scheme": dict(scheme)} | ({"forecast": TRUE_MODEL} if name == TRUE_LETKF else {})
        for chain, (name, scheme) in zip(_chain_names(schemes), schemes.items(), strict=True)
    ]
    return ExperimentConfig.model_validate(described)


def _chain_names(schemes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"chain_{i}" for i in range(len(schemes))]


def _changes(size: Size, folder: str, seed: int, days: int) -> list[str]:
    return [
        f"root={folder}/runs_{days}",
        f"nature.path={folder}/nature.nc",
        f"nature.seed={seed}",
        f"nature.steps={DAYS * size.count}",
        f"observations.upper.folder={folder}/obs_{days}",
        f"observations.lower.folder={folder}/obs_{days}",
        f"observations.upper.draw.seed={seed}",
        f"observations.lower.draw.seed={seed + 100}",
        f"seed={2020 + seed}",
        f"cycles.count={size.count * DAYS // days}",
        f"cycles.every={24 * days}h",
        *(["cycles.frames=null"] if days == 1 else []),
        f"ensemble.members={size.members}",
        f"ensemble.batch={size.members}",
        f"verification.spin_up={size.spin_up * DAYS // days}",
        "executor={kind: serial}",
        "plots=false",
    ]


def local_scheme(kind: str, point: Point) -> dict[str, Any]:
    """A filter with localized weights, or a window scheme whose members are coupled by such."""
    radius, inflation = point
    options = {"localization_radius_cells": radius, "weight_stride": 2, "inflation": inflation}
    return {"kind": kind, **WINDOW, "coupling": options} if kind in WINDOW_KINDS else {"kind": kind, **options}
