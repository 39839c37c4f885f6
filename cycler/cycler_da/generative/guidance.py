"""Conjugate guidance: the endpoint's Gaussian is updated by the observations as a Kalman filter would.

At each tau the endpoint N(m, C) meets y = H x + r, r ~ N(0, R). By Matheron's rule

    xi ~ N(m, C),  eta ~ N(0, R),   e = xi + C H^T S^-1 (y + eta - H xi),   S = H C H^T + R

so e ~ N(m_y, C_y) exactly: no gradient, no step size. Without observations e = xi, bit for bit.

    ConjugateDraw         S is the same for all members: factorised once for each tau (Cholesky, float64)
    MemberConjugateDraw   S_i = H_i C H_i^T + R of every member, never built: conjugate gradients for all at once

Source: Matheron's rule as in Doucet (2010), "A note on efficient conditional simulation of Gaussian
distributions"; the same algebra as perturbed-observation Kalman updates (Burgers et al. 1998).
Known limit: linear H; a nonlinear one needs the Gauss-Newton form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.generative.conjugate_gradients import solve
from cycler_da.generative.covariance import Covariance, WhiteCovariance
from cycler_da.generative.localisation import EndpointModel, MemberNoise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Columns of H^T handled at once when S is built; bounds the memory.
_COLUMNS = 256
#: Most numbers of H^T kept at once where S is a product of it with itself (0.25 GB).
_MOST_KEPT = 2**25


@runtime_checkable
class LinearObservation(Protocol):
    """Observations of the sampled variable through an affine map; `adjoint` is the transpose of its slope."""

    @property
    def values(self) -> Float[Tensor, "obs"]:
        """Observed values, float64."""
        ...

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R, float64."""
        ...

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """H(x), its constant included; row i belongs to member i."""
        ...

    def linear(self, v: Float[Tensor, "any channel *space"]) -> Float[Tensor, "any obs"]:
        """The slope H v, without the constant; any number of rows."""
        ...

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """H^T v."""
        ...


def observation_covariance(
    covariance: Covariance, observation: LinearObservation, *, like: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, "obs obs"]:
    """H C H^T for a covariance that all members share, float64, built from the columns of H^T.

    For C = c I it is c (H^T)^T H^T, which needs H^T alone.
    """
    n_obs = observation.values.shape[0]
    if n_obs == 0:
        return torch.zeros((0, 0), dtype=torch.float64, device=like.device)
    columns = (observation.adjoint(units) for units in _unit_rows(n_obs, like.device))
    if isinstance(covariance, WhiteCovariance) and n_obs * like[0].numel() <= _MOST_KEPT:
        slope = torch.cat([part.flatten(1) for part in columns])
        return covariance.level * (slope @ slope.T)
    full = torch.cat([observation.linear(covariance.apply(part)) for part in columns])
    return 0.5 * (full + full.T)


def observation_variance(
    covariance: WhiteCovariance, observation: LinearObservation, *, like: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, "obs"]:
    """Diagonal of H C H^T for C = c I, float64: squares of the columns of H^T, nothing else."""
    n_obs = observation.values.shape[0]
    sums = [observation.adjoint(units).flatten(1).square().sum(dim=1) for units in _unit_rows(n_obs, like.device)]
    return covariance.level * (torch.cat(sums) if sums else torch.zeros(0, dtype=torch.float64, device=like.device))


def _unit_rows(n_obs: int, device: torch.device) -> Iterator[Float[Tensor, "some obs"]]:
    """Rows of the identity, some at a time."""
    for start in range(0, n_obs, _COLUMNS):
        units = torch.zeros((min(_COLUMNS, n_obs - start), n_obs), dtype=torch.float64, device=device)
        units[torch.arange(units.shape[0]), start + torch.arange(units.shape[0])] = 1.0
        yield units


@dataclass
class ConjugateDraw:
    """Endpoint draw guided by linear observations; wraps any endpoint model.

    `gram` is H H^T where it is known already; then S is not built again at any tau whose covariance is white.
    """

    model: EndpointModel
    observation: LinearObservation
    noise: MemberNoise
    gram: Float[Tensor, "obs obs"] | None = None
    _factors: dict[float, Tensor] = field(default_factory=dict)

    def __call__(self, tau: float, u: Tensor, *, step: int) -> Tensor:
        """Draw from N(m_y, C_y)."""
        covariance = self.model.covariance(tau)
        z = self.noise.normal("endpoint", u.shape[1:], step=step)
        prior = self.model.mean(tau, u) + covariance.color(z)
        n_obs = self.observation.values.shape[0]
        if n_obs == 0:
            return prior
        variance = self.observation.error_variance
        eta = torch.sqrt(variance) * self.noise.normal("obs", (n_obs,), step=step).to(variance.dtype)
        innovation = self.observation.values + eta - self.observation(prior).to(variance.dtype)
        solved = torch.cholesky_solve(innovation.T, self._factor(tau, covariance, u)).T
        return prior + covariance.apply(self.observation.adjoint(solved)).to(prior.dtype)

    def _factor(self, tau: float, covariance: Covariance, like: Tensor) -> Tensor:
        if tau not in self._factors:
            if self.gram is not None and isinstance(covariance, WhiteCovariance):
                spread = covariance.level * self.gram
            else:
                spread = observation_covariance(covariance, self.observation, like=like)
            self._factors[tau] = torch.linalg.cholesky(spread + torch.diag(self.observation.error_variance))
        return self._factors[tau]


@dataclass(frozen=True)
class MemberConjugateDraw:
    """Endpoint draw guided by linear observations whose slope differs between members.

    `observation.linear` and `adjoint` act on row i with the slope of member i. `diagonal` is about the diagonal
    of H_i C H_i^T at tau = 0; it speeds the iteration up and does not change what it converges to.
    """

    model: EndpointModel
    observation: LinearObservation
    noise: MemberNoise
    diagonal: Float[Tensor, "batch obs"]

    def __call__(self, tau: float, u: Tensor, *, step: int) -> Tensor:
        """Draw from N(m_y, C_y) of every member; raises AnalysisFailed when the iteration does not converge."""
        covariance = self.model.covariance(tau)
        z = self.noise.normal("endpoint", u.shape[1:], step=step)
        prior = self.model.mean(tau, u) + covariance.color(z)
        n_obs = self.observation.values.shape[0]
        if n_obs == 0:
            return prior
        variance = self.observation.error_variance
        eta = torch.sqrt(variance) * self.noise.normal("obs", (n_obs,), step=step).to(variance.dtype)
        innovation = self.observation.values + eta - self.observation(prior).to(variance.dtype)

        def system(v: Tensor) -> Tensor:
            return self.observation.linear(covariance.apply(self.observation.adjoint(v))) + variance * v

        solved = solve(system, innovation, diagonal=self.diagonal + variance)
        return prior + covariance.apply(self.observation.adjoint(solved)).to(prior.dtype)
