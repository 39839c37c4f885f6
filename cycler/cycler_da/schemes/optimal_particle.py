"""Optimal-proposal particle filter of a transition: global weights, resampling, guided draws.

    w_i = p(y | x_i) = N(y; H mu(x_i), H C0 H^T + R),   ancestors by systematic resampling,   x' ~ p(x' | x_i, y)

Exact for large ensembles whatever the dynamics: the oracle beside which `interpolant_filter` is tested. With a Gaussian
residual one tau point samples the last factor exactly; with more points (or a denoiser) the exact path weights that the
first weights leave over are resampled once more, or along the way (`resample_below`, `generative.twisted`).
Sources: Doucet, Godsill, Andrieu (2000), Stat. Comput. 10, 197-208; Pitt, Shephard (1999) for the two stages.

Known limits: weights collapse as the number of observations grows (one member is left of any ensemble that can be run);
where the transition's noise is far below the posterior's spread, copies stay copies, and a few hundred members lose
tracks. `effective_share` of the report says how near that is, `ancestors` how many members are no copies.

Where h is curved, errors are not Gaussian (`error_law`) or members have covariances of their own, w_i is the Gaussian
of h's linearisation, and draws are weighted by what it got wrong (`transition.weighted_draws`): exact as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from cycler_da.generative.path_weights import RecordedEndpoint, linear_path_weights
from cycler_da.generative.prediction import (
    LearnedTransition,
    Prediction,
    ResidualObservation,
    SharedCovariancePrediction,
)
from cycler_da.generative.resampling import effective_share, log_evidence, n_ancestors, systematic_resampling
from cycler_da.generative.twisted import localise_twisted
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.error_laws import ErrorLaw
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_signal, innovation_diagnostics
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.guidance.conjugate import make_gauss_newton
from cycler_da.schemes.transition.additive_noise import as_transition
from cycler_da.schemes.transition.kinds import has_own_covariances, kind_of_prediction
from cycler_da.schemes.transition.last_step import last_step
from cycler_da.schemes.transition.predictive import predict_observations
from cycler_da.schemes.transition.weighted_draws import WeightedDraws

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=True, previous=True, gradient=True, n_members=2, resamples=True)


@register("scheme", "optimal_particle")
@dataclass(frozen=True, kw_only=True)
class OptimalParticleSpec(Spec):
    """Options."""

    tau_points: int = 1  # more only where the residual is not Gaussian
    tau_max: float = TAU_MAX
    resample_below: float | None = None  # effective share at which chains are resampled along tau; None: at their end
    error_law: str = "gaussian"  # of `obs.error_laws`, of all observations
    law_shape: float | None = None  # of the log-normal
    iterations: int = 2  # of Gauss-Newton, where h is curved
    caution: float = 1.0  # factor on the R of draws that are weighted afterwards

    def __post_init__(self) -> None:
        law = self.law()
        make_gauss_newton(self.iterations, self.caution)
        if self.resample_below is not None and law.name != "gaussian":
            raise ConfigError(
                f"scheme optimal_particle: resample_below weighs Gaussian errors alone, and error_law is {law.words}; "
                "leave one of them out"
            )
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

    def law(self) -> ErrorLaw:
        """Law of the observation errors; raises ConfigError for one that does not exist."""
        return ErrorLaw(self.error_law, self.law_shape)

    def build(self, context: SchemeContext) -> OptimalParticle:
        """Build the scheme; raises ConfigError unless the forecast model has a transition with noise."""
        if context.model is not None and as_transition(context.model) is None:
            raise ConfigError(
                "scheme optimal_particle: needs a model with a transition that it can sample: forecast.kind "
                "interpolant, or numerical with process noise; got "
                f"{type(context.model).__name__} without one. Use scheme particle"
            )
        if self.resample_below is not None and has_own_covariances(kind_of_prediction(context.model)):
            raise ConfigError(
                "scheme optimal_particle: resample_below needs a covariance that all members share, and with these "
                "weights every member has one of its own; leave it out"
            )
        taus = tau_grid(self.tau_points, self.tau_max)
        draws = WeightedDraws(taus, self.law(), self.iterations, self.caution)
        needs = replace(NEEDS, linear_operators=self.resample_below is not None)
        return OptimalParticle(taus, self.resample_below, draws, needs)


@dataclass(frozen=True)
class OptimalParticle:
    """The filter on a fixed grid of tau."""

    taus: tuple[float, ...]
    resample_below: float | None
    weighted: WeightedDraws
    needs: Needs

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Analyse the window; without observations return the background bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite, when no member can have been seen like this, or
        when chains are to be resampled and members do not share their covariance.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background, name = prior.background, "optimal_particle"
        hx = finite_hx(background.latest, observations, scheme=name)
        report = innovation_diagnostics(observations.values - hx.mean(dim=0), hx.var(dim=0), observations=observations)
        model, frames = last_step(prior, noise, scheme=name)
        prediction = model.transition.predict(frames)
        predictive = predict_observations(prediction, observations)
        weights = predictive.log_density(observations.values, observations.error_variance)
        report["effective_share"] = effective_share(weights)
        report["log_evidence"] = log_evidence(weights)
        kept = systematic_resampling(weights, uniform=float(noise.generator("resampling").random()))
        members = MemberNoise(noise, background.members, "guided", device=background.values.device)
        again: Tensor | None
        if self.resample_below is not None:
            if not isinstance(prediction, SharedCovariancePrediction):
                raise AnalysisFailed(
                    f"optimal_particle: resample_below needs a covariance that members share, and that of "
                    f"{type(prediction).__name__} differs between them; leave it out"
                )
            analysed, again = self._sample_twisted(model.transition, frames[kept], observations, members)
        elif self._is_plain(prediction, observations):
            analysed, again = self._sample(model.transition.predict(frames[kept]), observations, members)
        else:
            states, total = self.weighted(model.transition.predict(frames[kept]), observations, members)
            second = total - weights[kept]
            report["second_effective_share"] = effective_share(second)
            report["log_evidence"] += log_evidence(second)
            again = systematic_resampling(second, uniform=float(noise.generator("resampling", step=1).random()))
            analysed = states[again]
        report["ancestors"] = n_ancestors(kept if again is None else kept[again])
        require_finite(analysed, layout=background.layout, scheme=name)
        report["dof_signal"] = dof_signal(observations.hx(analysed.to(torch.float64)), observations.error_variance)
        return conclude(background, analysed, carry=carry, report=report)

    def _is_plain(self, prediction: Prediction, observations: Observations) -> bool:
        """Linear h, Gaussian errors, one covariance: the weights at tau = 0 are all there is to know at one point."""
        is_shared = isinstance(prediction, SharedCovariancePrediction)
        return observations.is_linear and is_shared and self.weighted.law.name == "gaussian"

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
