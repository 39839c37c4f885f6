"""Exact weights of guided chains relative to the unguided chain times the likelihood.

A guided step draws its endpoint from N(m_i, C_i) times an affine Gaussian surrogate psi_i of the likelihood,
psi_i(e) = N(y; H_i e + c_i, R), and moves on to U_{i+1}. Given U_{i+1} the step's own endpoint is N(m', C'),

    C' = (C_i^-1 + dt I)^-1,   m' = m_i + C' (U_{i+1} - U_i - dt m_i)          (at the last step m' = e, C' = 0)
    log w = log p(y | x1) + sum_i [ log psibar_i(m_i, C_i) - log psibar_i(m', C') ]
    psibar_i(m, C) = N(y; H_i m + c_i, H_i C H_i^T + R)

The mean of w is an unbiased estimate of p(y | x0) under the discretised model (the unguided chain), whatever C_i and
the surrogate are; they decide only how even the weights are. Where the surrogate is the likelihood itself (linear H,
Gaussian R) log p(y | x1) cancels against the last step, and with the exact C_i of a Gaussian transition
log w = log p(y | x0) for every draw.
Sources: twisted proposals, Guarniero, Johansen, Lee (2017), J. Am. Stat. Assoc. 112; Doucet, Godsill, Andrieu (2000)
for one step. Known limit: S is dense, (observation)^2 numbers for each step (and member, where H_i differs).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.generative.covariance import Covariance
from cycler_da.generative.guidance import LinearObservation, observation_covariance
from cycler_da.generative.localisation import EndpointModel

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class Surrogate(Protocol):
    """Affine Gaussian stand-in of the likelihood with which a step was guided."""

    def innovation(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """y - (H x + c), float64."""
        ...

    def spread(self, covariance: Covariance) -> Float[Tensor, "*batch obs obs"]:
        """H C H^T + R, float64; one matrix for all members or one for each."""
        ...

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R."""
        ...


@dataclass(frozen=True)
class SharedSurrogate:
    """The likelihood of linear observations; `like` gives shape and device of a state."""

    observation: LinearObservation
    like: Float[Tensor, "batch channel *space"]

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R."""
        return self.observation.error_variance

    def innovation(self, x: Tensor) -> Tensor:
        """y - H x."""
        return self.observation.values - self.observation(x).to(torch.float64)

    def spread(self, covariance: Covariance) -> Tensor:
        """H C H^T + R."""
        return observation_covariance(covariance, self.observation, like=self.like) + torch.diag(self.error_variance)


@dataclass(frozen=True)
class EndpointStep:
    """What one step of a chain knew: where it was and the mean it drew about."""

    tau: float
    u: Float[Tensor, "batch channel *space"]
    mean: Float[Tensor, "batch channel *space"]
    surrogate: Surrogate | None = None


@dataclass
class RecordedEndpoint:
    """An endpoint model that keeps the means it gave, so that weights need no further network passes.

    Give it to one draw, sample once, then take the weights.
    """

    model: EndpointModel
    steps: list[EndpointStep] = field(default_factory=list)

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """E[x1 | U, x0] of the model, remembered."""
        mean = self.model.mean(tau, u)
        self.steps.append(EndpointStep(tau, u, mean))
        return mean

    def covariance(self, tau: float) -> Covariance:
        """Cov[x1 | U, x0] of the model."""
        return self.model.covariance(tau)

    def note(self, surrogate: Surrogate) -> None:
        """Say with which surrogate the last step was guided."""
        self.steps[-1] = replace(self.steps[-1], surrogate=surrogate)


def linear_path_weights(
    recorded: RecordedEndpoint, observation: LinearObservation
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """Log weights of chains guided by `ConjugateDraw`, and their first part log N(y; H m_0, S_0).

    sum_i log N(y; H m_i, S_i) - sum_{i >= 1} log N(y; H m'_i, S'_i): linear H, Gaussian R.
    """
    surrogate = SharedSurrogate(observation, recorded.steps[0].mean)
    first = total = _log_surrogate(recorded, 0, surrogate)
    for i in range(1, len(recorded.steps)):
        total = total + _log_surrogate(recorded, i, surrogate) - _log_after(recorded, i - 1, surrogate)
    return total, first


def path_weights(
    recorded: RecordedEndpoint,
    endpoint: Float[Tensor, "batch channel *space"],
    *,
    log_likelihood: Callable[[Tensor], Tensor],
) -> Float[Tensor, "batch"]:
    """Log weights for any likelihood; every step must have noted its surrogate (`GaussNewtonDraw` does).

    `endpoint` is what the chain returned; `log_likelihood` gives log p(y | x1) of every member.
    """
    total = log_likelihood(endpoint)
    last = len(recorded.steps) - 1
    for i, step in enumerate(recorded.steps):
        if step.surrogate is None:
            raise ValueError(f"step {i} of the chain did not note its surrogate; give the draw this record")
        total = total + _log_surrogate(recorded, i, step.surrogate)
        if i == last:
            total = total - log_normal(step.surrogate.innovation(endpoint), torch.diag(step.surrogate.error_variance))
        else:
            total = total - _log_after(recorded, i, step.surrogate)
    return total


def log_normal(innovation: Float[Tensor, "batch obs"], spread: Float[Tensor, "*batch obs obs"]) -> Tensor:
    """log N(innovation; 0, spread) of every member, float64."""
    factor = torch.linalg.cholesky(spread)
    whitened = torch.linalg.solve_triangular(factor, innovation[..., None], upper=False)[..., 0]
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return -0.5 * whitened.square().sum(dim=-1) - log_det - 0.5 * innovation.shape[-1] * math.log(2 * math.pi)


def _log_surrogate(recorded: RecordedEndpoint, i: int, surrogate: Surrogate) -> Tensor:
    """log of the mean of the surrogate over N(m_i, C_i)."""
    step = recorded.steps[i]
    return log_normal(surrogate.innovation(step.mean), surrogate.spread(recorded.covariance(step.tau)))


def _log_after(recorded: RecordedEndpoint, i: int, surrogate: Surrogate) -> Tensor:
    """The same over the endpoint that step i leaves when U_{i+1} is known."""
    step, after = recorded.steps[i], recorded.steps[i + 1]
    dt = after.tau - step.tau
    kept = recorded.covariance(step.tau).damped(dt)
    mean = step.mean + kept.apply(after.u - step.u - dt * step.mean)
    return log_normal(surrogate.innovation(mean), surrogate.spread(kept))
