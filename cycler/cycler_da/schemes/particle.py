"""Bootstrap particle filter: members are weighted by the likelihood and drawn again when few carry the weight.

    log w_i <- log w_i - sum (y - H(x_i))^2 / 2r,   normalised;        ESS = 1 / sum w_i^2
When ESS < threshold * N, members are drawn anew (systematic, stratified or residual resampling, see
`generative.resampling`), all weights become 1/N, and of each member that was drawn more than once all copies are moved
apart by
    b N^(-1/(n + 4)) C^1/2 xi,   C the weighted unbiased covariance (denominator 1 - sum w^2),   n = size of state
(a Gaussian kernel with the bandwidth of density estimation times b, `regularisation`). Where n >= N, C^1/2 xi is a
random combination of the weighted anomalies, and C is never formed.
Source: Gordon, Salmond and Smith (1993), IEE Proc. F 140; regularisation: Musso, Oudjane and Le Gland (2001), with
`regularise: all`, and Raanes et al. (2024), JOSS 9 (DAPPER), whose rule that only copies are moved is the default.
Where one member carries all weight, C is the unweighted covariance.

Errors are Gaussian, or of another law of `obs.error_laws` (`error_law`): log p(y - H(x_i)) in the place of the square.

The log weights are carried from cycle to cycle. With the default threshold of 1 every cycle ends with equal weights,
and the members can be used as any ensemble. Below 1 the members of products are to be read with the carried weights.
Limits: the ensemble collapses unless N grows as exp(tau^2 / 2), tau^2 the variance of the log likelihood over
members (Snyder et al. 2008, Mon. Wea. Rev. 136): for few variables. History frames are not drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.resampling import RESAMPLING, resample
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.error_laws import GAUSSIAN, ErrorLaw
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import innovation_diagnostics
from cycler_da.schemes.frame.settings import require, require_share
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2, resamples=True)
#: Name of the carried tensor `(member,)`: logarithms of the weights, whose sum is 1.
LOG_WEIGHTS = "log_weights"
#: One member carries all weight when the others have less than this together.
DEGENERATE = 1e-10
REGULARISED = ("copies", "all")


@register("scheme", "particle")
@dataclass(frozen=True, kw_only=True)
class ParticleSpec(Spec):
    """Options of the particle filter."""

    resample_threshold: float = 1.0  # of ESS / N, below which members are drawn again
    regularisation: float = 1.0  # factor on the bandwidth; 0 for models with noise of their own
    regularise: str = "copies"  # or all, the regularised particle filter
    resampling: str = "systematic"  # or stratified, residual
    error_law: str = "gaussian"  # of `obs.error_laws`, of all observations
    law_shape: float | None = None  # of the log-normal

    def __post_init__(self) -> None:
        self.law()
        require_share("resample_threshold", self.resample_threshold, scheme="particle")
        name, got = "regularisation", self.regularisation
        require(got >= 0, name, got, expected="a factor of 0 or more", scheme="particle")
        for name, choices in (("regularise", REGULARISED), ("resampling", tuple(RESAMPLING))):
            got_name = getattr(self, name)
            require(got_name in choices, name, got_name, expected=" or ".join(choices), scheme="particle")

    def law(self) -> ErrorLaw:
        """Law of the observation errors; raises ConfigError for one that does not exist."""
        return ErrorLaw(self.error_law, self.law_shape)

    def build(self, context: SchemeContext) -> ParticleFilter:
        """Build the scheme for a layout."""
        return ParticleFilter(self, context.layout)


@dataclass(frozen=True)
class ParticleFilter:
    """The bootstrap particle filter with fixed settings."""

    settings: ParticleSpec
    layout: Layout
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Weight the members, and draw them again when needed; without observations return the background.

        Raises AnalysisFailed when H(x) is not finite, or the carried weights are not those of the members.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme="particle")
        before = carried_log_weights(carry, n_members=background.n_members).to(hx.device)
        log_joint = before + log_likelihood(hx, observations, self.settings.law())
        log_weights = log_joint.log_softmax(dim=0)
        weights = log_weights.exp()
        report = self._report(hx, before, weights, observations=observations)
        report["log_evidence"] = float(log_joint.logsumexp(dim=0))
        analysed, is_resampled = background.latest, report["ess"] < self.settings.resample_threshold * len(weights)
        report["resampled"] = float(is_resampled)
        if is_resampled:
            analysed = self._resample(background.latest, weights, noise=noise)
            log_weights = torch.full_like(log_weights, -math.log(len(weights)))
        require_finite(analysed, layout=self.layout, scheme="particle")
        carried = {**carry, LOG_WEIGHTS: log_weights.cpu()}
        return conclude(background, analysed, carry=carried, report=report)

    def _report(self, hx: Tensor, before: Tensor, weights: Tensor, *, observations: Observations) -> dict[str, float]:
        prior_mean, prior_variance = weighted_moments(hx, before.exp())
        _, variance = weighted_moments(hx, weights)
        innovations = observations.values.to(hx.device) - prior_mean
        report = innovation_diagnostics(innovations, prior_variance, observations=observations)
        # var(H(x_a)) / r may pass 1 in a law with several peaks: each observation counts once at most.
        ratio = (variance / observations.error_variance.to(hx.device)).clamp_max(1)
        ess = float(1 / weights.square().sum())
        return {**report, "dof_signal": float(ratio.sum()), "ess": ess, "max_weight": float(weights.max())}

    def _resample(self, states: Tensor, weights: Tensor, *, noise: Noise) -> Tensor:
        how, generator = self.settings.resampling, noise.generator("particle.resampling")
        index = resample(weights.log(), how=how, generator=generator)
        x = states.to(torch.float64).flatten(1)
        drawn = x[index]
        is_moved = torch.ones_like(index, dtype=torch.bool)
        if self.settings.regularise == "copies":
            is_moved = torch.bincount(index, minlength=len(index))[index] > 1
        n_moved = int(is_moved.sum())
        if self.settings.regularisation > 0 and n_moved:
            root = covariance_root(x, weights)
            z = noise.shared_normal("particle.regularisation", (n_moved, len(root)), dtype=torch.float64)
            bandwidth = self.settings.regularisation * len(weights) ** (-1 / (x.shape[1] + 4))
            drawn[is_moved] += bandwidth * (z.to(x.device) @ root)
        return drawn.view(states.shape).to(states.dtype)


def carried_log_weights(carry: Mapping[str, Tensor], *, n_members: int) -> Float[Tensor, "member"]:
    """Log weights from the cycle before, equal ones at the start; raises AnalysisFailed when they do not fit."""
    if LOG_WEIGHTS not in carry:
        return torch.full((n_members,), -math.log(n_members), dtype=torch.float64)
    log_weights = carry[LOG_WEIGHTS].to(torch.float64)
    if tuple(log_weights.shape) != (n_members,):
        raise AnalysisFailed(
            f"particle: the carried {LOG_WEIGHTS} have shape {tuple(log_weights.shape)}; expected ({n_members},), one "
            "for each member. Start the chain anew, or keep the number of members."
        )
    return log_weights


def weighted_mean(
    background: Float[Tensor, "member channel *space"], observations: Observations, *, carry: Mapping[str, Tensor]
) -> Float[Tensor, "channel *space"]:
    """Mean of the analysis by the weights, before members are drawn again: without the noise of the draw."""
    hx = finite_hx(background, observations, scheme="particle")
    before = carried_log_weights(carry, n_members=len(background)).to(hx.device)
    weights = (before + log_likelihood(hx, observations)).softmax(dim=0)
    return torch.tensordot(weights, background.to(torch.float64), dims=1)


def log_likelihood(
    hx: Float[Tensor, "member obs"], observations: Observations, law: ErrorLaw = GAUSSIAN
) -> Float[Tensor, "member"]:
    """log p(y | x_i) of every member, constants included; errors are independent, of one law.

    Raises AnalysisFailed when no member could have been seen like this, which laws without tails allow.
    """
    std = observations.error_variance.to(hx.device).sqrt()
    found = (law.log_density((observations.values.to(hx.device) - hx) / std) - std.log()).sum(dim=1)
    if not torch.isfinite(found).any():
        raise AnalysisFailed(
            f"errors of law {law.words}: no member of {len(hx)} can have been seen like these {len(std)} observations; "
            "take larger errors, more members, or a law with tails"
        )
    return found


def weighted_moments(
    x: Float[Tensor, "member n"], weights: Float[Tensor, "member"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Mean and variance (biased: its denominator is the sum of the weights, 1)."""
    mean = weights @ x
    return mean, weights @ (x - mean) ** 2


def covariance_root(x: Float[Tensor, "member n"], weights: Float[Tensor, "member"]) -> Float[Tensor, "root n"]:
    """Rows whose products sum to the weighted covariance: N of them, or n where that is less."""
    anomalies = weighted_anomalies(x, weights)
    if x.shape[1] >= len(x):
        return anomalies
    values, vectors = torch.linalg.eigh(anomalies.mT @ anomalies)
    return (vectors * values.clamp_min(0).sqrt()).mT


def weighted_anomalies(x: Float[Tensor, "member n"], weights: Float[Tensor, "member"]) -> Float[Tensor, "member n"]:
    """Rows whose products sum to the unbiased weighted covariance; unweighted where one member has all weight."""
    if 1 - float(weights.max()) < DEGENERATE:
        weights = torch.full_like(weights, 1 / len(weights))
    scale = (weights / (1 - weights.square().sum())).sqrt()
    return scale[:, None] * (x - weights @ x)
