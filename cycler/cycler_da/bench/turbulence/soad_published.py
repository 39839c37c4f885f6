"""Benchmark `soad_published`: SOAD as published beside SOAD corrected without a background, settings II and III.

`soad_settings` has Algorithm 1 in setting I alone, for it takes fifty times the passes of SOAD corrected. Here are
all cases without a background, on the first windows of the same truths with the same observations and weights:

    SOAD, Algorithm 1    the published likelihood, clip, Langevin moves with a stale score, forward-diffusion corrector
                         of observed entries, 256 steps; one member of every window
    SOAD, corrected      as in `soad_settings`, one member of every window
    zero                 the climatological mean

RMSE is that of one member, as published; the printed one (256 x 256) is of arctan(3 x) in 6.25 % of the cells every
other day; for setting III the paper prints no numbers. Velocities are seen through
their own operator, which is linear. About 20 minutes of processor time, which the cores share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cycler_da.bench.in_processes import rows_and_notes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import (
    WEIGHTS,
    answered,
    drawn,
    require_weights,
    rows_or_failure,
    seen_of,
    trivial,
)
from cycler_da.bench.turbulence.soad_settings_cases import CASES, Case, make_truths, observe
from cycler_da.bench.turbulence.soad_settings_windows import SAMPLER, WindowMethods
from cycler_da.noise import Noise
from cycler_da.tables.report import BenchResult, Row

#: Printed RMSE of Algorithm 1 in setting II, arctan(3 x), 6.25 % of the cells every other day.
PRINTED = 0.470


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 4
    n_steps: int = 8
    published_steps: int = 256
    years: float = 1.5
    cases: tuple[Case, ...] = tuple(case for case in CASES if not case.has_background)


FULL, QUICK = Size(), Size(windows=1, n_steps=2, published_steps=2, years=0.1, cases=(CASES[1],))


@benchmark("soad_published", summary="SOAD as published and corrected without a background, settings II and III")
def soad_published(quick: bool, progress: Progress) -> BenchResult:
    """Run both in every case; each case has a process."""
    size = QUICK if quick else FULL
    require_weights()
    parts = {case.label: (case, size) for case in size.cases}
    rows, notes = rows_and_notes(run_case, parts, progress, last_first=True)  # those with velocities take longest
    config = {
        "windows": size.windows,
        "Algorithm 1": f"{size.published_steps} steps",
        "corrected": f"{size.n_steps} steps, {SAMPLER}",
        "weights": str(WEIGHTS),
    }
    notes.insert(0, "The published tables are at 256 x 256. A day changes fields here by .075, theirs by .153.")
    return BenchResult("soad_published", config, (99, 4711), tuple(rows), tuple(notes))


def run_case(case: Case, size: Size) -> tuple[list[Row], list[str]]:
    """Rows of a case, and what there is to tell."""
    torch.set_num_threads(1)
    truths = make_truths(size.windows, size.years, seed=4711)
    noises = [Noise(99, i) for i in range(size.windows)]
    each = [(truth, observe(case, truth, noise), noise) for truth, noise in zip(truths, noises, strict=True)]
    windows, seen = WindowMethods(WEIGHTS, size.n_steps, size.published_steps), seen_of(case, each)
    zero = trivial(case.has_background)["zero"]
    found = {
        "zero": lambda: answered(zero, each),
        f"SOAD, Algorithm 1 in {size.published_steps} steps": lambda: drawn(windows, windows.soad_published, seen, 1),
        "SOAD, corrected": lambda: drawn(windows, windows.soad, seen, 1),
    }
    rows, notes = list[Row](), list[str]()
    for name, method in found.items():
        of_method, told = rows_or_failure(case.label, name, method, truths)
        rows += of_method
        notes += told
    if case == CASES[1]:
        rows.append(Row(case.label, "SOAD, printed, 256 x 256", "RMSE of a member", PRINTED))
    return rows, notes
