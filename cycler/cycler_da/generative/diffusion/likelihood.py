"""Likelihood scores: wrappers that turn the denoiser of p(z_0) into one of p(z_0 | y).

    E[z_0 | z_t, y] = zhat + (sigma^2 / mu) grad_z log p(y | z_t),      y = h(z_0) + e,   e ~ N(0, R)

p(y | z_t) is not known; the methods differ in the variance that they give to y around h(zhat), with r = sigma / mu:

    DPS     R                                   Chung et al. (2023), arXiv:2209.14687
    SDA     R + gamma r^2                       Rozet and Louppe (2023), arXiv:2306.10574, eq. 16
    SOAD    R + s^2 r^2 / (s^2 + r^2)           arXiv:2407.21314, eq. 38: what is left of N(0, s^2 I) given z_t; the
                                                pseudo-inverse guidance of Song et al. (2023) for s = 1
    moment matching   R + H C_t H^T, C_t = (sigma^2 / mu) d zhat / dz        Rozet et al. (2024), arXiv:2405.13712
    known covariance  R + H C_t H^T, C_t given: of a Gaussian with the same second moments as the prior

The last two solve a system by conjugate gradients and are exact for a Gaussian prior and linear h; the first three are
exact for none (SOAD is for C = s^2 I). H = h'(zhat). Moment matching needs a backward pass for every iteration and one
more for H^T; a known covariance needs none. `clip` bounds what SOAD adds to sigma epsilon, as its code does; here each
state by itself (there: the whole tensor at once, which couples the members of a batch).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from cycler_da.generative import conjugate_gradients
from cycler_da.generative.diffusion.denoiser import Denoiser
from cycler_da.generative.diffusion.information import Information
from cycler_da.generative.diffusion.sampler import Draws
from cycler_da.generative.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

TOLERANCE = 1e-10


class Slope(Protocol):
    """H = h'(z), row by row."""

    def forward(self, v: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch obs"]:
        """H v."""
        ...

    def transpose(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch *state"]:
        """H^T w."""
        ...


class Measurement(Protocol):
    """What was observed, and through which map; `values` and `error_variance` may differ between states."""

    @property
    def values(self) -> Float[Tensor, "*batch obs"]:
        """Observed values."""
        ...

    @property
    def error_variance(self) -> Float[Tensor, "*batch obs"]:
        """Diagonal of R."""
        ...

    def hx(self, z: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch obs"]:
        """h(z), differentiable."""
        ...

    def slope(self, z: Float[Tensor, "batch *state"]) -> Slope:
        """H at z."""
        ...


@dataclass(frozen=True)
class MatrixMeasurement:
    """y = A z + e with a dense A, for tests and small systems; it is its own slope."""

    values: Float[Tensor, "*batch obs"]
    error_variance: Float[Tensor, "obs"]
    matrix: Float[Tensor, "obs n"]

    def hx(self, z: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch obs"]:
        """A z."""
        return z.flatten(1) @ self.matrix.mT

    def slope(self, z: Float[Tensor, "batch *state"]) -> MatrixSlope:
        """A, whatever z."""
        return MatrixSlope(self.matrix, tuple(z.shape[1:]))


@dataclass(frozen=True)
class MatrixSlope:
    """A and its transpose."""

    matrix: Float[Tensor, "obs n"]
    shape: tuple[int, ...]

    def forward(self, v: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch obs"]:
        """A v."""
        return v.flatten(1) @ self.matrix.mT

    def transpose(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch *state"]:
        """A^T w."""
        return (w @ self.matrix).unflatten(1, self.shape)


@dataclass(frozen=True)
class Widening:
    """Variance of y around h(zhat) beyond R, as a function of r."""

    variance: Callable[[float], float]


def dps_widening() -> Widening:
    """None."""
    return Widening(lambda ratio: 0.0)


def sda_widening(gamma: float) -> Widening:
    """gamma r^2."""
    return Widening(lambda ratio: gamma * ratio**2)


def soad_widening(prior_std: float) -> Widening:
    """s^2 r^2 / (s^2 + r^2)."""
    return Widening(lambda ratio: prior_std**2 * ratio**2 / (prior_std**2 + ratio**2))


@dataclass(frozen=True)
class WidenedLikelihood:
    """DPS, SDA and SOAD: one backward pass through the denoiser."""

    denoiser: Denoiser
    schedule: Schedule
    measurement: Measurement
    widening: Widening
    clip: float | None = None  # largest |added sigma epsilon| of a state

    def __call__(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch *state"]:
        """E[z_0 | z_t, y], as this method has it."""
        extra = self.widening.variance(self.schedule.ratio(t))
        with torch.inference_mode(mode=False), torch.enable_grad():
            noisy = z.detach().clone().requires_grad_()
            clean = self.denoiser(noisy, t)
            misfit = self.measurement.values - self.measurement.hx(clean)
            log_p = -0.5 * (misfit**2 / (self.measurement.error_variance + extra)).sum()
            (score,) = torch.autograd.grad(log_p, noisy)
        change = self.schedule.sigma(t) ** 2 * score  # of -sigma epsilon
        if self.clip is not None:
            largest = change.flatten(1).abs().amax(dim=1).clamp(min=torch.finfo(z.dtype).tiny)
            change = change * (self.clip / largest).clamp(max=1.0).view(-1, *(1,) * (z.ndim - 1))
        return clean.detach() + change / self.schedule.mu(t)


@dataclass(frozen=True)
class MomentMatching:
    """C_t from the denoiser's own derivative, by conjugate gradients."""

    denoiser: Denoiser
    schedule: Schedule
    measurement: Measurement
    tolerance: float = TOLERANCE
    most_iterations: int = conjugate_gradients.MOST_ITERATIONS

    def __call__(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch *state"]:
        """E[z_0 | z_t, y]; raises AnalysisFailed when the system is not solved in `most_iterations`."""
        factor = self.schedule.sigma(t) ** 2 / self.schedule.mu(t)
        with torch.inference_mode(mode=False), torch.enable_grad():
            noisy = z.detach().clone().requires_grad_()
            clean = self.denoiser(noisy, t)

            def covariance(v: Tensor) -> Tensor:
                (moved,) = torch.autograd.grad(clean, noisy, v.to(clean.dtype), retain_graph=True)
                return factor * moved

            change = _gain(covariance, self.measurement, clean.detach(), self.tolerance, self.most_iterations)
        return clean.detach() + change


class LeftCovariance(Protocol):
    """C_t = Cov[z_0 | z_t] = L L^T, by a root L whose unknowns are flat, float64; for waves they are coefficients."""

    def pushed(self, u: Float[Tensor, "batch n"], like: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch *state"]:
        """L u, in the shape and type of `like`."""
        ...

    def pulled(self, v: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch n"]:
        """L^T v."""
        ...

    def colored(self, xi: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch *state"]:
        """A draw of N(0, C_t) from standard normal numbers."""
        ...

    def informed(self, information: Any, like: Float[Tensor, "batch *state"]) -> LeftCovariance:
        """L (I + L^T D L)^-1/2: what is left when D is known as well."""
        ...


class InformedMeasurement(Measurement, Protocol):
    """A measurement that knows about how much it says of each part of the state."""

    def information(self, like: Float[Tensor, "batch *state"]) -> Information:
        """About H^T R^-1 H, as `LeftCovariance.informed` takes it; of no single state."""
        ...


@dataclass(frozen=True)
class KnownCovariance:
    """C_t from outside: no backward pass. Solved in the space of a root, where spectra are no trouble.

    zhat + M (I + M^T (H^T R^-1 H - D) M)^-1 M^T H^T R^-1 (y - h(zhat)),     M = L (I + L^T D L)^-1/2,   C_t = L L^T,

    which is the same gain for any D; with one that is about the diagonal of H^T R^-1 H the system is near the identity.
    Its unknowns are then in about posterior standard deviations: solved when the residual is `tolerance` of one in each
    value of the state, on average.
    """

    denoiser: Denoiser
    measurement: InformedMeasurement
    left: Callable[[float], LeftCovariance]
    tolerance: float = TOLERANCE
    most_iterations: int = conjugate_gradients.MOST_ITERATIONS

    def __call__(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch *state"]:
        """E[z_0 | z_t, y]; raises AnalysisFailed when the system is not solved in `most_iterations`."""
        clean = self.denoiser(z, t)
        return self.updated(clean, self.eased(clean, t))

    def drawn(
        self, z: Float[Tensor, "batch *state"], t: float, *, draws: Draws, step: int
    ) -> Float[Tensor, "batch *state"]:
        """z_0 given z_t and y, by one solve: a draw of N(zhat, C_t), moved by what noisy values say of it.

        zhat + p + K (y + R^1/2 eta - h(zhat) - H p), p ~ N(0, C_t), has the covariance of z_0 given both (perturbed
        observations). Raises AnalysisFailed when the system is not solved in `most_iterations`.
        """
        clean, seen = self.denoiser(z, t), self.measurement
        slope = seen.slope(clean)
        apart = self.left(t).colored(draws.normal("left", clean.shape[1:], step=step).to(clean))
        error = draws.normal("seen", (seen.error_variance.shape[-1],), step=step).to(torch.float64)
        values = seen.values + seen.error_variance.sqrt() * error
        misfit = values - seen.hx(clean) - slope.forward(apart)
        return clean + apart + self.moved(misfit, clean, slope, self.eased(clean, t))

    def eased(self, clean: Float[Tensor, "batch *state"], t: float) -> tuple[Information, LeftCovariance]:
        """D and M, what makes systems at t easy; of no single state."""
        information = self.measurement.information(clean)
        return information, self.left(t).informed(information, clean)

    def updated(
        self, clean: Float[Tensor, "batch *state"], eased: tuple[Information, LeftCovariance]
    ) -> Float[Tensor, "batch *state"]:
        """The mean given y, from the estimate without it."""
        misfit = self.measurement.values - self.measurement.hx(clean)
        return clean + self.moved(misfit, clean, self.measurement.slope(clean), eased)

    def moved(
        self,
        misfit: Float[Tensor, "batch obs"],
        clean: Float[Tensor, "batch *state"],
        slope: Slope,
        eased: tuple[Information, LeftCovariance],
    ) -> Float[Tensor, "batch *state"]:
        """K times a misfit."""
        variance = self.measurement.error_variance
        information, left = eased

        def back(w: Tensor) -> Tensor:
            return slope.transpose((w / variance).to(clean.dtype))

        def system(u: Tensor) -> Tensor:
            v = left.pushed(u, clean)
            return u + left.pulled(back(slope.forward(v)) - information.times(v))

        u = conjugate_gradients.solve(
            system,
            left.pulled(back(misfit)),
            size=math.sqrt(clean[0].numel()),
            tolerance=self.tolerance,
            most_iterations=self.most_iterations,
        )
        return left.pushed(u, clean)


def _gain(
    covariance: Callable[[Tensor], Tensor],
    measurement: Measurement,
    clean: Float[Tensor, "batch *state"],
    tolerance: float,
    most_iterations: int,
) -> Float[Tensor, "batch *state"]:
    """C H^T (R + H C H^T)^-1 (y - h(zhat))."""
    slope, variance = measurement.slope(clean), measurement.error_variance

    def system(w: Tensor) -> Tensor:
        spread = slope.forward(covariance(slope.transpose(w.to(clean.dtype))))
        return variance * w + spread.to(torch.float64)

    misfit = measurement.values - measurement.hx(clean)
    diagonal = variance.expand(misfit.shape)
    w = conjugate_gradients.solve(
        system, misfit, diagonal=diagonal, tolerance=tolerance, most_iterations=most_iterations
    )
    return covariance(slope.transpose(w.to(clean.dtype)))
