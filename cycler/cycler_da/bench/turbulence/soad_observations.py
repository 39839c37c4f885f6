"""Benchmark `soad_observations`: how often, where and with which errors two-layer QG is seen, by scheme.

`soad_settings` sees a random 6 % of the cells every other day with Gaussian errors. Here, arctan(3 x) with a known
background (I) and without one (II), one thing at a time is another:

    every 1, 2, 4 or 8 days       the last two: three frames of nine, and two
    an even part of the cells     every fourth one along both axes
    errors                        laplace, uniform, lognormal with s = 0.5 (`obs.error_laws`), of the same variance

No scheme is told the law: all take errors for Gaussian. Window schemes as in `soad_settings`, two members of every
window, from the background in I; filters have the options that were searched with the first case of each setting.
Four windows; CRPS is fair, over members. About 20 minutes of processor time, which the cores share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from cycler_da.bench.in_processes import rows_and_notes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import SEED, WEIGHTS, drawn, require_weights, seen_of
from cycler_da.bench.turbulence.soad_settings_cases import Case, Window, make_truths, seen_windows
from cycler_da.bench.turbulence.soad_settings_filters import MEMBERS, Tuned, filtered, tune
from cycler_da.bench.turbulence.soad_settings_scores import Method, rows_of_all
from cycler_da.bench.turbulence.soad_settings_windows import SAMPLER, WindowMethods
from cycler_da.obs.error_laws import ErrorLaw
from cycler_da.tables.report import BenchResult, Row

PART = 0.0625


def cases_of(setting: str) -> tuple[Case, ...]:
    """The usual case of a setting, and those in which one thing is another."""
    usual = Case(setting, ("arctan",), PART, 2)
    return (
        usual,
        *(replace(usual, interval=interval) for interval in (1, 4, 8)),
        replace(usual, is_even=True),
        *(replace(usual, law=ErrorLaw(name)) for name in ("laplace", "uniform", "lognormal")),
    )


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 4
    n_steps: int = 8
    years: float = 1.5
    settings: tuple[str, ...] = ("I", "II")
    n_cases: int = len(cases_of("I"))
    is_searched: bool = True


FULL, QUICK = Size(), Size(windows=1, n_steps=2, years=0.1, settings=("I",), n_cases=2, is_searched=False)


@benchmark(
    "soad_observations", summary="Intervals, even cells and laws of errors on QG 64x64: SOAD, SDA, PDEDiff, filters"
)
def soad_observations(quick: bool, progress: Progress) -> BenchResult:
    """Run the schemes in every case; each setting has a process."""
    size = QUICK if quick else FULL
    require_weights()
    rows, notes = rows_and_notes(run_setting, {name: (name, size) for name in size.settings}, progress)
    config = {
        "windows": size.windows,
        "members": f"window schemes 2, filters {MEMBERS[True]} in setting I and {MEMBERS[False]} in II",
        "window schemes": f"{size.n_steps} steps, {SAMPLER}",
        "weights": str(WEIGHTS),
    }
    return BenchResult("soad_observations", config, (SEED, 98, 4711, 4712), tuple(rows), tuple(notes))


def run_setting(setting: str, size: Size) -> tuple[list[Row], list[str]]:
    """Rows of all cases of a setting, and what there is to tell."""
    torch.set_num_threads(1)
    cases = cases_of(setting)[: size.n_cases]
    truths = make_truths(size.windows, size.years, seed=4711)
    windows = WindowMethods(WEIGHTS, size.n_steps, size.n_steps)
    tuned = tune(cases[0], years=size.years, is_searched=size.is_searched)
    rows, notes = list[Row](), [f"Options searched with {cases[0].label}: {tuned.words()}"]
    for case in cases:
        each = seen_windows(case, truths, SEED)
        of_case, told = rows_of_all(case.label, methods(case, windows, each, tuned), truths)
        rows += of_case
        notes += told
    return rows, notes


def methods(case: Case, windows: WindowMethods, each: Sequence[Window], tuned: Tuned) -> dict[str, Method]:
    """The schemes of the table."""
    draws = {"SOAD, corrected": windows.soad, "SDA, C_t of every wave": windows.sda}
    if case.has_background:
        draws = {
            "SOAD, from the background": windows.soad_from_background,
            "SDA, from the background": windows.sda_from_background,
        }
    draws |= {"PDEDiff": windows.pdediff}
    letkf, ours = tuned.letkf_spec, tuned.interpolant_spec
    return {
        **{name: partial(drawn, windows, draw, seen_of(case, each), 2) for name, draw in draws.items()},
        "interpolant filter, learned model": partial(filtered, ours, letkf, "learned", case, each),
        "LETKF, true model": partial(filtered, letkf, letkf, "true", case, each),
    }
