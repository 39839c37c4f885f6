"""Filters of the benchmark `soad_settings`: cycled daily through a window, with options searched on other windows.

They begin with members about the background (setting I) or with draws from climatology (II and III); the first frame is
analysed by the LETKF, for there is no forecast before it. The LETKF is searched with the true model and cycled with
both. Its best options make the first analysis of the interpolant filter, whose search (radius, inflation, passes)
begins there; with velocities, and in every cell of `soad_grid`, it has them as they are, in two passes. Scored in the
search is the fair CRPS of the first five frames of two windows of another seed (one for the interpolant filter): it
asks for small errors and an honest spread at once. Members are not searched: more are better, and cost as much more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.bench.pattern_search import Found, Point, pattern_search
from cycler_da.bench.turbulence.soad_settings_cases import (
    ERROR,
    LAYOUT,
    START,
    TIMES,
    Case,
    Window,
    background,
    make_truths,
    physical_to_scaled,
    scaled_to_physical,
    seen_windows,
)
from cycler_da.bench.turbulence.soad_settings_scores import Tried, score_window
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantForecast, InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LEARNED = Path("data/weights/two_layer_qg/quadratic_spectral")
AXES = {
    "radius": (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0),
    "inflation": (1.0, 1.02, 1.05, 1.1, 1.2),
    "linearisation": ("members", "regression"),
}
PASSES = (1, 2, 4)
#: Where the search of the LETKF begins, with a background and without.
BEGIN: dict[bool, Point] = {True: (4.0, 1.02, "members"), False: (3.0, 1.02, "regression")}
#: With and without a background, which is worth more than many members.
MEMBERS = {True: 16, False: 32}
TUNING_SEED, TUNING_FRAMES = 4712, 5


@dataclass(frozen=True)
class Tuned:
    """Options of both filters in a case."""

    letkf: Found
    interpolant: Found

    @property
    def letkf_spec(self) -> LetkfSpec:
        """Of the LETKF."""
        return letkf_spec(self.letkf.point)

    @property
    def interpolant_spec(self) -> InterpolantFilterSpec:
        """Of the interpolant filter."""
        return interpolant_spec(self.interpolant.point)

    def words(self) -> str:
        """What was chosen, of how many, and what the search could not see beyond."""
        names, parts = (*AXES, "passes"), []
        for scheme, found in (("LETKF", self.letkf), ("interpolant filter", self.interpolant)):
            options = ", ".join(f"{name} {value}" for name, value in zip(names, found.point, strict=False))
            tried = f"best of {found.n_scored}{found.ends}" if found.n_scored else "not searched"
            parts.append(f"{scheme}: {options} ({tried})")
        return "; ".join(parts)


def letkf_spec(point: Point) -> LetkfSpec:
    """Radius in cells, inflation and linearisation; weights at a third of the radius at most."""
    radius, inflation, linearisation = point
    return LetkfSpec(
        localization_radius_cells=radius,
        weight_stride=_stride(radius),
        inflation=inflation,
        linearisation=linearisation,
    )


def interpolant_spec(point: Point) -> InterpolantFilterSpec:
    """The same and passes."""
    radius, inflation, linearisation, passes = point
    return InterpolantFilterSpec(
        localization_radius_cells=radius,
        weight_stride=_stride(radius),
        inflation=inflation,
        linearisation=linearisation,
        passes=passes,
    )


def tune(case: Case, *, years: float, is_searched: bool, searches_interpolant: bool | None = None) -> Tuned:
    """Search the options of a case's filters, on windows that are not reported.

    The interpolant filter has those of the LETKF, and two passes, where it is not searched (None: with velocities).
    """
    searches_interpolant = not case.sees_velocity if searches_interpolant is None else searches_interpolant
    begin = BEGIN[case.has_background]
    if not is_searched:
        return Tuned(Found(begin, float("nan"), 0, ()), Found((*begin, 1), float("nan"), 0, ()))
    each = [
        (truth[:TUNING_FRAMES], seen[:TUNING_FRAMES], noise)
        for truth, seen, noise in seen_windows(case, _tuning_truths(years), seed=98)
    ]
    letkf = pattern_search(AXES, begin, lambda point: _crps(letkf_spec(point), letkf_spec(point), "true", case, each))
    first, like = letkf_spec(letkf.point), (*letkf.point, 2)
    if not searches_interpolant:
        return Tuned(letkf, Found(like, float("nan"), 0, ()))
    interpolant = pattern_search(
        {**AXES, "linearisation": like[2:3], "passes": PASSES},
        like,
        lambda point: _crps(interpolant_spec(point), first, "learned", case, each[:1]),
    )
    return Tuned(letkf, interpolant)


def filtered(
    spec: LetkfSpec | InterpolantFilterSpec,
    first: LetkfSpec,
    model_name: str,
    case: Case,
    each: Sequence[Window],
) -> Tried:
    """A filter cycled daily, window by window; `first` analyses the first frame."""
    learned = _learned()
    model: ForecastModel = learned
    if model_name == "true":
        model = NumericalSpec(system={"kind": "two_layer_qg", "size": 64}).build(LAYOUT)
    has_background = case.has_background
    begun, n_members = time.process_time(), MEMBERS[has_background]
    found = []
    for truth, seen, noise in each:
        states = start(truth, noise, n_members, has_background=has_background)
        ensemble = Ensemble(states.to(torch.float32)[:, None], np.array([START]), tuple(range(n_members)), LAYOUT)
        found.append(cycled(spec, first, model, ensemble, seen, noise))
    seconds = (time.process_time() - begun) / (n_members * len(each))
    n_steps = len(each[0][1]) - 1
    return Tried(found, seconds, float(n_steps) if model_name == "learned" else float("nan"))


def start(truth: Tensor, noise: Noise, n_members: int, *, has_background: bool) -> Float[Tensor, "member 2 y x"]:
    """Members before any observation."""
    z = noise.normal("start", LAYOUT.state_shape, members=range(n_members), dtype=torch.float64)
    if has_background:
        return background(truth, noise) + ERROR * scaled_to_physical(z)
    climatology = _learned().climatology
    assert climatology is not None
    return climatology.covariance.color(z)


def cycled(
    spec: LetkfSpec | InterpolantFilterSpec,
    first: LetkfSpec,
    model: ForecastModel,
    ensemble: Ensemble,
    seen: list[Observations],
    noise: Noise,
) -> Float[Tensor, "member frame 2 y x"]:
    """All analyses of a window, scaled."""
    context = SchemeContext(LAYOUT, _learned())
    scheme, beginning = spec.build(context), first.build(context)
    analysis = beginning.analyse(Prior(ensemble, ensemble, model), seen[0], noise=noise, carry={})
    ensemble, kept = analysis.ensemble, [analysis.ensemble.latest]
    for frame in range(1, len(seen)):
        keyed = Noise(noise.seed, 1000 * noise.cycle + frame)
        forecast = model.forecast(ensemble, TIMES[frame : frame + 1], noise=keyed)
        ensemble = scheme.analyse(Prior(forecast, ensemble, model), seen[frame], noise=keyed, carry={}).ensemble
        kept.append(ensemble.latest)
    return physical_to_scaled(torch.stack(kept, dim=1).to(torch.float64))


def _crps(
    spec: LetkfSpec | InterpolantFilterSpec, first: LetkfSpec, model: str, case: Case, each: Sequence[Window]
) -> float:
    try:
        tried = filtered(spec, first, model, case, each)
    except AnalysisFailed:
        return float("inf")
    scores = [score_window(x, physical_to_scaled(truth)) for x, (truth, _, _) in zip(tried.frames, each, strict=True)]
    found = float(np.mean([one["fair CRPS"] for one in scores]))
    return found if np.isfinite(found) else float("inf")


def _stride(radius: float) -> int:
    return 4 if radius >= 4 else 2 if radius >= 2 else 1


@lru_cache(maxsize=1)
def _learned() -> InterpolantForecast:
    return InterpolantSpec(weights=str(LEARNED)).build(LAYOUT)


@lru_cache(maxsize=1)
def _tuning_truths(years: float) -> Float[Tensor, "window frame 2 y x"]:
    return make_truths(2, years, seed=TUNING_SEED)
