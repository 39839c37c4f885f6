"""Benchmark `soad_grid`: SOAD's tables of settings I and II by sensor, sparse to dense, often to seldom.

Beside `soad_settings`, which has one cell of each setting with all methods: here are three methods and the trivial
answers in the corners of the published grid, on 64 x 64 points,

    sensors    arctan(3 x), 1.5 sin(3 x), "vorticity to velocity" as published
    part       1, 6.25 and 25 % of the cells (velocities 1 and 6.25 %: four values a cell)
    interval   every day, and the first and last of the nine days alone

    SOAD                corrected; in setting I from the background carried through the window, and called so
    interpolant filter  the learned model, radius and inflation of the next row, two passes
    LETKF               the true model, radius, inflation and linearisation searched in every cell on other windows

Scores as in `soad_settings`. The printed RMSE (256 x 256, all nine frames of five windows, one sample) stands beside
them: truths there change twice as much in a day. Seconds are for one window and member. About 30 minutes of processor
time, which the cores share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from cycler_da.bench.in_processes import rows_and_notes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import SEED, WEIGHTS, answered, drawn, require_weights, seen_of, trivial
from cycler_da.bench.turbulence.soad_settings_cases import Case, Window, make_truths, seen_windows
from cycler_da.bench.turbulence.soad_settings_filters import MEMBERS, filtered, tune
from cycler_da.bench.turbulence.soad_settings_scores import Method, rows_of_all
from cycler_da.bench.turbulence.soad_settings_windows import SAMPLER, WindowMethods
from cycler_da.tables.report import BenchResult, Row

PARTS, INTERVALS = (0.01, 0.0625, 0.25), (1, 8)
#: Printed RMSE of setting, sensor and part, for every day and for the first and last day.
PRINTED = {
    ("I", "arctan"): ((0.2076, 0.2217), (0.1461, 0.1798), (0.1100, 0.1412)),
    ("I", "sine"): ((0.3258, 0.3322), (0.1823, 0.2540), (0.1072, 0.1742)),
    ("I", "velocity"): ((0.1681, 0.1847), (0.1414, 0.1665)),
    ("II", "arctan"): ((0.891, 1.045), (0.407, 0.593), (0.228, 0.385)),
    ("II", "sine"): ((1.436, 1.551), (1.168, 1.416), (0.528, 1.137)),
    ("II", "velocity"): ((0.493, 0.685), (0.253, 0.398)),
}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 4
    n_steps: int = 8
    years: float = 1.5
    kinds: tuple[tuple[str, str], ...] = tuple(PRINTED)
    is_searched: bool = True


FULL, QUICK = Size(), Size(windows=1, n_steps=2, years=0.1, kinds=(("I", "arctan"),), is_searched=False)


@benchmark("soad_grid", summary="SOAD's tables I and II by sensor, part and interval: SOAD, interpolant filter, LETKF")
def soad_grid(quick: bool, progress: Progress) -> BenchResult:
    """Run the methods in every cell; each sensor of a setting has a process."""
    size = QUICK if quick else FULL
    require_weights()
    kinds = {", ".join(kind): (*kind, size) for kind in size.kinds}
    rows, notes = rows_and_notes(run_kind, kinds, progress)
    config = {
        "windows": size.windows,
        "members": f"SOAD 2, filters {MEMBERS[True]} in setting I and {MEMBERS[False]} in II",
        "SOAD": f"{size.n_steps} steps, {SAMPLER}",
        "weights": str(WEIGHTS),
    }
    return BenchResult("soad_grid", config, (SEED, 98, 4711, 4712), tuple(rows), (*NOTES, *notes))


NOTES = (
    "printed: SOAD's own tables at 256 x 256, mean of five windows; a day changes fields there by .153, here by .075.",
    "The RMSE of the mean is that of two members for SOAD and of 16 or 32 for filters: compare CRPS. Filters know only "
    "past observations.",
)


def cells_of(setting: str, sensor: str) -> list[tuple[Case, float]]:
    """Cells of the grid with the printed RMSE of each."""
    printed = PRINTED[setting, sensor]
    return [
        (Case(setting, (sensor,), part, interval), rmse)
        for (part, row) in zip(PARTS, printed, strict=False)
        for interval, rmse in zip(INTERVALS, row, strict=True)
    ]


def run_kind(setting: str, sensor: str, size: Size) -> tuple[list[Row], list[str]]:
    """Rows of all cells of a sensor, and what there is to tell."""
    torch.set_num_threads(1)
    rows, notes = list[Row](), list[str]()
    truths = make_truths(size.windows, size.years, seed=4711)
    windows = WindowMethods(WEIGHTS, size.n_steps, size.n_steps)
    for case, printed in cells_of(setting, sensor):
        each = seen_windows(case, truths, SEED)
        found, words = methods(case, windows, each, size)
        notes.append(f"{case.label}: {words}")
        of_case, told = rows_of_all(case.label, found, truths)
        rows += of_case
        notes += told
        rows.append(Row(case.label, "SOAD, printed, 256 x 256", "RMSE of a member", printed))
    return rows, notes


def methods(case: Case, windows: WindowMethods, each: Sequence[Window], size: Size) -> tuple[dict[str, Method], str]:
    """Methods of a cell, and words on the options of its filters."""
    tuned = tune(case, years=size.years, is_searched=size.is_searched, searches_interpolant=False)
    answers = trivial(case.has_background)
    name = "true-model forecast of the background" if case.has_background else "draws from climatology"
    soad, draw = "SOAD, corrected", windows.soad
    if case.has_background:
        soad, draw = "SOAD, from the background", windows.soad_from_background
    letkf, ours = tuned.letkf_spec, tuned.interpolant_spec
    return {
        name: partial(answered, answers[name], list(each)),
        soad: partial(drawn, windows, draw, seen_of(case, each), 2),
        "interpolant filter, learned model": partial(filtered, ours, letkf, "learned", case, each),
        "LETKF, true model": partial(filtered, letkf, letkf, "true", case, each),
    }, tuned.words()
