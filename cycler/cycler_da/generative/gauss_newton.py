"""Conjugate guidance for nonlinear observations y = h(x1) + r: the endpoint is linearised by Gauss-Newton.

    x* <- m + C J^T S^-1 (y - h(x*) - J (m - x*)),   J = h'(x*),   S = J C J^T + R          (`iterations` times)

and the endpoint is drawn from N(m, C) under the affine likelihood y = h(x*) + J (x - x*) + r by Matheron's rule. J
comes by automatic differentiation of h alone, never of the network. One iteration linearises at m. What the
linearisation gets wrong is repaired exactly by the weights of `path_weights`.

Source: iterated extended Kalman update, Bell, Cathey (1993), IEEE Trans. Autom. Control 38, 294-297.
Where h is much flatter beside the mode than at it (a cubic seen with a small error) the linearised posterior has too
thin a tail and few draws carry the weight: `caution` multiplies the R of the linearised likelihood, in the draws and in
their weights alike, so that the weighted answer stays exact.
Known limits: J is dense, (member, observation, state) numbers: for low dimension or few observations (`curved_guidance`
does without where observations are curves of linear ones); far from the mode full steps may overshoot, and a second
mode is reached only through the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from cycler_da.generative.covariance import Covariance
from cycler_da.generative.localisation import EndpointModel, MemberNoise, moments
from cycler_da.generative.path_weights import RecordedEndpoint

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class Observation(Protocol):
    """Observations of the sampled variable through any differentiable map."""

    @property
    def values(self) -> Float[Tensor, "obs"]:
        """Observed values, float64."""
        ...

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R, float64."""
        ...

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """h(x); row i belongs to member i."""
        ...


@runtime_checkable
class SlopedObservation(Observation, Protocol):
    """Observations that may know their slope without being differentiated."""

    def known_slope(self) -> Float[Tensor, "batch obs channel *space"] | None:
        """The slope of every member, the same at every state; None where it is not known."""
        ...


class LinearisedLikelihood(Protocol):
    """y = h(x*) + J (x - x*) + r of every member."""

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R."""
        ...

    def innovation(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """y - h(x*) - J (x - x*)."""
        ...

    def correction(
        self, innovation: Float[Tensor, "batch obs"], covariance: Covariance
    ) -> Float[Tensor, "batch channel *space"]:
        """C J^T S^-1 d."""
        ...


class Linearise(Protocol):
    """Makes the linearised likelihood at a state of every member."""

    def __call__(self, observation: Any, at: Tensor, *, caution: float = 1.0) -> LinearisedLikelihood:
        """Linearise."""
        ...


@dataclass(frozen=True)
class MemberSurrogate:
    """y = h(x*) + J (x - x*) + r with a slope for every member."""

    observation: Observation
    at: Float[Tensor, "batch channel *space"]
    hx: Float[Tensor, "batch obs"]
    slope: Float[Tensor, "batch obs channel *space"]
    caution: float = 1.0

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R, times the caution."""
        return self.caution * self.observation.error_variance

    def innovation(self, x: Tensor) -> Tensor:
        """y - h(x*) - J (x - x*)."""
        change = (x - self.at).flatten(1).to(self.slope.dtype)
        return self.observation.values - self.hx - torch.einsum("bon,bn->bo", self.slope.flatten(2), change)

    def spread(self, covariance: Covariance) -> Tensor:
        """J C J^T + R of every member."""
        moved = self.spread_slope(covariance)
        signal = torch.einsum("bon,bpn->bop", self.slope.flatten(2), moved.flatten(2))
        return 0.5 * (signal + signal.mT) + torch.diag(self.error_variance)

    def spread_slope(self, covariance: Covariance) -> Tensor:
        """C J^T, one row for every observation."""
        n_members, n_obs = self.slope.shape[:2]
        return covariance.apply(self.slope.flatten(0, 1)).unflatten(0, (n_members, n_obs))

    def correction(self, innovation: Float[Tensor, "batch obs"], covariance: Covariance) -> Tensor:
        """C J^T S^-1 d of every member."""
        factor = torch.linalg.cholesky(self.spread(covariance))
        solved = torch.cholesky_solve(innovation[..., None], factor)[..., 0]
        return torch.einsum("bo,bo...->b...", solved, self.spread_slope(covariance))


def linearise(
    observation: Observation, at: Float[Tensor, "batch channel *space"], *, caution: float = 1.0
) -> MemberSurrogate:
    """Value and slope of h at a state of every member.

    By one backward pass of h for each observation, unless the observation knows its slope (a linear one may).
    """
    slope = observation.known_slope() if isinstance(observation, SlopedObservation) else None
    if slope is not None:
        at = at.to(torch.float64)
        return MemberSurrogate(observation, at, observation(at), slope, caution)
    with torch.enable_grad():
        x = at.detach().to(torch.float64).requires_grad_()
        hx = observation(x)
        columns = range(hx.shape[1])
        rows = [torch.autograd.grad(hx[:, i].sum(), x, retain_graph=True)[0] for i in columns]
    slope = torch.stack(rows, dim=1) if rows else x.new_zeros((x.shape[0], 0, *x.shape[1:]))
    return MemberSurrogate(observation, at.to(torch.float64), hx.detach(), slope.detach(), caution)


def fit_surrogate(
    observation: Observation,
    mean: Float[Tensor, "batch channel *space"],
    covariance: Covariance,
    *,
    iterations: int,
    caution: float = 1.0,
    linearised: Linearise = linearise,
) -> LinearisedLikelihood:
    """The linearisation after `iterations` Gauss-Newton iterations (1: at the mean)."""
    surrogate = linearised(observation, mean, caution=caution)
    for _ in range(1, iterations):
        at = mean + surrogate.correction(surrogate.innovation(mean), covariance).to(mean.dtype)
        surrogate = linearised(observation, at, caution=caution)
    return surrogate


@dataclass(frozen=True)
class GaussNewtonDraw:
    """Endpoint draw guided by nonlinear observations; `model` may be a `RecordedEndpoint`."""

    model: EndpointModel
    observation: Observation
    noise: MemberNoise
    iterations: int = 2
    caution: float = 1.0  # 1 or more
    linearised: Linearise = linearise

    def __call__(self, tau: float, u: Tensor, *, step: int) -> Tensor:
        """Draw from the linearised posterior of every member."""
        mean, covariance = moments(self.model, tau, u)
        z = self.noise.normal("endpoint", u.shape[1:], step=step)
        prior = mean + covariance.color(z)
        n_obs = self.observation.values.shape[0]
        if n_obs == 0:
            return prior
        surrogate = fit_surrogate(
            self.observation,
            mean,
            covariance,
            iterations=self.iterations,
            caution=self.caution,
            linearised=self.linearised,
        )
        if isinstance(self.model, RecordedEndpoint) and isinstance(surrogate, MemberSurrogate):
            self.model.note(surrogate)
        variance = surrogate.error_variance
        eta = torch.sqrt(variance) * self.noise.normal("obs", (n_obs,), step=step).to(variance.dtype)
        return prior + surrogate.correction(surrogate.innovation(prior) + eta, covariance).to(prior.dtype)
