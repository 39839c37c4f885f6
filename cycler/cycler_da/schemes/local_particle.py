"""Local particle filter: every grid point weighs the members by the observations near it.

With the taper rho (Gaspari-Cohn) of point x and the error variances r, over the observations p,
    log w_i(x) = -1/2 beta sum_p rho_p(x) (y_p - H_p(x_i))^2 / r_p,   normalised over members
    x_a,i = sum_j w_j x_j + sqrt(N) sum_j [diag(w) - w w^T]^1/2_ij x_j
which has exactly the weighted mean, and the weighted covariance sum w (x - mean)^2 times N / (N - 1) in the unbiased
estimate: the local nonlinear ensemble transform filter (LNETF). Weights vary with position as in the LETKF, on every
n-th grid point with `weight_stride` and linear between. A random rotation that is the same everywhere follows.
Source: Toedter and Ahrens (2015), Mon. Wea. Rev. 143, 1347-1367; beside filters that draw members again in every
place, which need noise to tell copies apart: Farchi and Bocquet (2018), Nonlin. Processes Geophys. 25, 765-807.

beta is 1, or with `effective_share` the largest exponent at which 1 / sum w^2 >= share * N at the point: accurate
observations then no longer leave one member, at the cost of weights that are too even (a tempered likelihood).
Order: background anomalies are inflated before the weights, then RTPS, inflation of the analysis, rotation.
Limits: without enough members near each point the spread collapses; moments above the second are not kept; observation
errors are uncorrelated and Gaussian; observations act at the background's last time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.resampling import effective_share
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.ensemble_transform import LocalTransform, transform_weights
from cycler_da.schemes.ensemble.inflation import inflate_moved, relax_to_prior_spread
from cycler_da.schemes.ensemble.rotation import rotate
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_estimate, innovation_diagnostics
from cycler_da.schemes.frame.settings import axis_radius, require, require_inflation, require_share
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.particle import log_likelihood

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2, resamples=True)
#: Halvings of the interval of beta: to about 1e-6.
HALVINGS = 21


@register("scheme", "local_particle")
@dataclass(frozen=True, kw_only=True)
class LocalParticleSpec(Spec):
    """Options; the radius is the Gaspari-Cohn half-width, in km or grid cells; neither: one set of weights."""

    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    effective_share: float = 0.0  # least 1 / (N sum w^2) at every point; 0 for weights as they are
    inflation: float = 1.0  # factor on background anomalies
    rtps: float = 0.0
    analysis_inflation: float = 1.0  # factor on analysis anomalies
    rotation: bool = True  # random, the same everywhere
    weight_stride: int = 1  # weights on every n-th grid point, linear between

    def __post_init__(self) -> None:
        name = "local_particle"
        share = self.effective_share
        require(0 <= share < 1, "effective_share", share, expected="a number from 0 to below 1", scheme=name)
        require_inflation(self.inflation, scheme=name)
        require_inflation(self.analysis_inflation, scheme=name, name="analysis_inflation")
        require_share("rtps", self.rtps, scheme=name)
        stride = self.weight_stride
        require(stride >= 1, "weight_stride", stride, expected="a whole number from 1", scheme=name)

    def build(self, context: SchemeContext) -> LocalParticle:
        """Build the scheme; raises ConfigError when the radius does not fit the grid."""
        km, cells = self.localization_radius_km, self.localization_radius_cells
        radius = axis_radius(context.layout, km=km, cells=cells, scheme="local_particle")
        return LocalParticle(self, context.layout, radius)


@dataclass(frozen=True)
class LocalParticle:
    """The local particle filter with fixed settings."""

    settings: LocalParticleSpec
    layout: Layout
    radius: float | None  # Gaspari-Cohn half-width, axis units
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Weigh and transform the members; without observations return the background bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme="local_particle")
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        report["global_effective_share"] = effective_share(log_likelihood(hx, observations))
        moved = self._transform(hx, observations).apply(background.latest)
        require_finite(moved, layout=self.layout, scheme="local_particle")
        report["dof_signal"] = dof_estimate(observations.hx(moved.to(torch.float64)), observations.error_variance)
        analysed = relax_to_prior_spread(moved, background.latest, amount=self.settings.rtps)
        is_moved = moved != background.latest
        analysed = inflate_moved(analysed, self.settings.analysis_inflation, is_moved=is_moved)
        if self.settings.rotation:
            analysed = rotate(analysed, noise=noise, stream="local_particle.rotation")
        return conclude(background, analysed, carry=carry, report=report)

    def _transform(self, hx: Tensor, observations: Observations) -> LocalTransform:
        return transform_weights(
            hx,
            observations.values,
            error_variance=observations.error_variance,
            positions=observations.positions,
            layout=self.layout,
            radius=self.radius,
            weight_stride=self.settings.weight_stride,
            inflation=self.settings.inflation,
            update=partial(square_root_update, share=self.settings.effective_share),
        )


def square_root_update(
    s: Float[Tensor, "point member obs"], b: Float[Tensor, "point obs"], *, share: float
) -> Float[Tensor, "point member member"]:
    """sqrt(N) [diag(w) - w w^T]^1/2 + 1 w^T - I at every point."""
    w = local_weights(s, b, share=share)
    n_members = w.shape[1]
    values, vectors = torch.linalg.eigh(torch.diag_embed(w) - w[:, :, None] * w[:, None, :])
    # 1 is in the kernel: rounding of its eigenvalue, 0, would move the mean by the root of that.
    values = torch.where(values > n_members * torch.finfo(values.dtype).eps, values, 0.0)
    root = (vectors * values.sqrt()[:, None, :]) @ vectors.mT
    update = n_members**0.5 * root + w[:, None, :]
    update.diagonal(dim1=1, dim2=2).sub_(1)
    return update


def local_weights(
    s: Float[Tensor, "point member obs"], b: Float[Tensor, "point obs"], *, share: float
) -> Float[Tensor, "point member"]:
    """Weights at every point from the scaled anomalies and innovations, tempered to an effective share."""
    n_members = s.shape[1]
    log_likelihood = -0.5 * (b[:, None, :] - (n_members - 1) ** 0.5 * s).square().sum(dim=2)
    if share == 0:
        return log_likelihood.softmax(dim=1)
    low = torch.zeros_like(log_likelihood[:, :1])
    high, middle = torch.ones_like(low), torch.ones_like(low)
    for _ in range(HALVINGS):
        is_even = _share(middle * log_likelihood) >= share
        low, high = torch.where(is_even, middle, low), torch.where(is_even, high, middle)
        middle = 0.5 * (low + high)
    return (low * log_likelihood).softmax(dim=1)


def _share(log_weights: Tensor) -> Tensor:
    return 1 / (log_weights.shape[1] * log_weights.softmax(dim=1).square().sum(dim=1, keepdim=True))
