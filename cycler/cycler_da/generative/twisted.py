"""Twisted particle chains: guided members that are weighed, and resampled, on their way along tau.

The weights of a whole chain (`path_weights`) are a product over its steps. Where they are uneven, a chain that went
wrong early is carried to its end and thrown away there. Here each step multiplies by its own factor as soon as it is
known,

    log w += log N(y; H m_i, H C_i H^T + R) - log N(y; H m'_i-1, H C'_i-1 H^T + R)         at tau_i, i >= 1
    log w  = log N(y; H m_0, H C_0 H^T + R)                                                at tau = 0

(m', C' of the endpoint that the step before leaves when U_i is known), and members are resampled where their effective
share falls below `share`: the place of a copy is that of its ancestor, its noise its own. The product of the mean
weights between resamplings is an unbiased estimate of p(y), as without them. With the exact C_i of a Gaussian residual
every factor but the first is one.
Source: twisted particle filters, Guarniero, Johansen, Lee (2017), J. Am. Stat. Assoc. 112, 1636-1647; Whiteley and Lee
(2014), Ann. Stat. 42.
Limits: linear observations; S dense for each step; one more pass of the denoiser for each resampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.covariance import Covariance
from cycler_da.generative.guidance import ConjugateDraw, LinearObservation
from cycler_da.generative.localisation import EndpointModel, MemberNoise
from cycler_da.generative.path_weights import SharedSurrogate, log_normal
from cycler_da.generative.resampling import effective_share, log_evidence, systematic_resampling

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: An endpoint model and observations of what it draws, bound to some of the members, in their order.
Bound = tuple[EndpointModel, LinearObservation]
Bind = Callable[["Int[Tensor, 'member']"], Bound]


@dataclass(frozen=True)
class TwistedChains:
    """Endpoints of the chains, whose they are, and what is known of y."""

    endpoint: Float[Tensor, "member channel *space"]
    ancestors: Int[Tensor, "member"]
    log_weights: Float[Tensor, "member"]  # since the last resampling
    log_evidence: float  # of all members together, log p(y)
    n_resampled: int


@dataclass(frozen=True)
class KnownMean:
    """An endpoint model whose mean at one point is known already."""

    model: EndpointModel
    known: Float[Tensor, "batch channel *space"]

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """What is known."""
        return self.known

    def covariance(self, tau: float) -> Covariance:
        """That of the model."""
        return self.model.covariance(tau)


def localise_twisted(
    bound: Bound,
    bind: Bind,
    taus: Sequence[float],
    *,
    like: Float[Tensor, "member channel *space"],
    noise: MemberNoise,
    share: float,
    uniform: Callable[[int], float],
    has_first_weights: bool = True,
) -> TwistedChains:
    """Guided chains of all members over a tau grid, resampled where their effective share is below `share`.

    `bound` is of all members as they are, `bind` makes that of their ancestors; `like` gives shape, dtype and device,
    `uniform` the number in [0, 1) for the resampling at a step. Without first weights members are taken as they are:
    they have been drawn by p(y | x0) before.
    """
    ancestors, evidence, n_resampled = torch.arange(len(like), device=like.device), 0.0, 0
    model, seen = bound
    u = endpoint = torch.zeros_like(like)
    weights = torch.zeros(len(like), dtype=torch.float64, device=like.device)
    left: tuple[Tensor, Covariance] | None = None  # m', C' of the step before
    for step, tau in enumerate(taus):
        mean, covariance = model.mean(tau, u), model.covariance(tau)
        if left is not None:
            weights = weights + _log_twist(seen, mean, covariance) - _log_twist(seen, *left)
        elif has_first_weights:
            weights = _log_twist(seen, mean, covariance)
        if effective_share(weights) < share:
            kept = systematic_resampling(weights, uniform=uniform(step))
            evidence, n_resampled = evidence + log_evidence(weights), n_resampled + 1
            u, ancestors, weights = u[kept], ancestors[kept], torch.zeros_like(weights)
            model, seen = bind(ancestors)
            mean = model.mean(tau, u)
        endpoint = ConjugateDraw(KnownMean(model, mean), seen, noise)(tau, u, step=step)
        if step + 1 < len(taus):
            dt = taus[step + 1] - tau
            after = u + dt * endpoint + dt**0.5 * noise.normal("path", u.shape[1:], step=step)
            kept_covariance = covariance.damped(dt)
            left = (mean + kept_covariance.apply(after - u - dt * mean), kept_covariance)
            u = after
    return TwistedChains(endpoint, ancestors, weights, evidence + log_evidence(weights), n_resampled)


def _log_twist(seen: LinearObservation, mean: Tensor, covariance: Covariance) -> Float[Tensor, "member"]:
    """log N(y; H m, H C H^T + R)."""
    surrogate = SharedSurrogate(seen, mean)
    return log_normal(surrogate.innovation(mean), surrogate.spread(covariance))
