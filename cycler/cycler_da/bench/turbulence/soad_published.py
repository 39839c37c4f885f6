"""Benchmark `soad_published`: SOAD as published beside SOAD corrected without a background, settings II and III.

`soad_settings` has Algorithm 1 in setting I alone, for it takes fifty times the passes of SOAD corrected. Here are
all cases without a background, and a sine alone in a quarter of the cells every day, of which SOAD's paper makes most;
the same windows of truth, observations and weights:

    SOAD, Algorithm 1    the published likelihood, clip, Langevin moves with a stale score, forward-diffusion corrector
                         of observed entries, 256 steps; one member of every window
    SOAD, corrected      as in `soad_settings`, one member of every window
    SOAD, learned relation    corrected, with states and fields tied as was learned over the climate; without velocities
    zero                 the climatological mean

All of it has the released weights, whose score is that of the smoother of the learned transition, not of a network of
the paper's: what is compared is the algorithm. Velocities are seen through their own operator, which is linear: they
are no fields of the weights, so that Algorithm 1 has them in its likelihood and does not replace them.
Twenty windows. RMSE is that of one member, as published; the printed ones (256 x 256) are of setting II; for setting
III the paper prints no numbers. About 110 minutes of processor time, which the cores share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cycler_da.bench.in_processes import rows_and_notes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import SEED, WEIGHTS, answered, drawn, require_weights, seen_of, trivial
from cycler_da.bench.turbulence.soad_settings_cases import CASES, Case, make_truths, seen_windows
from cycler_da.bench.turbulence.soad_settings_scores import rows_of_all
from cycler_da.bench.turbulence.soad_settings_windows import SAMPLER, WindowMethods
from cycler_da.tables.report import BenchResult, Row

#: A sine alone, without a background.
SINE = Case("II", ("sine",), 0.25, 1)
#: Printed RMSE of Algorithm 1.
PRINTED = {CASES[1]: 0.470, SINE: 0.528}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 20
    n_steps: int = 8
    published_steps: int = 256
    years: float = 1.5
    cases: tuple[Case, ...] = (SINE, *(case for case in CASES if not case.has_background))


FULL, QUICK = Size(), Size(windows=1, n_steps=2, published_steps=2, years=0.1, cases=(CASES[1],))


@benchmark("soad_published", summary="SOAD as published and corrected without a background, settings II and III")
def soad_published(quick: bool, progress: Progress) -> BenchResult:
    """Run all in every case; each case has a process."""
    size = QUICK if quick else FULL
    require_weights()
    parts = {case.label: (case, size) for case in size.cases}
    rows, notes = rows_and_notes(run_case, parts, progress)
    config = {
        "windows": size.windows,
        "Algorithm 1": f"{size.published_steps} steps",
        "corrected": f"{size.n_steps} steps, {SAMPLER}",
        "weights": str(WEIGHTS),
    }
    notes[:0] = NOTES
    return BenchResult("soad_published", config, (SEED, 4711), tuple(rows), tuple(notes))


NOTES = (
    "The published tables are at 256 x 256. A day changes fields here by .075, theirs by .153.",
    "All have the score of the released weights: the smoother of the learned transition, no network of the paper's.",
    "Velocities are no fields of the weights: Algorithm 1 has them in its likelihood and does not replace them.",
)


def run_case(case: Case, size: Size) -> tuple[list[Row], list[str]]:
    """Rows of a case, and what there is to tell."""
    torch.set_num_threads(1)
    truths = make_truths(size.windows, size.years, seed=4711)
    each = seen_windows(case, truths, SEED)
    windows, seen = WindowMethods(WEIGHTS, size.n_steps, size.published_steps), seen_of(case, each)
    zero = trivial(case.has_background)["zero"]
    found = {
        "zero": lambda: answered(zero, each),
        f"SOAD, Algorithm 1 in {size.published_steps} steps": lambda: drawn(windows, windows.soad_published, seen, 1),
        "SOAD, corrected": lambda: drawn(windows, windows.soad, seen, 1),
    }
    if not case.sees_velocity:
        found["SOAD, learned relation"] = lambda: drawn(windows, windows.soad_learned, seen, 1)
    rows, notes = rows_of_all(case.label, found, truths)
    if case in PRINTED:
        rows.append(Row(case.label, "SOAD, printed, 256 x 256", "RMSE of a member", PRINTED[case]))
    return rows, notes
