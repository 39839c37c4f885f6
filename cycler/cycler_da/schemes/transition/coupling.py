"""Coupling: members at the previous time are moved by what they predicted of the observations.

The factor p(y | x_i) of the filter (`predictive`), given to the members in two parts:

    p(y | x_i)^gamma         moves them, in n passes with covariance n S / gamma each
        transform               lag-1 LETKF with localization; of S the diagonal
        local_weights           weights of every grid point, as a transform (LNETF); of S the diagonal
        square_root             lag-1 square-root smoother with the whole S, localization of P (`root_smoother`)
        perturbed_observations  lag-1 smoother with the whole S, no localization (`lag_smoother`)
        none                    nothing moves, nothing is weighed
        mixture                 all of p(y | x_i) at once, kernel by kernel (`mixture_smoother`): no gamma, no passes
    p(y | x_i)^(1 - gamma)   resamples them, systematically, after they moved

With perturbed observations and mixtures, members that lost their track are widened first (`surprise`, see `widening`).
`least_share` raises gamma in a cycle to 1 - a, a the largest exponent that leaves the weights p(y | x_i)^a of the
members where they stood that effective share; local weights it tempers point by point (`schemes.local_particle`).
A random rotation, the same everywhere, follows local weights: members move also where nothing is observed.
Sources: Hunt et al. (2007), Physica D 230 (transform); Toedter, Ahrens (2015), Mon. Wea. Rev. 143, 1347-1367 (local
weights); Frei, Kuensch (2013), Biometrika 100, 781-800, who give the part gamma of a likelihood to an EnKF and the rest
to weights, and choose gamma by the share of effective members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.resampling import (
    effective_share,
    log_evidence,
    n_ancestors,
    systematic_resampling,
    tempering_exponent,
)
from cycler_da.obs.base import Observations
from cycler_da.obs.curves import uncurved
from cycler_da.schemes.ensemble.ensemble_transform import transform_weights
from cycler_da.schemes.ensemble.inflation import inflate
from cycler_da.schemes.ensemble.lag_smoother import smooth
from cycler_da.schemes.ensemble.local_weights import DenseUpdate
from cycler_da.schemes.ensemble.mixture_smoother import kernels_of
from cycler_da.schemes.ensemble.perturbed_observations import perturbations
from cycler_da.schemes.ensemble.root_smoother import smooth_by_roots
from cycler_da.schemes.ensemble.rotation import rotate
from cycler_da.schemes.ensemble.statistical_linearisation import linear_part
from cycler_da.schemes.local_particle import square_root_update
from cycler_da.schemes.transition.predictive import Predictive, predict_observations
from cycler_da.schemes.transition.widening import widening

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

COUPLINGS = ("transform", "local_weights", "square_root", "perturbed_observations", "mixture", "none")
#: Those whose members are inflated everywhere, before they predict; the transform inflates where it moves.
INFLATED_FIRST = ("square_root", "perturbed_observations", "mixture")
#: Those without localization, for few variables; `surprise` widens their whole ensemble.
OF_FEW_VARIABLES = ("perturbed_observations", "mixture")
#: Share of the members that are near a member of a mixture, and how many more than variables they are at least.
NEAR, MORE_NEAR = 1 / 4, 2


@dataclass(frozen=True)
class Coupled:
    """Members moved by the predictive likelihood, and what was found on the way."""

    frames: Float[Tensor, "member time channel *space"]
    predictive: Predictive  # of the members before they moved
    report: Mapping[str, float]


@dataclass(frozen=True)
class Coupling:
    """One way of moving members, with fixed settings."""

    kind: str  # of COUPLINGS
    passes: int
    gamma: float
    least_share: float | None  # of all members, or of local_weights at every point
    radius: float | None  # Gaspari-Cohn half-width, axis units
    weight_stride: int
    surprise: float | None = None  # expected deviations, of OF_FEW_VARIABLES
    linearisation: str = "members"  # of `statistical_linearisation`, of transform

    def move(
        self,
        model: InterpolantForecast,
        frames: Float[Tensor, "member time channel *space"],
        observations: Observations,
        *,
        noise: MemberNoise,
        inflation: float | Float[Tensor, "field *space"] = 1.0,
    ) -> Coupled:
        """Move frames by the predictive likelihood; their anomalies are inflated before (with gamma 0 that alone)."""
        if self.kind in INFLATED_FIRST:
            frames = inflate(frames, inflation)
        predictive = predict_observations(model.transition.predict(frames), observations)
        values, variance = observations.values, observations.error_variance
        report: dict[str, float] = {}
        if self.kind in OF_FEW_VARIABLES and self.surprise is not None:
            covariance = predictive.mean_covariance(variance)
            report["widening"] = factor = widening(predictive.hx, values, covariance, deviations=self.surprise)
            if factor > 1.0:
                frames = inflate(frames, factor)
                predictive = predict_observations(model.transition.predict(frames), observations)
        if predictive.is_full:
            report["log_evidence"] = log_evidence(predictive.log_density(values, variance))
        if self.kind == "none":
            return Coupled(frames, predictive, report)
        if self.kind == "mixture":
            passes = _Passes(model, observations, 1.0, noise)
            frames = self._mixed(passes, frames[:, -model.history :], predictive, report)
            return Coupled(frames, predictive, report)
        report["gamma"] = gamma = self._gamma(predictive, observations)
        if gamma > 0.0:
            passes = _Passes(model, observations, self.passes / gamma, noise)
            frames = self._in_passes(passes, frames[:, -model.history :], predictive, inflation)
        elif self.kind == "transform":
            frames = inflate(frames, inflation)
        if gamma == 1.0:
            return Coupled(frames, predictive, report)
        moved = predict_observations(model.transition.predict(frames), observations)
        weights = (1.0 - gamma) * moved.log_density(values, variance)
        report["effective_share"] = effective_share(weights)
        kept = systematic_resampling(weights, uniform=float(noise.noise.generator("resampling").random()))
        report["ancestors"] = n_ancestors(kept)
        return Coupled(frames[kept], predictive, report)

    def _mixed(self, passes: _Passes, frames: Tensor, predictive: Predictive, report: dict[str, float]) -> Tensor:
        """Frames moved and weighed kernel by kernel; one more pass of the transition, from the centres of kernels."""
        observations, noise = passes.observations, passes.noise
        values, members, n = observations.values, tuple(noise.members), len(frames)
        n_near = neighbours(n, frames[0].numel())
        kernels = kernels_of(frames, predictive.hx, n_neighbours=n_near)
        centres = kernels.centres.view(frames.shape).to(frames.dtype)
        seen = predict_observations(passes.model.transition.predict(centres), observations)
        mixture = kernels.seen(seen.hx, seen.covariances(observations.error_variance))
        weights = mixture.log_weights(values)
        report["effective_share"] = effective_share(weights)
        kept = systematic_resampling(weights, uniform=float(noise.noise.generator("resampling").random()))
        report["ancestors"] = n_ancestors(kept)
        ones = torch.ones_like(values)
        moved = mixture.moved(
            values,
            kept,
            perturbations=perturbations(ones, members=members, noise=noise.noise, stream="coupling.0"),
            dressing=noise.noise.normal("dressing", (n_near,), members=members, dtype=torch.float64).to(values.device),
        )
        return moved.view(frames.shape).to(frames.dtype)

    def _gamma(self, predictive: Predictive, observations: Observations) -> float:
        """The fraction of the log-evidence that moves members in this cycle."""
        if self.least_share is None or self.gamma == 1.0:
            return self.gamma
        weights = predictive.log_density(observations.values, observations.error_variance)
        return max(self.gamma, 1.0 - tempering_exponent(weights, share=self.least_share))

    def _in_passes(self, passes: _Passes, frames: Tensor, predictive: Predictive, inflation: float | Tensor) -> Tensor:
        """Frames after all passes, with predictions made anew in each."""
        for i_pass in range(self.passes):
            if i_pass > 0:
                hx = passes.observations.hx(passes.model.transition.predict(frames).mean.to(torch.float64))
                predictive, inflation = replace(predictive, hx=hx), 1.0
            if self.kind == "local_weights":
                frames = self._transform(passes, frames, predictive, inflation)
                frames = rotate(frames, noise=passes.noise.noise, stream=f"coupling.rotation.{i_pass}")
            elif self.kind == "transform":
                signal = self._signal(passes, frames, predictive)
                frames = self._transform(passes, frames, signal, inflation)
            elif self.kind == "square_root":
                frames = passes.smooth_by_roots(frames, predictive, self.radius)
            else:
                frames = passes.smooth(frames, predictive, i_pass)
        return frames

    def _signal(self, passes: _Passes, frames: Tensor, predictive: Predictive) -> Predictive:
        """The predictive likelihood with what of h is not linear counted as error, if so asked."""
        if self.linearisation == "members":
            return predictive
        mean = passes.model.transition.predict(frames).mean
        hx, rest = linear_part(predictive.hx, uncurved(passes.observations).hx(mean.to(torch.float64)))
        return replace(predictive, hx=hx, variance=predictive.variance + rest)

    def _transform(self, passes: _Passes, frames: Tensor, predictive: Predictive, inflation: float | Tensor) -> Tensor:
        """Lag-1 transform of the frames."""
        observations = passes.observations
        transform = transform_weights(
            predictive.hx,
            observations.values,
            error_variance=passes.factor * (predictive.variance + observations.error_variance),
            positions=observations.positions,
            layout=observations.layout,
            radius=self.radius,
            weight_stride=self.weight_stride,
            inflation=inflation,
            update=self._update(),
        )
        return transform.apply(frames)

    def _update(self) -> DenseUpdate | None:
        """What takes the place of the Kalman weights."""
        return partial(square_root_update, share=self.least_share or 0.0) if self.kind == "local_weights" else None


def neighbours(n_members: int, n_variables: int) -> int:
    """How many members are near a member of a mixture; raises AnalysisFailed where they are too few."""
    least = n_variables + MORE_NEAR
    if n_members < least:
        raise AnalysisFailed(
            f"interpolant_filter: coupling mixture needs {least} members for {n_variables} variables, and there are "
            f"{n_members}; take more members or another coupling"
        )
    return max(least, round(NEAR * n_members))


@dataclass(frozen=True)
class _Passes:
    """What stays the same from pass to pass; `factor` multiplies S."""

    model: InterpolantForecast
    observations: Observations
    factor: float
    noise: MemberNoise

    def smooth(self, frames: Tensor, predictive: Predictive, i_pass: int) -> Tensor:
        """Lag-1 smoother of the frames with perturbed observations."""
        values, members = self.observations.values, tuple(self.noise.members)
        stream = f"coupling.{i_pass}"
        return smooth(
            frames,
            predictive.hx,
            values,
            covariance=self._covariance(predictive),
            perturbations=perturbations(
                torch.ones_like(values), members=members, noise=self.noise.noise, stream=stream
            ),
        )

    def smooth_by_roots(self, frames: Tensor, predictive: Predictive, radius: float | None) -> Tensor:
        """Lag-1 smoother of the frames by square roots."""
        covariance = self._covariance(predictive)
        return smooth_by_roots(frames, predictive.hx, self.observations, covariance=covariance, radius=radius)

    def _covariance(self, predictive: Predictive) -> Tensor:
        """The S of one pass."""
        return self.factor * predictive.mean_covariance(self.observations.error_variance)
