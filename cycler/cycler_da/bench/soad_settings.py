"""Benchmark `soad_settings`: SOAD's settings I, II, III on two-layer QG beside filters and trivial answers.

Every method gets the same windows, backgrounds and observations (`soad_settings_cases`). Window schemes use the
released window weights; filters cycle daily from the background (I) or from climatology (II, III), know only past
observations, and have 16 members.

    trivial      true-model forecast of the background, background held constant, zero; the true first frame held
    window       SOAD corrected and as published, SDA (C_t of every wave; gamma as published), PDEDiff; and SDA with the
                 Gaussian of the same weights, without their network: what the network adds
    filters      LETKF with the learned and the true model, interpolant filter with the learned model

RMSE as published: of each frame over both layers in climatological deviations, then the mean over frames and windows;
of one member (their protocol: a sample of the posterior) and of the ensemble mean. CRPS is fair, over members.
Intervals are over windows. Passes are those of the network's windows of five frames, for one window and member (a
backward pass is counted as two more); seconds are of this process for one window and member. `published` runs on
fewer windows and fewer steps than its 256 because of its cost, see `config`.
Costs about 40 minutes of processor time; `--quick` has two windows and two cases.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.bench.guidance_cost import Passes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.soad_settings_cases import (
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
from cycler_da.bench.soad_settings_windows import WindowMethods
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, MissingInput
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import mean_interval

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WEIGHTS = Path("data/weights/two_layer_qg/window")
LEARNED = Path("data/weights/two_layer_qg/quadratic_spectral")
RADIUS, INFLATION, FILTER_MEMBERS = 4, 1.02, 16
LETKF = LetkfSpec(localization_radius_cells=RADIUS, weight_stride=2, inflation=INFLATION)
INTERPOLANT = InterpolantFilterSpec(localization_radius_cells=RADIUS, weight_stride=2, inflation=INFLATION)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 20
    members: int = 4
    published_windows: int = 4
    n_steps: int = 24
    published_steps: int = 64
    years: float = 1.5
    cases: tuple[Case, ...] = CASES


FULL = Size()
QUICK = Size(
    windows=2, members=2, published_windows=1, n_steps=6, published_steps=6, years=0.3, cases=(CASES[0], CASES[3])
)


@dataclass(frozen=True)
class Tried:
    """What one method made of one window."""

    frames: Float[Tensor, "member frame 2 y x"]  # scaled
    seconds: float = math.nan
    passes: float = math.nan


@benchmark(
    "soad_settings", summary="SOAD's settings I-III on QG 64x64: score-based schemes, filters and trivial baselines"
)
def soad_settings(quick: bool, progress: Progress) -> BenchResult:
    """Run every method on every window of every case."""
    size, rows = QUICK if quick else FULL, []
    for folder in (WEIGHTS, LEARNED):
        if not folder.is_dir():
            raise MissingInput(
                f"no weights in {folder}; run from the repository root, or train them with `cycler train`"
            )
    torch.set_num_threads(1)
    truths = make_truths(size.windows, size.years, seed=4711)
    windows = WindowMethods(WEIGHTS, size.members, size.n_steps, size.published_steps)
    n_done, total = 0, len(size.cases) * size.windows
    for case in size.cases:
        tried: dict[str, list[Tried]] = {}
        scores: dict[str, list[dict[str, float]]] = {}
        for i_window, truth in enumerate(truths):
            progress(n_done, total, f"{case.label}, window {i_window + 1}")
            n_done += 1
            noise = Noise(99, i_window)
            for name, method in methods(case, windows, is_published=i_window < size.published_windows).items():
                try:
                    found = method(truth, observe(case, truth, noise), noise)
                except AnalysisFailed as error:
                    found = Tried(torch.full((1, FRAMES, *LAYOUT.state_shape), math.nan))
                    print(f"{name}: {error}")
                tried.setdefault(name, []).append(Tried(found.frames[:0], found.seconds, found.passes))
                scores.setdefault(name, []).append(score_window(found.frames, physical_to_scaled(truth)))
        rows += rows_of(case, scores, tried)
    config = {
        "windows": size.windows,
        "members": size.members,
        "n_steps": size.n_steps,
        "published": f"{size.published_windows} windows, {size.published_steps} steps",
        "filters": f"{FILTER_MEMBERS} members, radius {RADIUS} cells, inflation {INFLATION}",
        "weights": str(WEIGHTS),
    }
    return BenchResult("soad_settings", config, (99, 4711), tuple(rows), NOTES)


NOTES = (
    "The published tables are at 256 x 256, one window of truth. A day changes fields here by .075, theirs by .153.",
    "The true-model forecast knows the equations, which the learned methods do not.",
    "Filters know only past observations, window schemes all nine days.",
)

Method = Callable[["Tensor", list[Observations], Noise], Tried]


def methods(case: Case, windows: WindowMethods, *, is_published: bool) -> dict[str, Method]:
    """All methods of a case, in the order of the table."""
    has_background = case.setting == "I"

    def window(method: Callable[..., Tensor]) -> Method:
        def run(truth: Tensor, seen: list[Observations], noise: Noise) -> Tried:
            known = physical_to_scaled(background(truth, noise)) if has_background else None
            passes, begun = Passes(), time.process_time()
            windows.watch(passes)
            frames = method(seen, known, noise)
            seconds = (time.process_time() - begun) / len(frames)
            return Tried(frames, seconds, (passes.forward + 2 * passes.backward) * windows.share(frames))

        return run

    found: dict[str, Method] = dict(trivial(has_background))
    found["SOAD, corrected"] = window(windows.soad)
    if is_published:
        found["SOAD, as published"] = window(windows.soad_published)
    found["SDA, C_t of every wave"] = window(windows.sda)
    found["SDA, gamma .1"] = window(windows.sda_gamma)
    found["PDEDiff"] = window(windows.pdediff)
    found["SDA, Gaussian alone"] = window(windows.sda_gaussian)
    for name, spec, model in (
        ("LETKF, learned model", LETKF, "learned"),
        ("LETKF, true model", LETKF, "true"),
        ("interpolant filter, learned model", INTERPOLANT, "learned"),
    ):
        found[name] = filtered(spec, model, has_background)
    return found


def trivial(has_background: bool) -> dict[str, Method]:
    """What needs no method."""

    def constant(truth: Tensor, seen: list[Observations], noise: Noise) -> Tried:
        return Tried(physical_to_scaled(background(truth, noise)).expand(1, FRAMES, -1, -1, -1))

    def forecast(truth: Tensor, seen: list[Observations], noise: Noise) -> Tried:
        solver, frames = TwoLayerQGSpec().build(dtype=torch.float64), [background(truth, noise)[None]]
        for _ in range(FRAMES - 1):
            frames.append(solver.step(frames[-1]))
        return Tried(physical_to_scaled(torch.stack(frames, dim=1)))

    def zero(truth: Tensor, seen: list[Observations], noise: Noise) -> Tried:
        return Tried(torch.zeros(1, *truth.shape, dtype=torch.float64))

    def persistence(truth: Tensor, seen: list[Observations], noise: Noise) -> Tried:
        return Tried(physical_to_scaled(truth[:1]).expand(1, FRAMES, -1, -1, -1))

    if not has_background:
        return {"zero": zero}
    return {
        "true-model forecast of the background": forecast,
        "background held constant": constant,
        "true first frame held constant": persistence,
    }


def filtered(spec: LetkfSpec | InterpolantFilterSpec, model_name: str, has_background: bool) -> Method:
    """A filter cycled daily."""
    learned = InterpolantSpec(weights=str(LEARNED)).build(LAYOUT)
    model: ForecastModel = learned
    if model_name == "true":
        model = NumericalSpec(system={"kind": "two_layer_qg", "size": 64}).build(LAYOUT)

    def run(truth: Tensor, seen: list[Observations], noise: Noise) -> Tried:
        scheme = spec.build(SchemeContext(LAYOUT, learned))
        begun, members = time.process_time(), range(FILTER_MEMBERS)
        z = noise.normal("start", LAYOUT.state_shape, members=members, dtype=torch.float64)
        if has_background:
            states = background(truth, noise) + ERROR * scaled_to_physical(z)
        else:
            assert learned.climatology is not None
            states = learned.climatology.covariance.color(z)
        ensemble = Ensemble(states.to(torch.float32)[:, None], np.array([START]), tuple(members), LAYOUT)
        first = LETKF.build(SchemeContext(LAYOUT, learned)).analyse(
            Prior(ensemble, ensemble, model), seen[0], noise=noise, carry={}
        )
        ensemble, kept = first.ensemble, [first.ensemble.latest]
        for frame in range(1, FRAMES):
            keyed = Noise(noise.seed, 1000 * noise.cycle + frame)
            forecast = model.forecast(ensemble, TIMES[frame : frame + 1], noise=keyed)
            ensemble = scheme.analyse(Prior(forecast, ensemble, model), seen[frame], noise=keyed, carry={}).ensemble
            kept.append(ensemble.latest)
        seconds = (time.process_time() - begun) / FILTER_MEMBERS
        passes = float(FRAMES - 1) if model_name == "learned" else math.nan
        return Tried(physical_to_scaled(torch.stack(kept, dim=1).to(torch.float64)), seconds, passes)

    return run


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


def rows_of(case: Case, scores: dict[str, list[dict[str, float]]], tried: dict[str, list[Tried]]) -> list[Row]:
    """Means over windows with their intervals."""
    rows = []
    for name, found in scores.items():
        for metric in found[0]:
            values = [one[metric] for one in found]
            found_mean = mean_interval(np.array(values))
            rows.append(Row(case.label, name, metric, found_mean.value, found_mean.low, found_mean.high, len(values)))
        for metric in ("passes", "seconds"):
            values = [getattr(one, metric) for one in tried[name]]
            if not math.isnan(values[0]):
                rows.append(Row(case.label, name, metric, sum(values) / len(values), n=len(values)))
    return rows


def _rmse(error: Float[Tensor, "frame 2 y x"]) -> float:
    return float(error.square().mean(dim=(1, 2, 3)).sqrt().mean())
