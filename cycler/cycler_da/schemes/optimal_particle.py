"""Optimal-proposal particle filter of a transition: global weights, resampling, guided draws.

    w_i = p(y | x_i) = N(y; H mu(x_i), H C0 H^T + R),   ancestors by systematic resampling,   x' ~ p(x' | x_i, y)

Exact for large ensembles whatever the dynamics: the oracle beside which `interpolant_filter` is tested. With a Gaussian
residual one tau point samples the last factor exactly; with more points (or a denoiser) the exact path weights that the
first weights leave over are resampled once more, or along the way (`resample_below`, `generative.twisted`).
Sources: Doucet, Godsill, Andrieu (2000), Stat. Comput. 10, 197-208; Pitt, Shephard (1999) for the two stages.

Known limits: weights collapse as the number of observations grows (one member is left of any ensemble that can be run);
where the transition's noise is far below the posterior's spread, copies stay copies, and a few hundred members lose
tracks. `effective_share` of the report says how near that is, `ancestors` how many members are no copies. Linear
operators and a covariance that all members share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.guidance import ConjugateDraw
from cycler_da.generative.localisation import (
    TAU_MAX,
    EndpointModel,
    MemberNoise,
    localise,
    require_tau_options,
    tau_grid,
)
from cycler_da.generative.path_weights import RecordedEndpoint, linear_path_weights, log_normal
from cycler_da.generative.prediction import LearnedTransition, Prediction, ResidualObservation, StateObservation
from cycler_da.generative.resampling import effective_share, log_evidence, n_ancestors, systematic_resampling
from cycler_da.generative.twisted import localise_twisted
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_signal, innovation_diagnostics
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.transition.additive_noise import as_transition
from cycler_da.schemes.transition.kinds import has_own_covariances, kind_of_prediction
from cycler_da.schemes.transition.last_step import last_step

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=True, previous=True, linear_operators=True, n_members=2, resamples=True)


@runtime_checkable
class SharedCovariancePrediction(Prediction, Protocol):
    """A prediction whose residual covariance all members share."""

    def observed_covariance(self, observations: StateObservation) -> Tensor:
        """H L L^T H^T."""
        ...


@register("scheme", "optimal_particle")
@dataclass(frozen=True, kw_only=True)
class OptimalParticleSpec(Spec):
    """Options."""

    tau_points: int = 1  # more only where the residual is not Gaussian
    tau_max: float = TAU_MAX
    resample_below: float | None = None  # effective share at which chains are resampled along tau; None: at their end

    def __post_init__(self) -> None:
        require_tau_options(self.tau_points, self.tau_max, where="scheme optimal_particle")
        if self.resample_below is not None and not 0 < self.resample_below <= 1:
            raise ConfigError(
                f"scheme optimal_particle: resample_below is {self.resample_below}; expected above 0 and at most 1"
            )
        if self.resample_below is not None and self.tau_points == 1:
            raise ConfigError(
                "scheme optimal_particle: resample_below is not used with one tau point; leave it out, or raise "
                "tau_points"
            )

    def build(self, context: SchemeContext) -> OptimalParticle:
        """Build the scheme; raises ConfigError unless the forecast model has a transition with noise."""
        if context.model is not None and as_transition(context.model) is None:
            raise ConfigError(
                "scheme optimal_particle: needs a model with a transition that it can sample: forecast.kind "
                "interpolant, or numerical with process noise; got "
                f"{type(context.model).__name__} without one. Use scheme particle"
            )
        if has_own_covariances(kind_of_prediction(context.model)):
            raise ConfigError(
                "scheme optimal_particle: needs a covariance that all members share, and with these weights every "
                "member has one of its own. Use interpolant_filter (with gamma below 1 it weighs members, too), or "
                "particle"
            )
        return OptimalParticle(tau_grid(self.tau_points, self.tau_max), self.resample_below)


@dataclass(frozen=True)
class OptimalParticle:
    """The filter on a fixed grid of tau."""

    taus: tuple[float, ...]
    resample_below: float | None = None
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Analyse the window; without observations return the background bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite, or when members do not share their covariance.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background, name = prior.background, "optimal_particle"
        hx = finite_hx(background.latest, observations, scheme=name)
        report = innovation_diagnostics(observations.values - hx.mean(dim=0), hx.var(dim=0), observations=observations)
        model, frames = last_step(prior, noise, scheme=name)
        weights = log_predictive(model.transition.predict(frames), observations)
        report["effective_share"] = effective_share(weights)
        report["log_evidence"] = log_evidence(weights)
        kept = systematic_resampling(weights, uniform=float(noise.generator("resampling").random()))
        members = MemberNoise(noise, background.members, "guided", device=background.values.device)
        if self.resample_below is None:
            analysed, again = self._sample(model.transition.predict(frames[kept]), observations, members)
        else:
            analysed, again = self._sample_twisted(model.transition, frames[kept], observations, members)
        report["ancestors"] = n_ancestors(kept if again is None else kept[again])
        require_finite(analysed, layout=background.layout, scheme=name)
        report["dof_signal"] = dof_signal(observations.hx(analysed.to(torch.float64)), observations.error_variance)
        return conclude(background, analysed, carry=carry, report=report)

    def _sample(
        self, prediction: Prediction, observations: Observations, noise: MemberNoise
    ) -> tuple[Tensor, Tensor | None]:
        """Guided draws, resampled by what the weights at tau = 0 did not say; with the positions that this kept."""
        recorded = RecordedEndpoint(prediction.endpoint)
        seen = ResidualObservation(prediction, observations)
        draw = ConjugateDraw(recorded, seen, noise)
        states = prediction.to_state(localise(draw, self.taus, like=prediction.blank(torch.float64), noise=noise))
        if len(self.taus) == 1:
            return states, None
        total, first = linear_path_weights(recorded, seen)
        uniform = float(noise.noise.generator("resampling", step=1).random())
        again = systematic_resampling(total - first, uniform=uniform)
        return states[again], again

    def _sample_twisted(
        self, transition: LearnedTransition, frames: Tensor, observations: Observations, noise: MemberNoise
    ) -> tuple[Tensor, Tensor]:
        """Guided draws, resampled along tau and at the end; with the positions that this kept."""

        def bound_to(prediction: Prediction) -> tuple[EndpointModel, ResidualObservation]:
            return prediction.endpoint, ResidualObservation(prediction, observations)

        def uniform(step: int) -> float:
            return float(noise.noise.generator("resampling", step=1 + step).random())

        prediction, share = transition.predict(frames), self.resample_below
        assert share is not None
        # Ancestors have been drawn by the first weights: what they are must not be weighed again.
        chains = localise_twisted(
            bound_to(prediction),
            lambda which: bound_to(transition.predict(frames[which])),
            self.taus,
            like=prediction.blank(torch.float64),
            noise=noise,
            share=share,
            uniform=uniform,
            has_first_weights=False,
        )
        last = systematic_resampling(chains.log_weights, uniform=uniform(len(self.taus)))
        ancestors = chains.ancestors[last]
        return transition.predict(frames[ancestors]).to_state(chains.endpoint[last]), ancestors


def log_predictive(prediction: Prediction, observations: Observations) -> Tensor:
    """log p(y | x_i) of every member, float64; the whole S, not its diagonal."""
    if not isinstance(prediction, SharedCovariancePrediction):
        raise AnalysisFailed(
            f"optimal_particle: the covariance of {type(prediction).__name__} differs between members; expected one "
            "that they share. Use interpolant_filter with these weights"
        )
    innovation = observations.values - observations.hx(prediction.mean.to(torch.float64))
    return log_normal(
        innovation, prediction.observed_covariance(observations) + torch.diag(observations.error_variance)
    )
