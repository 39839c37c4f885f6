"""Benchmark `soad_settings`: SOAD's settings I, II, III on two-layer QG beside filters and trivial answers.

Every method gets the same windows, backgrounds and observations (`soad_settings_cases`). Window schemes use the
released window weights, in which the released transition smooths windows; filters cycle daily from the background (I)
or from climatology (II, III) with the same transition, and know only past observations.

    trivial      true-model forecast of the background, background held constant, zero; the true first frame held
    window       SOAD corrected and as published, SDA (C_t of every wave; gamma as published), PDEDiff; SDA with the
                 Gaussian of the same weights, without the transition: what the transition adds; SOAD and SDA that
                 begin at the background, carried through the window, instead of at noise (`start: background`)
    filters      LETKF with the learned and the true model, interpolant filter with the learned model

RMSE as published: of each frame over both layers in climatological deviations, then the mean over frames and windows;
of one member (their protocol: a sample of the posterior) and of the ensemble mean. CRPS is fair, over members.
Intervals are over windows. Passes are steps of the transition for one window and member (a backward pass is counted as
two more); seconds are of this process for one window and member. What takes gradients runs on fewer windows, as
does the interpolant filter (dear with a curved h), see `config`; SOAD as published takes its 256 steps, for one member.
Costs about 20 minutes of processor time; `--quick` has two windows, two steps and one case.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.guidance_cost import Passes
from cycler_da.bench.turbulence.soad_settings_cases import (
    CASES,
    ERROR,
    FRAMES,
    LAYOUT,
    START,
    TIMES,
    Case,
    background,
    make_truths,
    observe,
    physical_to_scaled,
    scaled_to_physical,
)
from cycler_da.bench.turbulence.soad_settings_windows import Drawn, Seen, WindowMethods
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, MissingInput
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilter, InterpolantFilterSpec
from cycler_da.schemes.letkf import Letkf, LetkfSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import mean_interval

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WEIGHTS = Path("data/weights/two_layer_qg/window")
LEARNED = Path("data/weights/two_layer_qg/quadratic_spectral")
RADIUS, INFLATION, FILTER_MEMBERS, STRIDE = 4, 1.02, 16, 4
LETKF = LetkfSpec(localization_radius_cells=RADIUS, weight_stride=STRIDE, inflation=INFLATION)
INTERPOLANT = InterpolantFilterSpec(localization_radius_cells=RADIUS, weight_stride=STRIDE, inflation=INFLATION)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 20
    members: int = 2
    some_windows: int = 8  # of PDEDiff, of SDA with the Gaussian alone, and of all window schemes in setting III
    few_windows: int = 2  # of what takes gradients, and of the interpolant filter
    rows: int = 40  # windows and members of a window scheme at once
    n_steps: int = 8
    published_steps: int = 256
    years: float = 1.5
    cases: tuple[Case, ...] = CASES


FULL = Size()
QUICK = Size(
    windows=2, members=2, some_windows=2, few_windows=1, n_steps=2, published_steps=2, years=0.1, cases=(CASES[0],)
)


@dataclass(frozen=True)
class Tried:
    """What one method made of some windows."""

    frames: list[Float[Tensor, "member frame 2 y x"]]  # of each window, scaled
    seconds: float = math.nan  # for one window and member
    passes: float = math.nan


@benchmark(
    "soad_settings", summary="SOAD's settings I-III on QG 64x64: score-based schemes, filters and trivial baselines"
)
def soad_settings(quick: bool, progress: Progress) -> BenchResult:
    """Run every method on all windows of every case."""
    size, rows, failures = QUICK if quick else FULL, list[Row](), list[str]()
    for folder in (WEIGHTS, LEARNED):
        if not folder.is_dir():
            raise MissingInput(
                f"no weights in {folder}; run from the repository root, or train them with `cycler train`"
            )
    torch.set_num_threads(1)
    truths = make_truths(size.windows, size.years, seed=4711)
    noises = [Noise(99, i) for i in range(size.windows)]
    windows = WindowMethods(WEIGHTS, size.n_steps, size.published_steps)
    for i_case, case in enumerate(size.cases):
        seen = [observe(case, truth, noise) for truth, noise in zip(truths, noises, strict=True)]
        known = None
        if case.setting == "I":
            known = torch.stack([physical_to_scaled(background(t, n)) for t, n in zip(truths, noises, strict=True)])
        todo = methods(case, size, windows, Seen(seen, known), truths, noises)
        for i_method, (name, method) in enumerate(todo.items()):
            progress(i_case * len(todo) + i_method, len(size.cases) * len(todo), f"{case.label}, {name}")
            try:
                rows += rows_of(case, name, method(), truths)
            except AnalysisFailed as error:
                rows.append(Row(case.label, name, "failed", 1.0))
                failures.append(f"failed, {case.label}, {name}: {error}")
    config = {
        "windows": f"{size.windows}; {size.some_windows} of PDEDiff, of the Gaussian alone and of window schemes in "
        f"setting III; {size.few_windows} of what takes gradients and of the interpolant filter",
        "members": size.members,
        "n_steps": size.n_steps,
        "published": f"{size.published_steps} steps",
        "filters": f"{FILTER_MEMBERS} members, radius {RADIUS} cells, weights every {STRIDE}, inflation {INFLATION}",
        "weights": str(WEIGHTS),
    }
    return BenchResult("soad_settings", config, (99, 4711), tuple(rows), (*NOTES, *failures))


NOTES = (
    "The published tables are at 256 x 256, one window of truth. A day changes fields here by .075, theirs by .153.",
    "The true-model forecast knows the equations, which the learned methods do not.",
    "Filters know only past observations, window schemes all nine days; both have the same learned transition.",
)

Method = Callable[[], Tried]


def methods(
    case: Case, size: Size, windows: WindowMethods, seen: Seen, truths: Tensor, noises: list[Noise]
) -> dict[str, Method]:
    """All methods of a case, in the order of the table; those for comparison in setting I alone."""
    has_background = case.setting == "I"
    each = list(zip(truths, seen.windows, noises, strict=True))
    some = seen.first(size.some_windows)
    seen = some if case.setting == "III" else seen
    found: dict[str, Method] = {}
    for name, answer in trivial(has_background).items():
        found[name] = partial(answered, answer, each)
    found["SOAD, corrected"] = lambda: drawn(windows, windows.soad, seen, size)
    found["SDA, C_t of every wave"] = lambda: drawn(windows, windows.sda, seen, size)
    found["PDEDiff"] = lambda: drawn(windows, windows.pdediff, some, size)
    if has_background:
        few, one = seen.first(size.few_windows), replace(size, members=1)
        found["SOAD, from the background"] = lambda: drawn(windows, windows.soad_from_background, seen, size)
        found["SDA, from the background"] = lambda: drawn(windows, windows.sda_from_background, seen, size)
        found["SOAD, as published"] = lambda: drawn(windows, windows.soad_published, few, one)
        found["SDA, gamma .1"] = lambda: drawn(windows, windows.sda_gamma, few, size)
        found["SDA, Gaussian alone"] = lambda: drawn(windows, windows.sda_gaussian, some, size)
    for name, spec, model in (
        ("LETKF, learned model", LETKF, "learned"),
        ("LETKF, true model", LETKF, "true"),
        ("interpolant filter, learned model", INTERPOLANT, "learned"),
    ):
        cycled_windows = each if spec is LETKF else each[: size.few_windows]
        found[name] = partial(filtered, spec, model, has_background, cycled_windows)
    return found


def answered(answer: Answer, each: list[tuple[Tensor, list[Observations], Noise]]) -> Tried:
    """A trivial answer for all windows."""
    return Tried([answer(truth, noise) for truth, _, noise in each])


def drawn(windows: WindowMethods, method: Drawn, seen: Seen, size: Size) -> Tried:
    """Members of all windows, as many of them at once as `size.rows` allows."""
    passes, begun, n_windows = Passes(), time.process_time(), len(seen.windows)
    windows.watch(passes)
    at_once = max(1, min(size.members, size.rows // n_windows))
    counts = [min(at_once, size.members - done) for done in range(0, size.members, at_once)]
    members = [
        method(seen.repeated(count), Noise(99, 1000 + i)).unflatten(0, (n_windows, count))
        for i, count in enumerate(counts)
    ]
    seconds = (time.process_time() - begun) / (size.members * n_windows)
    frames = list(torch.cat(members, dim=1).to(torch.float64))
    return Tried(frames, seconds, (passes.forward + 2 * passes.backward) / len(counts))


Answer = Callable[["Tensor", Noise], "Tensor"]


def trivial(has_background: bool) -> dict[str, Answer]:
    """What needs no method: truth and noise of the background to scaled frames of one member."""

    def constant(truth: Tensor, noise: Noise) -> Tensor:
        return physical_to_scaled(background(truth, noise)).expand(1, FRAMES, -1, -1, -1)

    def forecast(truth: Tensor, noise: Noise) -> Tensor:
        solver, frames = TwoLayerQGSpec().build(dtype=torch.float64), [background(truth, noise)[None]]
        for _ in range(FRAMES - 1):
            frames.append(solver.step(frames[-1]))
        return physical_to_scaled(torch.stack(frames, dim=1))

    def zero(truth: Tensor, noise: Noise) -> Tensor:
        return torch.zeros(1, *truth.shape, dtype=torch.float64)

    def persistence(truth: Tensor, noise: Noise) -> Tensor:
        return physical_to_scaled(truth[:1]).expand(1, FRAMES, -1, -1, -1)

    if not has_background:
        return {"zero": zero}
    return {
        "true-model forecast of the background": forecast,
        "background held constant": constant,
        "true first frame held constant": persistence,
    }


def filtered(
    spec: LetkfSpec | InterpolantFilterSpec,
    model_name: str,
    has_background: bool,
    each: list[tuple[Tensor, list[Observations], Noise]],
) -> Tried:
    """A filter cycled daily, window by window."""
    learned = InterpolantSpec(weights=str(LEARNED)).build(LAYOUT)
    model: ForecastModel = learned
    if model_name == "true":
        model = NumericalSpec(system={"kind": "two_layer_qg", "size": 64}).build(LAYOUT)
    begun, found, members = time.process_time(), [], range(FILTER_MEMBERS)
    for truth, seen, noise in each:
        z = noise.normal("start", LAYOUT.state_shape, members=members, dtype=torch.float64)
        if has_background:
            states = background(truth, noise) + ERROR * scaled_to_physical(z)
        else:
            assert learned.climatology is not None
            states = learned.climatology.covariance.color(z)
        ensemble = Ensemble(states.to(torch.float32)[:, None], np.array([START]), tuple(members), LAYOUT)
        found.append(cycled(spec.build(SchemeContext(LAYOUT, learned)), model, learned, ensemble, seen, noise))
    seconds = (time.process_time() - begun) / (FILTER_MEMBERS * len(each))
    return Tried(found, seconds, float(FRAMES - 1) if model_name == "learned" else math.nan)


def cycled(
    scheme: Letkf | InterpolantFilter,
    model: ForecastModel,
    learned: ForecastModel,
    ensemble: Ensemble,
    seen: list[Observations],
    noise: Noise,
) -> Float[Tensor, "member frame 2 y x"]:
    """All analyses of a window, scaled; the first by the LETKF, for there is no forecast before it."""
    first = LETKF.build(SchemeContext(LAYOUT, learned)).analyse(
        Prior(ensemble, ensemble, model), seen[0], noise=noise, carry={}
    )
    ensemble, kept = first.ensemble, [first.ensemble.latest]
    for frame in range(1, FRAMES):
        keyed = Noise(noise.seed, 1000 * noise.cycle + frame)
        forecast = model.forecast(ensemble, TIMES[frame : frame + 1], noise=keyed)
        ensemble = scheme.analyse(Prior(forecast, ensemble, model), seen[frame], noise=keyed, carry={}).ensemble
        kept.append(ensemble.latest)
    return physical_to_scaled(torch.stack(kept, dim=1).to(torch.float64))


def score_window(frames: Float[Tensor, "member frame 2 y x"], truth: Float[Tensor, "frame 2 y x"]) -> dict[str, float]:
    """Mean over frames of the RMSE of one member and of the mean; fair CRPS over all values."""
    x = frames.to(torch.float64)
    found = {"RMSE of a member": _rmse(x[0] - truth), "RMSE of the mean": _rmse(x.mean(dim=0) - truth)}
    n = len(x)
    distance = (x - truth).abs().mean()
    if n > 1:
        pairs = sum((x[i] - x[j]).abs().mean() for i in range(n) for j in range(i))
        found["fair CRPS"] = float(distance - pairs / (n * (n - 1)))
        spread = x.var(dim=0).mean().sqrt()
        found["spread"] = float(spread)
    return found


def rows_of(case: Case, name: str, tried: Tried, truths: Float[Tensor, "window frame 2 y x"]) -> list[Row]:
    """Means over windows with their intervals."""
    scores = [score_window(x, physical_to_scaled(truth)) for x, truth in zip(tried.frames, truths, strict=False)]
    rows = []
    for metric in scores[0]:
        found = mean_interval(np.array([one[metric] for one in scores]))
        rows.append(Row(case.label, name, metric, found.value, found.low, found.high, len(scores)))
    for metric, value in (("passes", tried.passes), ("seconds", tried.seconds)):
        if not math.isnan(value):
            rows.append(Row(case.label, name, metric, value))
    return rows


def _rmse(error: Float[Tensor, "frame 2 y x"]) -> float:
    return float(error.square().mean(dim=(1, 2, 3)).sqrt().mean())
