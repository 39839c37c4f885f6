"""FlowDAS: every member guided towards the observations by itself, in many small steps. The reference to beat.

The drift SDE of the interpolant is run from s = 0 to 1 for every member, with a pull towards y at every step: by J
guessed endpoints and their softmax weights (`monte_carlo`, the paper's), by the endpoint mean (`dps`, its appendix), or
by the endpoint's Gaussian (`moment_matching`, which has nothing to tune).

Why it hardly assimilates. What it samples is p(x_{k+1} | x_k, y) of each member, and the factor p(y | x_k), which says
which members were right, is missing. Where the transition is sharp, its noise is all that y may correct: over cycles
from an uncertain start the exact form (`moment_matching`) is a free run (benchmark `lorenz63_cycled`). A large zeta
does pull members in, as nudging does, with a spread that means nothing. `interpolant_filter` has both factors.

Source: Chen et al. (2025), FlowDAS, arXiv:2501.16642, Algorithm 2, eqs. 7-10; settings of its table S.4.
Departures: the path runs in the coordinates of our transitions, the whitened residual r from 0 to r(x_{k+1}), because
there the endpoint mean is known for every s. One sample of every member, not one for the whole state. Misfits are in
units of the climatological deviation of each variable, as in the paper, when the weights know it. The defaults take 100
steps where the paper takes 500, and five times its zeta: the total pull grows with zeta n_steps.
Limits: step_size fits one network of observations, one error level and one number of steps; cost is n_steps network
passes with gradients (twice that in second order).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.drift_sampler import EndpointDrift, Guide, sample_sde
from cycler_da.generative.endpoint_guidance import MomentMatchingGuidance, PosteriorSamplingGuidance
from cycler_da.generative.interpolant import Interpolant
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.monte_carlo_guidance import OBJECTIVES, SPREADS, MonteCarloGuidance
from cycler_da.generative.prediction import Prediction, ResidualObservation
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import used_share
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.optimal_particle import SharedCovariancePrediction
from cycler_da.schemes.transition.last_step import last_step

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=False, previous=True, linear_operators=True, n_members=1)
GUIDANCE = ("monte_carlo", "dps", "moment_matching")


@register("scheme", "flowdas")
@dataclass(frozen=True, kw_only=True)
class FlowdasSpec(Spec):
    """Options; Algorithm 2 as printed. The paper's radar experiment: n_steps 500, step_size 0.1."""

    guidance: str = "monte_carlo"
    step_size: float = 0.5  # zeta; unused by moment_matching
    n_steps: int = 100
    n_endpoints: int = 25  # J
    order: int = 2
    objective: str = "squared"
    endpoint_spread: str = "released"
    fallback_from: float = 0.9  # interpolant time after which collapsed weights are looked for; 1: never
    s_from: float = 0.04  # dps: guidance begins here
    beta_power: int = 2

    def __post_init__(self) -> None:
        choices = {
            "guidance": (self.guidance, GUIDANCE),
            "objective": (self.objective, OBJECTIVES),
            "endpoint_spread": (self.endpoint_spread, SPREADS),
            "order": (self.order, (1, 2)),
            "beta_power": (self.beta_power, (1, 2)),
        }
        for name, (value, valid) in choices.items():
            if value not in valid:
                raise ConfigError(f"scheme flowdas: {name} is {value!r}; valid: {', '.join(map(str, valid))}")
        if self.n_steps < 2 or self.n_endpoints < 1 or self.step_size < 0:
            raise ConfigError(
                f"scheme flowdas: n_steps is {self.n_steps}, n_endpoints {self.n_endpoints}, step_size "
                f"{self.step_size}; expected 2 or more, 1 or more, 0 or more"
            )

    def build(self, context: SchemeContext) -> Flowdas:
        """Build the scheme; raises ConfigError unless the forecast model is a learned interpolant."""
        if context.model is not None and not isinstance(context.model, InterpolantForecast):
            raise ConfigError(
                "scheme flowdas: forecast.kind must be interpolant, for the scheme samples the learned transition; "
                f"got {type(context.model).__name__}"
            )
        return Flowdas(self)


@dataclass(frozen=True)
class ScaledMap:
    """Observations of the residual through any map, in units of `scale`."""

    seen: ResidualObservation
    scale: Float[Tensor, "obs"]

    @property
    def values(self) -> Tensor:
        """Observed values."""
        return self.seen.values / self.scale

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R."""
        return self.seen.error_variance / self.scale**2

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """H(mean + L r)."""
        return self.seen(x) / self.scale


@dataclass(frozen=True)
class ScaledObservation(ScaledMap):
    """Linear observations of the residual in units of `scale`."""

    def linear(self, v: Float[Tensor, "any channel *space"]) -> Float[Tensor, "any obs"]:
        """H L v."""
        return self.seen.linear(v) / self.scale

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """L^T H^T v."""
        return self.seen.adjoint(v / self.scale)

    def of_draws(self, e: Float[Tensor, "batch draw channel *space"]) -> Float[Tensor, "batch draw obs"]:
        """H L e of every draw, outside the graph; one by one where members have an L of their own."""
        with torch.no_grad():
            if isinstance(self.seen.prediction, SharedCovariancePrediction):
                return self.linear(e.flatten(0, 1)).unflatten(0, e.shape[:2])
            return torch.stack([self.linear(draw) for draw in e.unbind(1)], dim=1)


@dataclass(frozen=True)
class Flowdas:
    """The scheme with fixed settings."""

    settings: FlowdasSpec
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Analyse the window; without observations return the background bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite, or without a previous analysis.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme="flowdas")
        model, frames = last_step(prior, noise, scheme="flowdas")
        prediction = model.transition.predict(frames)
        seen = observe_residual(prediction, observations, climatological_scale(model.climatology, observations))
        members = MemberNoise(noise, background.members, "flowdas", device=prediction.mean.device)
        analysed = prediction.to_state(self.sample_residual(prediction, seen, members))
        require_finite(analysed, layout=background.layout, scheme="flowdas")
        used = used_share(observations.values - hx, observations.hx(analysed.to(torch.float64)) - hx)
        report = {"n_obs": float(len(observations)), "dof_signal": used * len(observations)}
        return conclude(background, analysed, carry=carry, report=report)

    def sample_residual(
        self, prediction: Prediction, seen: ScaledObservation | ScaledMap, noise: MemberNoise
    ) -> Float[Tensor, "member channel *space"]:
        """One guided path of every member: its whitened residual.

        Raises AnalysisFailed for moment matching when members do not share their covariance.
        """
        if self.settings.guidance == "moment_matching" and not isinstance(prediction, SharedCovariancePrediction):
            raise AnalysisFailed(
                f"guidance moment_matching: the covariance of {type(prediction).__name__} differs between members; "
                "expected one that they share. Use conjugate or gauss_newton with these weights"
            )
        way = Interpolant(self.settings.beta_power)
        drift = EndpointDrift(prediction.endpoint, way, prediction.blank(torch.float64))
        return sample_sde(drift, n_steps=self.settings.n_steps, noise=noise, guide=self._guide(seen, noise))

    def _guide(self, seen: ScaledObservation | ScaledMap, noise: MemberNoise) -> Guide:
        options = self.settings
        if options.guidance == "dps":
            return PosteriorSamplingGuidance(seen, options.step_size, options.s_from)
        if options.guidance == "moment_matching":
            if not isinstance(seen, ScaledObservation):
                raise AnalysisFailed(
                    "flowdas: guidance moment_matching needs linear operators, got a nonlinear one; use monte_carlo"
                )
            return MomentMatchingGuidance(seen)
        return MonteCarloGuidance(
            seen,
            noise,
            options.step_size,
            n_endpoints=options.n_endpoints,
            order=options.order,
            objective=options.objective,
            spread=options.endpoint_spread,
            fallback_from=options.fallback_from,
        )


def observe_residual(
    prediction: Prediction, observations: Observations, scale: Float[Tensor, "obs"]
) -> ScaledObservation | ScaledMap:
    """Observations of the state as observations of the whitened residual, in units of `scale`."""
    kind = ScaledObservation if observations.is_linear else ScaledMap
    return kind(ResidualObservation(prediction, observations), scale)


def climatological_scale(climatology: StateClimatology | None, observations: Observations) -> Float[Tensor, "obs"]:
    """Climatological deviation of the variable each observation sees.

    Ones where it is not known, or where an operator is not linear (its values are of another kind).
    """
    layout = observations.layout
    if climatology is None or not observations.is_linear:
        return torch.ones_like(observations.values)
    n_channels = len(layout.channels)
    centre = tuple(size // 2 for size in layout.grid.shape)
    units = torch.zeros((n_channels, *layout.state_shape), dtype=torch.float64)
    for channel in range(n_channels):
        units[(channel, channel, *centre)] = 1.0
    moved = climatology.covariance.apply(units)
    std = torch.stack([moved[(channel, channel, *centre)] for channel in range(n_channels)]).sqrt()
    return std[observations.channels].to(observations.values.device)
