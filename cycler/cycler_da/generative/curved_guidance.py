"""Gauss-Newton guidance through curves of linear observations: slopes that are never built.

    y = c(s) + r,   s = P (mean + L x),   H_i = D_i P L,   D_i = diag c'(s_i)

of every member i. Products with H_i and its transpose cost what those with P L cost, and

    (D_i P L C L^T P^T D_i + R) v = d

is solved for all members at once by conjugate gradients. The draw is the one of `gauss_newton`, where a slope of every
observation and member is a whole state, made by a backward pass of its own: for 512 observations of 16 members on
64 x 64 that took all of the time of an analysis (`cycler bench soad_settings`).
Limit: where R is far smaller than D P L C L^T P^T D iterations are many; for few variables dense slopes are faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from cycler_da.generative.conjugate_gradients import solve
from cycler_da.generative.covariance import Covariance
from cycler_da.generative.gauss_newton import Observation

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class CurvedObservation(Observation, Protocol):
    """Observations of the sampled variable through a linear map and a curve of each value."""

    def inner(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """The values s before the curve."""
        ...

    def curve(self, s: Float[Tensor, "batch obs"]) -> tuple[Float[Tensor, "batch obs"], Float[Tensor, "batch obs"]]:
        """c(s) and c'(s)."""
        ...

    def linear(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """P L v, without a constant."""
        ...

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """L^T P^T v."""
        ...


@dataclass(frozen=True)
class CurvedSurrogate:
    """y = c(s*) + D (s - s*) + r with slopes of every member."""

    observation: CurvedObservation
    at: Float[Tensor, "batch obs"]  # s*
    hx: Float[Tensor, "batch obs"]
    slope: Float[Tensor, "batch obs"]  # diagonal of D
    caution: float = 1.0

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R, times the caution."""
        return self.caution * self.observation.error_variance

    def innovation(self, x: Tensor) -> Tensor:
        """y - c(s*) - D (s - s*)."""
        return self.observation.values - self.hx - self.slope * (self.observation.inner(x) - self.at)

    def correction(self, innovation: Float[Tensor, "batch obs"], covariance: Covariance) -> Tensor:
        """C H^T S^-1 d of every member; raises AnalysisFailed when the iteration does not converge."""

        def back(v: Tensor) -> Tensor:
            return covariance.apply(self.observation.adjoint(self.slope * v))

        def system(v: Tensor) -> Tensor:
            return self.slope * self.observation.linear(back(v)).to(v.dtype) + self.error_variance * v

        return back(solve(system, innovation, diagonal=self.error_variance.expand_as(innovation)))


def linearise_curves(
    observation: CurvedObservation, at: Float[Tensor, "batch channel *space"], *, caution: float = 1.0
) -> CurvedSurrogate:
    """Values and slopes at a state of every member, without a backward pass of the linear part."""
    s = observation.inner(at.to(torch.float64))
    return CurvedSurrogate(observation, s, *observation.curve(s), caution)
