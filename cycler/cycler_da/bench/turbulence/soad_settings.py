"""Benchmark `soad_settings`: SOAD's settings I, II, III on two-layer QG beside filters and trivial answers.

Every method gets the same windows, backgrounds and observations (`soad_settings_cases`). Window schemes use the
released window weights, in which the released transition smooths windows; filters cycle daily from the background (I)
or from climatology (II, III) with the same transition, and know only past observations.

    trivial      true-model forecast of the background, background held constant, the true first frame held; zero and
                 draws from climatology
    window       SOAD corrected and Algorithm 1 as published, 256 steps; SDA (C_t of every wave; gamma as published),
                 PDEDiff; SDA with the Gaussian of the same weights, without the transition: what the transition adds;
                 SOAD and SDA that begin at the background, carried through the window, instead of at noise
                 (`start: background`); SOAD with its learned relation of state and field, and SDA with tangents in
                 place of mean slopes of the curves (decision 0042)
    filters      LETKF with the learned and the true model, interpolant filter with the learned model, tuned on other
                 windows (`soad_settings_filters`) in I, in II, in III without velocities, and in III with them

RMSE as published: of each frame over both layers in climatological deviations, then the mean over frames and windows;
of one member (their protocol: a sample of the posterior) and of the ensemble mean. CRPS is fair, over members.
Intervals are over windows: 20, but 8, with one member, for what is there for comparison alone (n of the table). Window
schemes draw two members for every window: their mean is of two, a filter's of all. SDA, SOAD and PDEDiff have the same
sampler (`redrawn`), and all the score of the released weights, the smoother of the learned transition: Algorithm 1 is
the paper's, its network is not. In setting III velocities are seen through the operator as published
(`obs.layer_velocity`), which is linear: SOAD's weights have no field for it and need none. It is not local, though, and
the system of the likelihood takes hundreds of iterations. Algorithm 1 is run in setting I. Passes are steps of the
transition for one window and member (a backward pass is counted as two more); seconds are of this process for one
window and member, windows together. Costs about 100 minutes of processor time, which the cores share; `--quick` has two
windows, two steps and one case, and nothing tuned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.in_processes import rows_and_notes
from cycler_da.bench.passes import Passes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings_cases import (
    CASES,
    FRAMES,
    Case,
    Window,
    background,
    make_truths,
    physical_to_scaled,
    seen_windows,
)
from cycler_da.bench.turbulence.soad_settings_filters import LEARNED, MEMBERS, Tuned, filtered, start, tune
from cycler_da.bench.turbulence.soad_settings_scores import Method, Tried, rows_of_all
from cycler_da.bench.turbulence.soad_settings_windows import PLAIN, SAMPLER, Drawn, Seen, WindowMethods
from cycler_da.errors import MissingInput
from cycler_da.noise import Noise
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = Path("data/weights/two_layer_qg/window")
#: Of observations and draws.
SEED = 99
#: Draws from climatology, for their CRPS.
DRAWS = 16


@dataclass(frozen=True)
class Size:
    """How much is done; fewer windows than all are the first ones."""

    windows: int = 20
    few_windows: int = 8  # of comparisons, with one member
    n_steps: int = 8
    published_steps: int = 256
    years: float = 1.5
    cases: tuple[Case, ...] = CASES
    is_searched: bool = True


FULL = Size()
QUICK = Size(
    windows=2,
    few_windows=1,
    n_steps=2,
    published_steps=2,
    years=0.1,
    cases=(CASES[0],),
    is_searched=False,
)


@benchmark(
    "soad_settings", summary="SOAD's settings I-III on QG 64x64: score-based schemes, filters and trivial baselines"
)
def soad_settings(quick: bool, progress: Progress) -> BenchResult:
    """Run every method on all windows of every case; cases that share a search of options have a process."""
    size = QUICK if quick else FULL
    require_weights()
    kinds: dict[tuple[str, bool], list[Case]] = {}
    for case in size.cases:
        kinds.setdefault((case.setting, case.sees_velocity), []).append(case)
    parts = {", ".join(case.label for case in cases): (cases, size) for cases in kinds.values()}
    rows, notes = rows_and_notes(run_kind, parts, progress, last_first=True)  # which has most cases
    config = {
        "windows": f"{size.windows}, of some rows {size.few_windows}: n",
        "n_steps": size.n_steps,
        "sampler": f"{SAMPLER} for SDA, SOAD and PDEDiff alike; {PLAIN} in {2 * size.n_steps} steps for gamma .1",
        "Algorithm 1": f"{size.published_steps} steps",
        "members of filters": f"{MEMBERS[True]} in setting I, {MEMBERS[False]} in II and III",
        "weights": str(WEIGHTS),
    }
    return BenchResult("soad_settings", config, (SEED, 98, 4711, 4712), tuple(rows), (*NOTES, *notes))


def run_kind(cases: Sequence[Case], size: Size) -> tuple[list[Row], list[str]]:
    """Rows of some cases with one search of options, in the first of them, and what there is to tell."""
    torch.set_num_threads(1)
    rows, notes = list[Row](), list[str]()
    truths = make_truths(size.windows, size.years, seed=4711)
    windows = WindowMethods(WEIGHTS, size.n_steps, size.published_steps)
    tuned = tune(cases[0], years=size.years, is_searched=size.is_searched)
    notes.append(f"Options searched with {cases[0].label}: {tuned.words()}")
    for case in cases:
        each = seen_windows(case, truths, SEED)
        of_case, told = rows_of_all(case.label, methods(case, size, windows, each, tuned), truths)
        rows += of_case
        notes += told
    return rows, notes


def require_weights() -> None:
    """Raise MissingInput outside a checkout."""
    for folder in (WEIGHTS, LEARNED):
        if not folder.is_dir():
            raise MissingInput(
                f"no weights in {folder}; run from the repository root, or train them with `cycler train`"
            )


NOTES = (
    "The published tables are at 256 x 256, one window of truth. A day changes fields here by .075, theirs by .153.",
    "The true-model forecast knows the equations, which the learned methods do not.",
    "Filters know only past observations, window schemes all nine days; both have the same learned transition.",
)


def methods(case: Case, size: Size, windows: WindowMethods, each: list[Window], tuned: Tuned) -> dict[str, Method]:
    """All methods of a case, in the order of the table."""
    found: dict[str, Method] = {}
    for name, answer in trivial(case.has_background).items():
        found[name] = partial(answered, answer, each)
    for name, (draw, n_windows, n_members) in window_methods(case, size, windows).items():
        found[name] = partial(drawn, windows, draw, seen_of(case, each[:n_windows]), n_members)
    for name, (spec, model) in filters(tuned).items():
        found[name] = partial(filtered, spec, tuned.letkf_spec, model, case, each)
    return found


def filters(tuned: Tuned) -> dict[str, tuple[LetkfSpec | InterpolantFilterSpec, str]]:
    """Filters: scheme and forecast model."""
    return {
        "LETKF, learned model": (tuned.letkf_spec, "learned"),
        "LETKF, true model": (tuned.letkf_spec, "true"),
        "interpolant filter, learned model": (tuned.interpolant_spec, "learned"),
    }


def window_methods(case: Case, size: Size, windows: WindowMethods) -> dict[str, tuple[Drawn, int, int]]:
    """Window schemes of a case, each with its numbers of windows and of members."""
    whole, few = (size.windows, 2), (size.few_windows, 1)
    found: dict[str, tuple[Drawn, int, int]] = {
        "SOAD, corrected": (windows.soad, *whole),
        "SDA, C_t of every wave": (windows.sda, *whole),
        "PDEDiff": (windows.pdediff, *whole),
    }
    if not case.sees_velocity:
        found["SOAD, learned relation"] = (windows.soad_learned, *few)
        found["SDA, tangents"] = (windows.sda_tangents, *few)
    if not case.has_background:
        return found
    return found | {
        "SOAD, from the background": (windows.soad_from_background, *whole),
        "SDA, from the background": (windows.sda_from_background, *whole),
        f"SOAD, Algorithm 1 in {size.published_steps} steps": (windows.soad_published, *whole),
        "SDA, gamma .1": (windows.sda_gamma, *whole),
        "SDA, Gaussian alone": (windows.sda_gaussian, *whole),
    }


def seen_of(case: Case, each: Sequence[Window]) -> Seen:
    """What window schemes are told of some windows."""
    known = None
    if case.has_background:
        known = torch.stack([physical_to_scaled(background(truth, noise)) for truth, _, noise in each])
    return Seen([seen for _, seen, _ in each], known)


def answered(answer: Answer, each: list[Window]) -> Tried:
    """A trivial answer for all windows."""
    return Tried([answer(truth, noise) for truth, _, noise in each])


def drawn(windows: WindowMethods, method: Drawn, seen: Seen, n_members: int) -> Tried:
    """Members of every window."""
    passes, begun = Passes(), time.process_time()
    windows.watch(passes)
    members = torch.stack([method(seen, Noise(SEED, 1000 + i)) for i in range(n_members)], dim=1)
    seconds = (time.process_time() - begun) / (n_members * len(seen.windows))
    return Tried(list(members.to(torch.float64)), seconds, passes.total / n_members)


Answer = Callable[["Tensor", Noise], "Tensor"]


def trivial(has_background: bool) -> dict[str, Answer]:
    """What needs no method: truth and noise of the background to scaled frames of one member, or of draws."""

    def constant(truth: Tensor, noise: Noise) -> Tensor:
        return physical_to_scaled(background(truth, noise)).expand(1, FRAMES, -1, -1, -1)

    def forecast(truth: Tensor, noise: Noise) -> Tensor:
        solver, frames = TwoLayerQGSpec().build(dtype=torch.float64), [background(truth, noise)[None]]
        for _ in range(FRAMES - 1):
            frames.append(solver.step(frames[-1]))
        return physical_to_scaled(torch.stack(frames, dim=1))

    def zero(truth: Tensor, noise: Noise) -> Tensor:
        return torch.zeros(1, *truth.shape, dtype=torch.float64)

    def climatology(truth: Tensor, noise: Noise) -> Tensor:
        states = start(truth, noise, DRAWS, has_background=False)
        return physical_to_scaled(states)[:, None].expand(-1, FRAMES, -1, -1, -1)

    def persistence(truth: Tensor, noise: Noise) -> Tensor:
        return physical_to_scaled(truth[:1]).expand(1, FRAMES, -1, -1, -1)

    if not has_background:
        return {"zero": zero, "draws from climatology": climatology}
    return {
        "true-model forecast of the background": forecast,
        "background held constant": constant,
        "true first frame held constant": persistence,
    }
