"""Guidance of the drift SDE by the endpoint mean m(s, x): without and with its covariance.

    DPS               displacement -zeta grad_x |y - h(m)|^2,  s > s_from
    moment matching   displacement ds Lambda (dm/dx)^T H^T (H V H^T + R)^-1 (y - H m),   V = Cov[x1 | I_s, x0]
                      Lambda = s sigma (beta' sigma - beta sigma') / beta + (g^2 - sigma^2) / 2
                                                        (g = sigma and beta = s^2: (1-s) (2-s); Foellmer: (1-s) (3-s))

The second is the exact conditional drift of a Gaussian transition when V is right, so it has nothing to tune; the first
takes V = 0, which is over-confident, and zeta must be tuned. V is that of the endpoint model, which members share, or
the derivative of the endpoint mean, V = (s sigma^2 / beta) dm/dx, of each member: there the system is solved by
conjugate gradients, with a backward pass for every iteration.
Sources: Chung et al. (2023), arXiv:2209.14687 (DPS); Boys et al. (2023), arXiv:2310.06721, and Rozet et al. (2024),
arXiv:2405.13712 (moment matching); FlowDAS appendix C.4 for DPS on the interpolant.
Known limits: the graph runs through the network; moment matching needs linear H, and with V of the model a dense S.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative import conjugate_gradients
from cycler_da.generative.drift_sampler import EndpointDrift, GuidePoint
from cycler_da.generative.gauss_newton import Observation
from cycler_da.generative.guidance import LinearObservation, observation_covariance

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


#: Relative residual of the conjugate gradients.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class PosteriorSamplingGuidance:
    """DPS on the endpoint mean."""

    observation: Observation
    step_size: float  # zeta
    s_from: float = 0.04  # before it the drift says little about the endpoint

    @property
    def n_draws(self) -> int:
        """None."""
        return 0

    def __call__(self, point: GuidePoint) -> Float[Tensor, "batch channel *space"]:
        """Displacement -zeta grad_x of the endpoint mean's misfit."""
        if point.s <= self.s_from:
            return torch.zeros_like(point.x)
        mean = point.drift.endpoint_mean(point.s, point.x)
        misfit = (self.observation.values - self.observation(mean)).square().sum()
        return -self.step_size * torch.autograd.grad(misfit, point.x)[0]


@dataclass(frozen=True)
class MomentMatchingGuidance:
    """The score of the observations under N(m, V), with the covariance model's V or the derivative's."""

    observation: LinearObservation
    from_derivative: bool = False

    @property
    def n_draws(self) -> int:
        """None."""
        return 0

    def __call__(self, point: GuidePoint) -> Float[Tensor, "batch channel *space"]:
        """Displacement ds Lambda grad_x log N(y; H m, S), S held fixed."""
        if point.s == 0.0:
            return torch.zeros_like(point.x)  # m does not depend on x there
        mean = point.drift.endpoint_mean(point.s, point.x)
        innovation = (self.observation.values - self.observation(mean)).detach()
        solved = self._by_derivative if self.from_derivative else self._by_model
        pull = self.observation.adjoint(solved(point, mean, innovation))
        score = torch.autograd.grad((mean * pull.to(mean.dtype)).sum(), point.x)[0]
        return point.ds * guidance_coefficient(point.drift, point.s) * score

    def _by_model(self, point: GuidePoint, mean: Tensor, innovation: Tensor) -> Float[Tensor, "batch obs"]:
        covariance = point.drift.model.covariance(point.drift.interpolant.snr(point.s))
        spread = observation_covariance(covariance, self.observation, like=point.x)
        factor = torch.linalg.cholesky(spread + torch.diag(self.observation.error_variance))
        return torch.cholesky_solve(innovation.T, factor).T

    def _by_derivative(self, point: GuidePoint, mean: Tensor, innovation: Tensor) -> Float[Tensor, "batch obs"]:
        way, s, variance = point.drift.interpolant, point.s, self.observation.error_variance
        factor = s * way.sigma(s) ** 2 / way.beta(s)

        def system(w: Tensor) -> Tensor:
            back = self.observation.adjoint(w).to(mean.dtype)
            (moved,) = torch.autograd.grad(mean, point.x, back, retain_graph=True)
            return variance * w + factor * self.observation.linear(moved).to(torch.float64)

        diagonal = variance.expand(innovation.shape)
        return conjugate_gradients.solve(system, innovation, diagonal=diagonal, tolerance=TOLERANCE)


def guidance_coefficient(drift: EndpointDrift, s: float) -> float:
    """Lambda, the factor of the observations' score in the drift of the SDE; 0 < s < 1."""
    interpolant = drift.interpolant
    _, beta_slope, sigma_slope = interpolant.slopes(s)
    sigma, beta = interpolant.sigma(s), interpolant.beta(s)
    return s * sigma * (beta_slope * sigma - beta * sigma_slope) / beta + drift.excess(s)
