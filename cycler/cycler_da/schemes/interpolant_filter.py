"""Interpolant filter: members are coupled first, then sampled under guidance.

The filtering density of a learned transition p(x' | x) has two factors for every member,

    p(x, x' | y) ~ p(y | x) p(x' | x, y)

and guided sampling gives the second alone. Members at the previous time must first be moved by the first,
the predictive likelihood N(y; h(mu(x_i)), S), S = R + J C0 J^T (`predictive`):

    1. h(mu(x_i)) of every member, mu the mean of the transition
    2. the members x_i (and their history) are moved by p(y | x_i), see `coupling`: by a lag-1 LETKF (transform) or by
       local weights in its place (local_weights), by a lag-1 smoother (square_root; in low dimension
       perturbed_observations, or mixture, which is moved and weighed kernel by kernel), or not at all, which hardly
       assimilates; with gamma < 1 in part by resampling, low dimension only, where weights do not collapse
    3. one draw of x' from every moved member, guided by y (`guidance`), with the noise that drew its background: where
       observations say nothing, the background is left as it is

For linear-Gaussian systems it is the Kalman filter, exact for large ensembles. y enters both factors and
is not counted twice, because C0 stands in the predictive likelihood. Nonlinear h is linearised where members are.
Diagnostics: log_evidence, log of the mean p(y | x_i) before members move; gamma as used; effective_share, of weights;
ancestors, how many different members resampling left.
Sources: the optimal proposal and its weight, Doucet, Godsill, Andrieu (2000), Stat. Comput. 10, 197-208;
the transform, Hunt et al. (2007), Physica D 230; guidance, `schemes.guidance`.

`surprise` widens the spread where an observation lies far outside what was expected: around it (a storm is born; see
`generative.surprise`), with perturbed observations and mixtures that of the whole ensemble (a lost track; see
`schemes.transition.widening`).

`linearisation: regression` gives curved observations the weight that they can bear in the transform
(`schemes.ensemble.statistical_linearisation`), and with it every pass what the spread then left can tell.

`path_weights` resamples the draws by what their own guidance and the Gaussian p(y | x_i) got wrong, which is exact: for
curves and for residuals that are not Gaussian, in few variables (`schemes.transition.weighted_draws`).

`conditioning_level`, with coupling none and weights that take members for states with errors, says how large these are
(`schemes.transition.conditioning`); published as it was used. Such weights are the clean transition everywhere else.

Departures: the off-diagonal part of J C0 J^T is left out of the transform (it localises R); `coupling: square_root` has
it, which is worth much where the residual is wide: noise in a few waves of the whole domain is told from errors of
states. Limits: keep inflation at 1.05 or less, for the lag lets it grow through the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.localisation import TAU_MAX, MemberNoise, require_tau_options, tau_grid
from cycler_da.generative.prediction import Prediction, WidenedPrediction
from cycler_da.generative.resampling import effective_share, systematic_resampling
from cycler_da.generative.surprise import Surprise
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.error_laws import GAUSSIAN
from cycler_da.registry import Spec, register, spec_of_block
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.adaptive_inflation import (
    AdaptiveInflationSpec,
    InflationField,
    Innovations,
    read_inflation,
    update_inflation,
)
from cycler_da.schemes.ensemble.inflation import inflate
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_signal, innovation_diagnostics
from cycler_da.schemes.frame.settings import require
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.guidance import Guidance, GuidanceSpec, Guided
from cycler_da.schemes.guidance.conjugate import linearised_guidance
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.transition.conditioning import at_level, require_known_levels, require_level
from cycler_da.schemes.transition.coupling import COUPLINGS, INFLATED_FIRST, OF_FEW_VARIABLES, Coupling
from cycler_da.schemes.transition.filter_options import least_members, require_possible, require_used
from cycler_da.schemes.transition.last_step import last_draw, last_step
from cycler_da.schemes.transition.predictive import Predictive, predict_observations
from cycler_da.schemes.transition.weighted_draws import WeightedDraws

if TYPE_CHECKING:
    from torch import Tensor


@register("scheme", "interpolant_filter")
@dataclass(frozen=True, kw_only=True)
class InterpolantFilterSpec(Spec):
    """Options. The localization radius is a Gaspari-Cohn half-width in km or in grid cells, as for the LETKF."""

    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    inflation: float = 1.02  # factor on the anomalies of the previous analysis; where an adaptive one starts
    adaptive_inflation: AdaptiveInflationSpec | None = None
    coupling: str = "transform"
    passes: int = 1  # 2 where the step is strongly nonlinear
    gamma: float = 1.0  # fraction of the log-evidence given to the coupling; less in low dimension
    least_share: float | None = None  # effective share of weights below which gamma is raised, or local ones tempered
    guidance: Mapping[str, Any] = field(default_factory=lambda: {"kind": "conjugate"})
    tau_points: int = 1
    tau_max: float = TAU_MAX
    weight_stride: int = 1
    surprise: float | None = None  # innovation, in expected deviations, that widens the spread; None: never
    path_weights: bool = False  # draws are resampled by their exact weights; few variables
    linearisation: str = "members"  # or regression, with coupling transform: what of h is not linear counts as error
    conditioning_level: float | str | None = None  # with coupling none: a number, or spread, as null for such weights
    max_observations: int = 4000  # the dense S of 4000 observations takes 0.13 GB

    def __post_init__(self) -> None:
        self._localization()  # checks radius, inflation, stride and linearisation
        name = "interpolant_filter"
        is_free = self.weight_stride == 1 or self.coupling == "transform"
        require(is_free, "weight_stride", self.weight_stride, expected="1, or coupling transform", scheme=name)
        is_free = self.linearisation == "members" or self.coupling == "transform"
        require(is_free, "linearisation", self.linearisation, expected="members, or coupling transform", scheme=name)
        require(self.passes >= 1, "passes", self.passes, expected="1 or more", scheme=name)
        require_tau_options(self.tau_points, self.tau_max, where=f"scheme {name}")
        most = self.max_observations
        require(most >= 1, "max_observations", most, expected="a whole number from 1", scheme=name)
        require(self.coupling in COUPLINGS, "coupling", self.coupling, expected=" or ".join(COUPLINGS), scheme=name)
        is_surprise = self.surprise is None or self.surprise > 1.0
        require(is_surprise, "surprise", self.surprise, expected="above 1, or null", scheme=name)
        gammas = "0 (weights alone) to 1 (coupling alone)"
        require(0.0 <= self.gamma <= 1.0, "gamma", self.gamma, expected=gammas, scheme=name)
        is_share = self.least_share is None or 0.0 < self.least_share < 1.0
        require(is_share, "least_share", self.least_share, expected="between 0 and 1, or null", scheme=name)
        is_local = self.localization_radius_km is not None or self.localization_radius_cells is not None
        is_global = self.coupling not in OF_FEW_VARIABLES or not is_local
        expected = "no localization radius with it, or coupling transform"
        require(is_global, "coupling", self.coupling, expected=expected, scheme=name)
        require_level(self.conditioning_level, self.coupling)
        require_used(self, self.make_guidance())

    def make_guidance(self) -> Guidance:
        """Build the guidance; raises ConfigError for an unknown kind or option."""
        spec: GuidanceSpec = spec_of_block("guidance", self.guidance, where="scheme interpolant_filter, guidance")
        return spec.build()

    def build(self, context: SchemeContext) -> InterpolantFilter:
        """Build the scheme.

        Raises ConfigError unless the forecast model is a learned interpolant, and for weights or operators that the
        guidance or `surprise` cannot take.
        """
        if context.model is not None and not isinstance(context.model, InterpolantForecast):
            raise ConfigError(
                "scheme interpolant_filter: forecast.kind must be interpolant, for the scheme samples the learned "
                f"transition; got {type(context.model).__name__}. Use letkf with this forecast model"
            )
        radius = self._localization().radius(context.layout)
        guidance = self.make_guidance()
        require_possible(self, guidance, context)
        require_known_levels(self.conditioning_level, context)
        least = 2 if self.linearisation == "members" else 3
        if self.coupling == "mixture":
            least = least_members(context)
        needs = Needs(
            couples_members=True,
            previous=True,
            linear_operators=guidance.linear_only,
            gradient=self.path_weights,
            n_members=least,
        )
        coupling = Coupling(
            self.coupling,
            self.passes,
            self.gamma,
            self.least_share,
            radius,
            self.weight_stride,
            self.surprise,
            self.linearisation,
        )
        return InterpolantFilter(self, coupling, tau_grid(self.tau_points, self.tau_max), guidance, needs)

    def _localization(self) -> LetkfSpec:
        return LetkfSpec(
            localization_radius_km=self.localization_radius_km,
            localization_radius_cells=self.localization_radius_cells,
            inflation=self.inflation,
            weight_stride=self.weight_stride,
            linearisation=self.linearisation,
        )


@dataclass(frozen=True)
class InterpolantFilter:
    """The filter with fixed settings."""

    settings: InterpolantFilterSpec
    coupling: Coupling
    taus: tuple[float, ...]
    guidance: Guidance
    needs: Needs

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Analyse the window; without observations return the background bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite, without a previous analysis, or for more
        observations than allowed.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        self._require_room(observations)
        background, name = prior.background, "interpolant_filter"
        hx = finite_hx(background.latest, observations, scheme=name)
        report = innovation_diagnostics(observations.values - hx.mean(dim=0), hx.var(dim=0), observations=observations)
        model, frames = last_step(prior, noise, scheme=name)
        if self.settings.coupling == "none":
            model, level = at_level(model, frames, self.settings.conditioning_level)
            report |= level
        members = MemberNoise(noise, background.members, "guided", device=frames.device)
        known = self._known_inflation(carry, background.layout)
        inflation = self.settings.inflation if known is None else known.factor
        coupled = self.coupling.move(model, frames, observations, noise=members, inflation=inflation)
        drawn = last_draw(prior, model, noise, device=frames.device)
        report |= coupled.report
        if self.settings.path_weights:
            analysed, told = self._weighed(model, coupled.frames, observations, drawn)
            report |= told
        else:
            analysed = self.sample(model, coupled.frames, observations, drawn, gram=coupled.predictive.shared)
        require_finite(analysed, layout=background.layout, scheme=name)
        if known is not None:
            report |= known.diagnostics()
            carry = {**carry, **self._learn(known, coupled.predictive, observations).carried()}
        report["dof_signal"] = dof_signal(observations.hx(analysed.to(torch.float64)), observations.error_variance)
        return conclude(background, analysed, carry=carry, report=report)

    def sample(
        self,
        model: InterpolantForecast,
        frames: Tensor,
        observations: Observations,
        noise: MemberNoise,
        *,
        gram: Tensor | None = None,
    ) -> Tensor:
        """One guided draw of the next state from every member."""
        prediction = self._widened(model.transition.predict(frames), observations)
        noise = replace(noise, device=prediction.mean.device)
        guided = Guided(prediction, observations, noise, self.taus, gram, model.climatology)
        return prediction.to_state(self.guidance.residual(guided))

    def _weighed(
        self, model: InterpolantForecast, frames: Tensor, observations: Observations, noise: MemberNoise
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Guided draws, resampled by their exact weights; and the effective share of these."""
        prediction = self._widened(model.transition.predict(frames), observations)
        predictive = predict_observations(prediction, observations)
        linearised = linearised_guidance(self.guidance)
        assert linearised is not None  # `require_possible` saw to it
        draws = WeightedDraws(self.taus, GAUSSIAN, linearised.iterations, linearised.caution)
        states, total = draws(prediction, observations, replace(noise, device=prediction.mean.device))
        left = total - predictive.log_density(observations.values, observations.error_variance)
        uniform = float(noise.noise.generator("resampling", step=1).random())
        return states[systematic_resampling(left, uniform=uniform)], {"second_effective_share": effective_share(left)}

    def _widened(self, prediction: Prediction, observations: Observations) -> Prediction:
        """The prediction, with more spread where observations lie far outside what it expects."""
        if self.settings.surprise is None or self.coupling.kind in OF_FEW_VARIABLES:
            return prediction
        if not isinstance(prediction, WidenedPrediction) or not observations.is_linear:
            raise AnalysisFailed(
                "interpolant_filter: surprise needs linear operators and a transition whose spread differs from place "
                "to place (weights of kind advected), or a coupling for few variables; leave it out"
            )
        hx = observations.hx(prediction.mean.to(torch.float64))
        variance = prediction.observed_variance(observations)
        least = Surprise(self.settings.surprise).least_std(observations, hx, variance, like=prediction.mean)
        return prediction if least is None else prediction.widened(least)

    def _known_inflation(self, carry: Mapping[str, Tensor], layout: Layout) -> InflationField | None:
        """Factors that were carried here, or the first ones; None when they do not adapt."""
        settings = self.settings.adaptive_inflation
        return (
            None if settings is None else read_inflation(carry, settings, start=self.settings.inflation, layout=layout)
        )

    def _learn(self, known: InflationField, predictive: Predictive, observations: Observations) -> InflationField:
        """Factors for the next cycle; the transition's own variance counts as error, for inflation cannot touch it."""
        assert self.settings.adaptive_inflation is not None
        error = observations.error_variance + predictive.variance
        hx = predictive.hx
        if self.coupling.kind in INFLATED_FIRST:  # everywhere alike, before they predicted
            hx = inflate(hx, 1.0 / float(known.factor.mean()))
        innovations = Innovations.of(hx, observations, error)
        settings, layout = self.settings.adaptive_inflation, observations.layout
        return update_inflation(known, innovations, settings, layout=layout, radius=self.coupling.radius)

    def _require_room(self, observations: Observations) -> None:
        limit = self.settings.max_observations
        if len(observations) > limit:
            raise AnalysisFailed(
                f"interpolant_filter: {len(observations)} observations exceed max_observations {limit}; "
                "thin them or raise the limit (memory grows with its square)"
            )
