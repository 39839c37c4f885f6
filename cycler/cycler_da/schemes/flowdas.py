"""FlowDAS: every member guided towards the observations by itself, in many small steps. The reference to beat.

The drift SDE of the interpolant is run from s = 0 to 1 for every member, with a pull towards y at every step: by J
guessed endpoints and their softmax weights (`monte_carlo`, the paper's), by the endpoint mean (`dps`, its appendix), or
by the endpoint's Gaussian (`moment_matching`, which has nothing to tune).

Why it hardly assimilates. What it samples is p(x_{k+1} | x_k, y) of each member, and the factor p(y | x_k), which says
which members were right, is missing. Where the transition is sharp, its noise is all that y may correct: over cycles
from an uncertain start the exact form (`moment_matching`) is a free run (benchmark `lorenz63_cycled`). A large zeta
does pull members in, as nudging does, with a spread that means nothing. `interpolant_filter` has both factors.

The path runs from the present state to the next one (`coordinates: state`, as published, with the misfit and zeta of
the paper), or in the whitened residual of the transition from 0 to r(x_{k+1}) (`residual`): the same endpoints, but
there the noise of the path is as large as the residual and a pull is in units of it. Both have the drift of our
transitions, known in closed form in the first where the residual is Gaussian with a covariance that can be damped, and
in the second always.
Source: Chen et al. (2025), FlowDAS, arXiv:2501.16642, Algorithm 2, eqs. 7-10; settings of its table S.4.
Departures: one sample of every member, not one for the whole state; misfits in units of the climatological deviation of
each variable, as in the paper, when the weights know it and h is linear. The defaults take 100 steps where the paper
takes 500, and a zeta for that: the total pull grows with zeta n_steps, and it has to be tuned.
Second order asks for the drift at the end of the path of a state that white noise has moved; where the transition has
next to no spread in most directions, as in fields, that is amplified without bound, and first order is taken there from
state to state (decision 0039).
Limits: step_size fits one network of observations, one error level and one number of steps; cost is n_steps passes of a
denoiser with gradients (twice that in second order).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.forecast.base import ForecastModel
from cycler_da.generative.drift_sampler import DIFFUSIONS, EndpointDrift, Guide, sample_sde
from cycler_da.generative.endpoint_guidance import MomentMatchingGuidance, PosteriorSamplingGuidance
from cycler_da.generative.interpolant import Interpolant
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.monte_carlo_guidance import OBJECTIVES, SPREADS, MonteCarloGuidance
from cycler_da.generative.prediction import Prediction, SharedCovariancePrediction
from cycler_da.generative.state_path import (
    LinearPathObservation,
    PathObservation,
    has_state_path,
    observe_path,
    state_path,
)
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import used_share
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.transition.kinds import has_own_covariances, kind_of_prediction
from cycler_da.schemes.transition.last_step import last_step
from cycler_da.schemes.transition.scaled_observation import (
    ScaledMap,
    ScaledObservation,
    climatological_scale,
    observe_residual,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=False, previous=True, n_members=1)
GUIDANCE = ("monte_carlo", "dps", "moment_matching")
COORDINATES = ("state", "residual")
COVARIANCES = ("shared", "derivative")


@register("scheme", "flowdas")
@dataclass(frozen=True, kw_only=True)
class FlowdasSpec(Spec):
    """Options; Algorithm 2 as printed. The paper's Lorenz-63: n_steps 600, step_size 2e-4, n_endpoints 21."""

    guidance: str = "monte_carlo"
    coordinates: str = "state"
    step_size: float = 5e-3  # zeta; unused by moment_matching
    n_steps: int = 100
    n_endpoints: int = 25  # J
    order: int | None = None  # None: 2, but 1 from state to state where members share one covariance (fields)
    objective: str = "squared"
    endpoint_spread: str = "released"
    fallback_from: float = 0.9  # interpolant time after which collapsed weights are looked for; 1: never
    s_from: float = 0.04  # dps: guidance begins here
    covariance: str = "shared"  # moment_matching: of the transition, or the derivative of the endpoint mean
    diffusion: str = "sigma"
    beta_power: int = 2

    def __post_init__(self) -> None:
        choices = {
            "guidance": (self.guidance, GUIDANCE),
            "coordinates": (self.coordinates, COORDINATES),
            "covariance": (self.covariance, COVARIANCES),
            "diffusion": (self.diffusion, DIFFUSIONS),
            "objective": (self.objective, OBJECTIVES),
            "endpoint_spread": (self.endpoint_spread, SPREADS),
            "order": (self.order, (None, 1, 2)),
            "beta_power": (self.beta_power, (1, 2)),
        }
        for name, (value, valid) in choices.items():
            if value not in valid:
                raise ConfigError(f"scheme flowdas: {name} is {value!r}; valid: {', '.join(map(str, valid))}")
        if self.n_steps < 2 or self.n_endpoints < 1 or not 0 <= self.step_size < math.inf:
            raise ConfigError(
                f"scheme flowdas: n_steps is {self.n_steps}, n_endpoints {self.n_endpoints}, step_size "
                f"{self.step_size}; expected 2 or more, 1 or more, 0 or more"
            )
        if not (0 <= self.s_from < 1 and 0 <= self.fallback_from <= 1):
            raise ConfigError(
                f"scheme flowdas: s_from is {self.s_from}, fallback_from {self.fallback_from}; expected interpolant "
                "times, from 0 to 1 (s_from below 1)"
            )

    @property
    def needs_shared_covariance(self) -> bool:
        """True where one S is factorised for all members."""
        return self.guidance == "moment_matching" and self.covariance == "shared"

    def build(self, context: SchemeContext) -> Flowdas:
        """Build the scheme; raises ConfigError unless the forecast model is an interpolant that knows the path."""
        if context.model is not None:
            self._require(context.model)
        linear = self.guidance == "moment_matching"
        order = self.order or (1 if self.coordinates == "state" and _is_field(context.model) else 2)
        return Flowdas(replace(self, order=order), replace(NEEDS, linear_operators=linear))

    def _require(self, model: ForecastModel) -> None:
        if not isinstance(model, InterpolantForecast):
            raise ConfigError(
                "scheme flowdas: forecast.kind must be interpolant, for the scheme samples the learned transition; "
                f"got {type(model).__name__}"
            )
        if self.needs_shared_covariance and has_own_covariances(kind_of_prediction(model)):
            raise ConfigError(
                "scheme flowdas: guidance moment_matching has one covariance for all members, and with these weights "
                "every member has one of its own; take covariance: derivative"
            )
        if self.coordinates == "state" and not has_state_path(model.transition):
            raise ConfigError(
                "scheme flowdas: coordinates is 'state', and these weights know no path from state to state (their "
                "residual is not Gaussian, or its deviation varies over the field); take coordinates: residual"
            )


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
        scale = climatological_scale(model.climatology, observations)
        members = MemberNoise(noise, background.members, "flowdas", device=prediction.mean.device)
        if self.settings.coordinates == "state":
            analysed = self.sample_state(prediction, frames[:, -1], observations, scale, members)
        else:
            seen = observe_residual(prediction, observations, scale)
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
        self._require_shared(prediction)
        way = Interpolant(self.settings.beta_power)
        drift = EndpointDrift(prediction.endpoint, way, prediction.blank(torch.float64), self.settings.diffusion)
        return sample_sde(drift, n_steps=self.settings.n_steps, noise=noise, guide=self._guide(seen, noise))

    def sample_state(
        self,
        prediction: Prediction,
        now: Float[Tensor, "member channel *space"],
        observations: Observations,
        scale: Float[Tensor, "obs"],
        noise: MemberNoise,
    ) -> Float[Tensor, "member channel *space"]:
        """One guided path of every member from its present state; physical units.

        Raises AnalysisFailed where the path is not known, and as `sample_residual`.
        """
        self._require_shared(prediction)
        path = state_path(prediction, now)
        seen = observe_path(path, observations, scale, is_linear=observations.is_linear)
        way = Interpolant(self.settings.beta_power)
        drift = EndpointDrift(path.endpoint, way, path.start, self.settings.diffusion)
        z = sample_sde(drift, n_steps=self.settings.n_steps, noise=noise, guide=self._guide(seen, noise))
        return path.to_physical(z).to(prediction.mean.dtype)

    def _require_shared(self, prediction: Prediction) -> None:
        if self.settings.needs_shared_covariance and not isinstance(prediction, SharedCovariancePrediction):
            raise AnalysisFailed(
                f"guidance moment_matching: the covariance of {type(prediction).__name__} differs between members; "
                "expected one that they share. Take covariance: derivative with these weights, or guidance gauss_newton"
            )

    def _guide(self, seen: ScaledMap | PathObservation, noise: MemberNoise) -> Guide:
        options = self.settings
        if options.guidance == "dps":
            return PosteriorSamplingGuidance(seen, options.step_size, options.s_from)
        if options.guidance == "moment_matching":
            if not isinstance(seen, ScaledObservation | LinearPathObservation):
                raise AnalysisFailed(
                    "flowdas: guidance moment_matching needs linear operators, got a nonlinear one; use monte_carlo"
                )
            return MomentMatchingGuidance(seen, from_derivative=options.covariance == "derivative")
        return MonteCarloGuidance(
            seen,
            noise,
            options.step_size,
            n_endpoints=options.n_endpoints,
            order=options.order or 2,
            objective=options.objective,
            spread=options.endpoint_spread,
            fallback_from=options.fallback_from,
        )


def _is_field(model: ForecastModel | None) -> bool:
    """True where members share a covariance, which has no spread in most directions of a field."""
    kind = kind_of_prediction(model)
    return kind is not None and not has_own_covariances(kind)
