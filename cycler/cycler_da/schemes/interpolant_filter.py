"""Interpolant filter: members are coupled first, then sampled under guidance.

The filtering density of a learned transition p(x' | x) has two factors for every member,

    p(x, x' | y) ~ p(y | x) p(x' | x, y)

and guided sampling gives the second alone. Members at the previous time must first be moved by the first,
the predictive likelihood, which under the learned model is Gaussian:

    1. H(mu(x_i)) of every member, mu the mean of the transition
    2. lag-1 LETKF of the members x_i (and their history) on y with error variance diag(R + H C0 H^T),
       in n passes with n times that variance each
    2b. with gamma < 1 the transform is given that fraction of the log-evidence (variance / gamma), and the members
       are resampled by the rest, N(y; H(mu(x_i)), S)^(1 - gamma): low dimension only, where weights do not collapse
    3. one draw of x' from every moved member, guided by y (conjugate endpoint update with C0 and R)

For linear-Gaussian systems it is the Kalman filter, exact for large ensembles. y enters both factors and
is not counted twice, because C0 stands in the predictive likelihood.
Sources: the optimal proposal and its weight, Doucet, Godsill, Andrieu (2000), Stat. Comput. 10, 197-208;
the transform, Hunt et al. (2007), Physica D 230; conjugate guidance, `generative.guidance`.

Departures: the off-diagonal part of H C0 H^T is left out of the transform (it localises R). Limits: linear
operators; keep inflation at 1.05 or less, for the lag lets it grow through the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.localisation import MemberNoise, localise, tau_grid
from cycler_da.generative.path_weights import log_normal
from cycler_da.generative.prediction import Prediction
from cycler_da.generative.resampling import effective_share, systematic_resampling
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.checks import finite_hx, require_finite
from cycler_da.schemes.diagnostics import dof_signal, field_diagnostics, innovation_diagnostics
from cycler_da.schemes.ensemble_transform import transform_weights
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.last_step import last_step
from cycler_da.schemes.letkf import LetkfSpec

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=True, previous=True, linear_operators=True, n_members=2)


@register("scheme", "interpolant_filter")
@dataclass(frozen=True, kw_only=True)
class InterpolantFilterSpec(Spec):
    """Options. The localization radius is a Gaspari-Cohn half-width in km or in grid cells, as for the LETKF."""

    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    inflation: float = 1.02  # factor on the anomalies of the previous analysis
    passes: int = 1  # 2 where the step is strongly nonlinear
    gamma: float = 1.0  # fraction of the log-evidence given to the transform; less in low dimension
    tau_points: int = 1
    tau_max: float = 3.0
    weight_stride: int = 1
    max_observations: int = 4000  # the dense S of 4000 observations takes 0.13 GB

    def __post_init__(self) -> None:
        self._localization()  # checks radius, inflation and stride
        if self.passes < 1 or self.tau_points < 1:
            raise ConfigError(
                f"scheme interpolant_filter: passes is {self.passes}, tau_points {self.tau_points}; both are 1 or more"
            )

        if not 0.0 <= self.gamma <= 1.0:
            raise ConfigError(
                f"scheme interpolant_filter: gamma is {self.gamma}; expected 0 (weights alone) to 1 (transform alone)"
            )

    def build(self, context: SchemeContext) -> InterpolantFilter:
        """Build the scheme; raises ConfigError unless the forecast model is a learned interpolant."""
        if context.model is not None and not isinstance(context.model, InterpolantForecast):
            raise ConfigError(
                "scheme interpolant_filter: forecast.kind must be interpolant, for the scheme samples the learned "
                f"transition; got {type(context.model).__name__}. Use letkf with this forecast model"
            )
        radius = self._localization().radius(context.layout)
        return InterpolantFilter(self, radius, tau_grid(self.tau_points, self.tau_max))

    def _localization(self) -> LetkfSpec:
        return LetkfSpec(
            localization_radius_km=self.localization_radius_km,
            localization_radius_cells=self.localization_radius_cells,
            inflation=self.inflation,
            weight_stride=self.weight_stride,
        )


@dataclass(frozen=True)
class InterpolantFilter:
    """The filter with fixed settings."""

    settings: InterpolantFilterSpec
    radius: float | None  # Gaspari-Cohn half-width, axis units
    taus: tuple[float, ...]
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
        hx = finite_hx(background.latest, observations, scheme="interpolant_filter")
        report = innovation_diagnostics(observations.values - hx.mean(dim=0), hx.var(dim=0), observations=observations)
        channels = background.layout.channels
        model, frames = last_step(prior, noise, scheme="interpolant_filter")
        moved, share = self._couple(model, frames, observations, noise)
        analysed = self._sample(model, moved, observations, MemberNoise(noise, background.members, "guided"))
        require_finite(analysed, layout=background.layout, scheme="interpolant_filter")
        if self.settings.gamma < 1.0:
            report["effective_share"] = share
        report["dof_signal"] = dof_signal(observations.hx(analysed.to(torch.float64)), observations.error_variance)
        fields = field_diagnostics(background.latest, analysed, channels=channels)
        values = torch.cat([background.values[:, :-1], analysed.unsqueeze(1)], dim=1)
        return Analysis(background.with_values(values), carry, {**report, **fields})

    def _couple(
        self, model: InterpolantForecast, frames: Tensor, observations: Observations, noise: Noise
    ) -> tuple[Tensor, float]:
        """Frames moved by the predictive likelihood, and the effective share of the weights among it."""
        prediction = model.transition.predict(frames)
        predictive = prediction.observed_variance(observations) + observations.error_variance
        if self.settings.gamma > 0.0:
            frames = self._transform(model, frames, observations, prediction=prediction, predictive=predictive)
        if self.settings.gamma == 1.0:
            return frames, 1.0
        mean = model.transition.predict(frames).mean.to(torch.float64)
        evidence = log_normal(observations.values - observations.hx(mean), torch.diag(predictive))
        weights = (1.0 - self.settings.gamma) * evidence
        kept = systematic_resampling(weights, uniform=float(noise.generator("resampling").random()))
        return frames[kept], effective_share(weights)

    def _transform(
        self,
        model: InterpolantForecast,
        frames: Tensor,
        observations: Observations,
        *,
        prediction: Prediction,
        predictive: Tensor,
    ) -> Tensor:
        """Lag-1 transform of the frames under the predictive likelihood to the power gamma."""
        for i_pass in range(self.settings.passes):
            mean = (prediction if i_pass == 0 else model.transition.predict(frames)).mean
            transform = transform_weights(
                observations.hx(mean.to(torch.float64)),
                observations.values,
                error_variance=self.settings.passes * predictive / self.settings.gamma,
                positions=observations.positions,
                layout=model.layout,
                radius=self.radius,
                weight_stride=self.settings.weight_stride,
                inflation=self.settings.inflation if i_pass == 0 else 1.0,
            )
            frames = transform.apply(frames[:, -model.history :])
        return frames

    def _sample(
        self, model: InterpolantForecast, frames: Tensor, observations: Observations, noise: MemberNoise
    ) -> Tensor:
        """One guided draw of the next state from every member."""
        limit = self.settings.max_observations
        if len(observations) > limit:
            raise AnalysisFailed(
                f"interpolant_filter: {len(observations)} observations exceed max_observations {limit}; "
                "thin them or raise the limit (memory grows with its square)"
            )
        prediction = model.transition.predict(frames)
        noise = replace(noise, device=prediction.mean.device)
        draw = prediction.guided(observations, noise)
        return prediction.to_state(localise(draw, self.taus, like=prediction.blank(torch.float64), noise=noise))
