"""Methods of the radar benchmarks: what each makes of a case and of observations of its next frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cycler_da.advection import block_flow
from cycler_da.bench.radar.radar_case import Case, Models, forecast_step, known_start
from cycler_da.generative.advected import AdvectedPrediction
from cycler_da.generative.local_covariance import LocalCovariance, exponential_correlation
from cycler_da.generative.localisation import MemberNoise
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import spec_of_block
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.guidance import Guided
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.systems.radar_baselines import BASELINES

SEED = 20261128
MEMBERS = 24
#: Members of FlowDAS, and of the filter beside it: what many steps cost is what limits them.
FEW = 2

#: What a method makes of a case: members `(member, 1, y, x)`, one of them where it makes a single forecast.
Method = Callable[[Case, Observations], torch.Tensor]


def without_observations(models: Models) -> dict[str, Method]:
    """Methods that look at no observation."""

    def baseline(name: str) -> Method:
        def forecast(case: Case, seen: Observations) -> torch.Tensor:
            frames = case.frames[:, 0][None]
            return BASELINES[name](frames[:, -1:], block_flow(frames), 1)

        return forecast

    methods: dict[str, Method] = {name: baseline(name) for name in BASELINES}
    methods["learned transition"] = lambda case, seen: (
        forecast_step(models, case, n_members=MEMBERS, seed=SEED).background.latest
    )
    return methods


def with_scheme(models: Models, spec: Any, *, n_members: int = MEMBERS) -> Method:
    """A scheme on the learned transition's ensemble from the known start."""
    scheme = spec.build(SchemeContext(models.layout, models.learned))

    def analyse(case: Case, seen: Observations) -> torch.Tensor:
        noise = Noise(SEED, 1000 + case.index)
        prior = forecast_step(models, case, n_members=n_members, seed=SEED)
        return scheme.analyse(prior, seen, noise=noise, carry={}).ensemble.latest

    return analyse


def with_filter(models: Models, points: int, *, n_members: int) -> Method:
    """The interpolant filter with so many points of tau."""
    spec = InterpolantFilterSpec(localization_radius_cells=4, tau_points=points, tau_max=3.0 if points == 1 else 20.0)
    return with_scheme(models, spec, n_members=n_members)


def with_oi(models: Models, length: float, *, mean: str, deviation: str) -> Method:
    """Draws around a mean (advected or learned) with an exponential covariance, given the observations.

    Deviation: the learned one, or one for all pixels, the root mean square of the learned ones.
    """
    correlation = exponential_correlation((models.layout.grid.shape[0], models.layout.grid.shape[1]), [(1.0, length)])

    def analyse(case: Case, seen: Observations) -> torch.Tensor:
        learned = models.transition.predict(known_start(case, models.layout, MEMBERS).values)
        std = learned.residual.std
        if deviation == "one":
            std = std.square().mean(dim=(-2, -1), keepdim=True).sqrt().expand_as(std)
        centre = learned.mean
        if mean == "advected":
            centre = without_observations(models)["block-flow advection"](case, seen).expand_as(learned.mean)
        return _guided(
            models, AdvectedPrediction(centre, LocalCovariance(std, correlation), learned.limits), case, seen
        )

    return analyse


def with_flowdas(models: Models, pull: float, n_steps: int) -> Method:
    """FlowDAS as published, with zeta N = `pull`."""
    block = {"kind": "monte_carlo", "n_steps": n_steps, "step_size": pull / n_steps}

    def analyse(case: Case, seen: Observations) -> torch.Tensor:
        start = known_start(case, models.layout, FEW)
        return _guided(models, models.transition.predict(start.values), case, seen, block)

    return analyse


def _guided(
    models: Models,
    prediction: AdvectedPrediction,
    case: Case,
    seen: Observations,
    block: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    noise = MemberNoise(Noise(SEED, 1000 + case.index), range(len(prediction.mean)), "guided")
    guided = Guided(prediction, seen, noise, (0.0,), climatology=models.transition.state_climatology)
    guidance = spec_of_block("guidance", block or {"kind": "conjugate"}, where="benchmark").build()
    return prediction.to_state(guidance.residual(guided).detach())
