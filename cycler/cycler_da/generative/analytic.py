"""Analytic endpoint models: the anchor of every test of samplers and guidance.

For x1 | x0 ~ N(mean, C) the endpoint is Gaussian at every tau,

    C(tau) = (C^-1 + tau I)^-1,   m(tau, U) = C(tau) (C^-1 mean + U) = mean + C(tau) (U - tau mean)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.generative.covariance import Covariance

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class GaussianEndpoint:
    """Exact endpoint model of a Gaussian transition; `start_mean` is E[x1 | x0] of every state."""

    start_mean: Float[Tensor, "batch channel *space"]
    start_covariance: Covariance

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """E[x1 | U, x0]."""
        return self.start_mean + self.covariance(tau).apply(u - tau * self.start_mean)

    def covariance(self, tau: float) -> Covariance:
        """Cov[x1 | U, x0]."""
        return self.start_covariance.damped(tau)
