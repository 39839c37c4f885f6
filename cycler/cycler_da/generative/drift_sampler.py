"""Samplers in the interpolant's own time s: many small steps, as the drift form of the transition is used elsewhere.

With the endpoint mean m(s, x) = E[x1 | I_s = x, x0] the drift b and the score follow in closed form (interpolant.py):

    SDE   dX = [b + (g^2 - sigma^2) / 2 score] ds + g dW,  X_0 = x0   (Euler-Maruyama, first order, no noise at the end)
    ODE   dX/ds = b - (sigma^2 / 2) score,                 X_s0 drawn (midpoint, second order)

All have the interpolant's marginals, so X_1 ~ p(x1 | x0) as the steps grow small; g is sigma, as published, or that of
the Foellmer process, the one of all that is closest to its noise. They are here as the reference:
`localise` reaches the same law in one to ten steps. A guide adds a displacement to every step of the SDE; the point is
then a leaf of the autograd graph, and the graph runs through the endpoint model.
Sources: Chen et al. (2024), arXiv:2403.13724, eqs. 7-9; Albergo, Boffi, Vanden-Eijnden (2023), arXiv:2303.08797.
Known limit: the ODE cannot leave the point mass at s = 0; it starts at s0 from the Gaussian layer around alpha x0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.generative.interpolant import Interpolant
from cycler_da.generative.localisation import EndpointModel, GaussianDraw, MemberNoise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

DIFFUSIONS = ("sigma", "foellmer")
#: Normal numbers of one member drawn at once; fixed, so that the bytes do not depend on the batch.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class EndpointDrift:
    """Drift of the interpolant between given starts and the endpoints of a model."""

    model: EndpointModel
    interpolant: Interpolant
    start: Float[Tensor, "batch channel *space"]
    diffusion: str = "sigma"  # of DIFFUSIONS

    def scale(self, s: float) -> float:
        """g(s)."""
        return self.interpolant.foellmer(s) if self.diffusion == "foellmer" else self.interpolant.sigma(s)

    def excess(self, s: float) -> float:
        """(g^2 - sigma^2) / 2."""
        return 0.5 * (self.scale(s) ** 2 - self.interpolant.sigma(s) ** 2)

    def endpoint_mean(self, s: float, x: Float[Tensor, "batch channel *space"]) -> Tensor:
        """E[x1 | I_s = x, x0]; at s = 0 the point carries nothing."""
        if s == 0.0:
            return self.model.mean(0.0, torch.zeros_like(x))
        tau, u = self.interpolant.to_localisation(s, x, self.start)
        return self.model.mean(tau, u)

    def __call__(self, s: float, x: Float[Tensor, "batch channel *space"]) -> Tensor:
        """b(s, x) + (g^2 - sigma^2) / 2 score, 0 <= s < 1; at s = 0 for x = x0, where the score has a limit."""
        mean = self.endpoint_mean(s, x)
        drift = self.interpolant.drift(s, x, self.start, mean)
        if self.diffusion == "sigma":
            return drift
        return drift + self.excess(s) * self._score(s, x, mean)

    def _score(self, s: float, x: Tensor, mean: Tensor) -> Tensor:
        way = self.interpolant
        if s > 0.0:
            return way.score(s, x, self.start, mean)
        slopes = way.slopes(0.0)  # (x - alpha x0 - beta m) / s -> -alpha' x0 - beta' m
        return (slopes[0] * self.start + slopes[1] * mean) / way.sigma(0.0) ** 2


@dataclass(frozen=True)
class GuidePoint:
    """One point of the path as a guide sees it; `x` is a leaf of the graph that led to `velocity`."""

    drift: EndpointDrift
    s: float
    ds: float
    x: Float[Tensor, "batch channel *space"]
    velocity: Float[Tensor, "batch channel *space"]
    draws: Float[Tensor, "batch draw channel *space"]
    step: int


@runtime_checkable
class Guide(Protocol):
    """Pulls the path towards observations."""

    @property
    def n_draws(self) -> int:
        """Standard normal fields that it wants for every step."""
        ...

    def __call__(self, point: GuidePoint) -> Float[Tensor, "batch channel *space"]:
        """Displacement of the members in this step."""
        ...


def sample_sde(
    drift: EndpointDrift, *, n_steps: int, noise: MemberNoise, guide: Guide | None = None
) -> Float[Tensor, "batch channel *space"]:
    """Draw the endpoints of all members by Euler-Maruyama on an even grid."""
    x, shape, ds = drift.start.clone(), drift.start.shape[1:], 1.0 / n_steps
    path = _blocks(noise, "path", shape, n_steps)
    extra = _blocks(noise, "guide", (guide.n_draws, *shape), n_steps) if guide is not None else None
    for step in range(n_steps):
        s = step * ds
        if guide is None or extra is None:
            move = ds * drift(s, x)
        else:
            move = _guided_move(drift, guide, s, ds, x, draws=next(extra), step=step)
        x, z = x + move, next(path)
        if step + 1 < n_steps:
            x = x + drift.scale(s) * ds**0.5 * z
    return x


def sample_ode(
    drift: EndpointDrift, *, n_steps: int, noise: MemberNoise, s_start: float = 0.05
) -> Float[Tensor, "batch channel *space"]:
    """Draw the endpoints of all members by the probability-flow ODE, 0 < s_start < 1."""
    way, shape = drift.interpolant, drift.start.shape[1:]
    z = noise.normal("layer", shape, step=0)
    first = GaussianDraw(drift.model, noise)(0.0, torch.zeros_like(drift.start), step=0)
    x = way.alpha(s_start) * drift.start + way.beta(s_start) * first + way.sigma(s_start) * s_start**0.5 * z
    ds = (1.0 - s_start) / n_steps
    for step in range(n_steps):
        s = s_start + step * ds
        half = x + 0.5 * ds * flow_velocity(drift, s, x)
        x = x + ds * flow_velocity(drift, s + 0.5 * ds, half)
    return x


def flow_velocity(drift: EndpointDrift, s: float, x: Float[Tensor, "batch channel *space"]) -> Tensor:
    """b - (sigma^2 / 2) score, 0 < s < 1."""
    mean = drift.endpoint_mean(s, x)
    way = drift.interpolant
    score = way.score(s, x, drift.start, mean)
    return way.drift(s, x, drift.start, mean) - 0.5 * way.sigma(s) ** 2 * score


def _guided_move(
    drift: EndpointDrift, guide: Guide, s: float, ds: float, x: Tensor, *, draws: Tensor, step: int
) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        velocity = drift(s, leaf)
        shift = guide(GuidePoint(drift, s, ds, leaf, velocity, draws, step))
    return (ds * velocity + shift).detach()


def _blocks(noise: MemberNoise, name: str, shape: Sequence[int], n_steps: int) -> Iterator[Tensor]:
    """Normal draws for every step; few steps share one generator, for opening one costs more than drawing."""
    size = max(1, min(n_steps, _BLOCK // max(1, prod(shape))))
    for first in range(0, n_steps, size):
        yield from noise.normal(name, (min(size, n_steps - first), *shape), step=first).unbind(1)
