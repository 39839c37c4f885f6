"""Monte-Carlo guidance of the drift SDE, as published with FlowDAS.

At every step J endpoints are guessed, weighted by the likelihood, and the point is pulled down their misfit:

    X1_j = centre + c(s) e_j,   centre = x + (1-s) b(s, x)                                       (first order)
                                centre = x + (1-s) (b(s, x) + b(1, x + (1-s) b + c e_0)) / 2     (second order)
    w_j = softmax_j( -1/2 |y - h(X1_j)|^2_R ), held fixed
    x  <- x + b ds + sigma dW - zeta grad_x sum_j w_j |y - h(X1_j)|^2

Objectives: `squared` as printed (Algorithm 2); `norm` as in the released code, |y - mean_j h(X1_j)|, without weights.
Endpoint spread: `released` c = 2/3 - sqrt(s) + s^1.5/3; `exact` c = sqrt((1-s)^3/3), the deviation of
int_s^1 (1-u) dW, which the former is not (0.38 of it at s = 0.5).
Collapse: where in the last steps one weight takes all, the endpoints are drawn again once, and members that collapse
again use the misfit of the mean endpoint.

Source: Chen et al. (2025), FlowDAS, arXiv:2501.16642, Algorithm 2 and eqs. 8-10.
Known limits, all of the method: zeta has no unit and must be tuned anew for every network of observations, error level
and number of steps (no ds, no R in the pull); the first-order centre is s (2-s) times the endpoint mean; the graph runs
through the network at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.generative.drift_sampler import GuidePoint
from cycler_da.generative.gauss_newton import Observation
from cycler_da.generative.localisation import MemberNoise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

OBJECTIVES = ("squared", "norm")
SPREADS = ("released", "exact")
#: Interpolant time at which the end of the second-order guess is evaluated; the drift is singular at 1 itself.
_END = 1.0 - 1e-3
#: A weight above this has taken all.
_COLLAPSED = 0.99


@runtime_checkable
class AffineObservation(Observation, Protocol):
    """An affine h, which sees the endpoints' common centre once and their draws outside the graph."""

    def of_draws(self, e: Float[Tensor, "batch draw channel *space"]) -> Float[Tensor, "batch draw obs"]:
        """Its slope times every draw."""
        ...


@dataclass(frozen=True)
class MonteCarloGuidance:
    """The guide with fixed settings; the noise is used when endpoints are drawn again."""

    observation: Observation
    noise: MemberNoise
    step_size: float  # zeta
    n_endpoints: int = 25  # J
    order: int = 2
    objective: str = "squared"
    spread: str = "released"
    fallback_from: float = 0.9  # interpolant time after which collapse is looked for; 1: never

    @property
    def n_draws(self) -> int:
        """The endpoints' draws and, in second order, that of the guess."""
        return self.n_endpoints + (self.order == 2)

    def __call__(self, point: GuidePoint) -> Float[Tensor, "batch channel *space"]:
        """Displacement -zeta grad_x of the misfit."""
        centre = self._centre(point)
        departures = self._departures(centre, point.draws[:, : self.n_endpoints], point.s)
        if self.objective == "norm":
            misfit = departures.mean(dim=1).square().sum(dim=-1).sqrt()
        else:
            misfit = self._weighted(centre, departures, point)
        return -self.step_size * torch.autograd.grad(misfit.sum(), point.x)[0]

    def endpoint_spread(self, s: float) -> float:
        """c(s)."""
        return 2.0 / 3.0 - s**0.5 + s**1.5 / 3.0 if self.spread == "released" else ((1.0 - s) ** 3 / 3.0) ** 0.5

    def _centre(self, point: GuidePoint) -> Tensor:
        s, x, velocity = point.s, point.x, point.velocity
        if self.order == 1:
            return x + (1.0 - s) * velocity
        guess = x + (1.0 - s) * velocity + self.endpoint_spread(s) * point.draws[:, -1]
        return x + 0.5 * (1.0 - s) * (velocity + point.drift(_END, guess))

    def _departures(self, centre: Tensor, draws: Tensor, s: float) -> Tensor:
        """y - h(X1_j), shape (batch, draw, obs); one h for each draw, for row i of h belongs to member i."""
        c, y = self.endpoint_spread(s), self.observation.values
        if isinstance(self.observation, AffineObservation):
            return (y - self.observation(centre))[:, None] - c * self.observation.of_draws(draws)
        return torch.stack([y - self.observation(centre + c * e) for e in draws.unbind(1)], dim=1)

    def _weights(self, departures: Tensor) -> Tensor:
        scaled = departures.detach().square() / self.observation.error_variance
        return torch.softmax(-0.5 * scaled.sum(dim=-1), dim=1)

    def _weighted(self, centre: Tensor, departures: Tensor, point: GuidePoint) -> Tensor:
        """sum_j w_j |y - h(X1_j)|^2 of every member, with the fallback where the weights collapsed."""
        weights = self._weights(departures)
        misfit = (weights * departures.square().sum(dim=-1)).sum(dim=1)
        if point.s < self.fallback_from or self.n_endpoints == 1:
            return misfit
        has_collapsed = weights.amax(dim=1) > _COLLAPSED
        if not bool(has_collapsed.any()):
            return misfit
        shape = (self.n_endpoints, *centre.shape[1:])
        again = self._departures(centre, self.noise.normal("redraw", shape, step=point.step), point.s)
        weights = self._weights(again)
        second = (weights * again.square().sum(dim=-1)).sum(dim=1)
        of_mean = again.mean(dim=1).square().sum(dim=-1)
        second = torch.where(weights.amax(dim=1) > _COLLAPSED, of_mean, second)
        return torch.where(has_collapsed, second, misfit)
