"""States beside what operators see of them: two forward processes of z = (x, h(x)), and E[z | u] of a Gaussian z.

    augmented   u = (a x_0, h_0) + sigma sqrt(1 - a^2) eta      x ends as noise, h(x) ends as the observation
    mixed       u = a x_0 + (1 - a) h_0 + sigma sqrt(1 - a^2) eta     one field turns into the other (published)

a falls from 1 to 0; cells without an observation have h = 0 in `mixed`, and in `augmented` tell nothing. The augmented
process is the mask bridge (`mask_bridge`) of a longer state, whose observation is a selection whatever h is: one Markov
chain, so that its unguided reverse from the observation is Bayes. h may have any number of values. The mixed process
is Markov only where h(x) is x (observed as it is).

`GaussianHeads` knows E[z | u] and Cov(z | u) in closed form for z ~ N(m, X^T X), X of k rows (anomalies of members, or
a root of the climate's covariance): with the process u = L z + Sigma^1/2 eta and S = X L^T Sigma^-1/2,

    E[z | u] = m + X^T (I + S S^T)^-1 S Sigma^-1/2 (u - L m),     Cov(z | u) = X^T (I + S S^T)^-1 X

Source: MASF, arXiv:2604.02889 (mixed, with two heads); the augmented form is ours. Limits: dense in k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.generative.localisation import MemberNoise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Of 1 - a^2, against a division by 0 at the end.
LEAST_NOISE = 1e-8


@dataclass(frozen=True)
class Augmented:
    """u = (a x, h): h alone is observed. In `fold` and `whiten`, a is `(batch, 1)` or `(1, 1)`."""

    mask: Float[Tensor, "batch m"]  # 1 where observed, 0 elsewhere; a batch of one is for all
    noise: Float[Tensor, "nm"]  # sigma^2 of every entry of u

    def fold(self, z: Float[Tensor, "... nm"], a: Tensor, mask: Tensor) -> Float[Tensor, "... nm"]:
        """(a x, h)."""
        n = z.shape[-1] - mask.shape[-1]
        states, seen = a * z[..., :n], mask * z[..., n:]
        lead = torch.broadcast_shapes(states.shape[:-1], seen.shape[:-1])
        return torch.cat([states.expand(*lead, -1), seen.expand(*lead, -1)], dim=-1)

    def factor(self, a: float) -> Float[Tensor, "nm"]:
        """The diagonal of L, for one mask."""
        n = len(self.noise) - self.mask.shape[-1]
        return torch.cat([torch.full((n,), a, dtype=torch.float64), self.mask[0]])

    def whiten(self, rest: Float[Tensor, "batch nm"], std: Float[Tensor, "batch nm"], a: Tensor) -> Tensor:
        """Both parts."""
        n = std.shape[-1] - self.mask.shape[-1]
        variance = self.noise * (1.0 - a**2).clamp(min=LEAST_NOISE) + self.fold(std, a, self.mask).square()
        lead = torch.ones(len(rest), n, dtype=rest.dtype)
        return rest / variance.sqrt() * torch.cat([lead, self.mask.expand(len(rest), -1)], dim=-1)


@dataclass(frozen=True)
class Mixed:
    """u = a x + (1 - a) h; h has as many values as x."""

    mask: Float[Tensor, "batch n"]
    noise: Float[Tensor, "n"]

    def fold(self, z: Float[Tensor, "... nm"], a: Tensor, mask: Tensor) -> Float[Tensor, "... n"]:
        """A x + (1 - a) mask h."""
        n = mask.shape[-1]
        return a * z[..., :n] + (1.0 - a) * mask * z[..., n:]

    def whiten(self, rest: Float[Tensor, "batch n"], std: Float[Tensor, "batch nm"], a: Tensor) -> Tensor:
        """The one part."""
        variance = self.noise * (1.0 - a**2).clamp(min=LEAST_NOISE) + self.fold(std, a, self.mask).square()
        return rest / variance.sqrt()


PairProcess = Augmented | Mixed


def variance_at(process: PairProcess, a: Tensor) -> Float[Tensor, "batch d"]:
    """Sigma, the diagonal; not quite 0 at a = 1."""
    return process.noise * (1.0 - a**2).clamp(min=LEAST_NOISE)


def forward(process: PairProcess, z: Float[Tensor, "batch nm"], a: Tensor, xi: Tensor) -> Float[Tensor, "batch d"]:
    """u of clean pairs, with standard normal xi."""
    return process.fold(z, a, process.mask) + variance_at(process, a).sqrt() * xi


@dataclass(frozen=True)
class GaussianPair:
    """z ~ N(mean, root^T root), float64. Row i belongs to number `labels[i]` of the noise of a draw."""

    mean: Float[Tensor, "nm"]
    root: Float[Tensor, "k nm"]
    labels: tuple[int, ...]


def pair_of_members(z: Float[Tensor, "member nm"], members: Sequence[int]) -> GaussianPair:
    """Mean and covariance of two or more members; draws do not depend on their order."""
    mean = z.mean(dim=0)
    return GaussianPair(mean, (z - mean) / (len(z) - 1) ** 0.5, tuple(members))


def pair_of_covariance(mean: Float[Tensor, "nm"], covariance: Float[Tensor, "nm nm"]) -> GaussianPair:
    """A root of a covariance; directions without variance are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > 1e-12 * values[-1]
    return GaussianPair(mean, values[kept].sqrt()[:, None] * vectors[:, kept].mT, tuple(range(int(kept.sum()))))


class MeanHeads(Protocol):
    """Both heads alone."""

    def mean(self, u: Float[Tensor, "batch d"], a: float) -> Float[Tensor, "batch nm"]:
        """E[z | u]; differentiable."""
        ...


@runtime_checkable
class Heads(MeanHeads, Protocol):
    """What is known of z given u."""

    def draw(self, u: Float[Tensor, "batch d"], a: float, *, noise: MemberNoise, step: int) -> Tensor:
        """A draw of z given u, or a stand-in with its mean and about its covariance."""
        ...


@dataclass(frozen=True)
class GaussianHeads:
    """Both heads of a Gaussian pair, exact."""

    pair: GaussianPair
    process: PairProcess

    def mean(self, u: Float[Tensor, "batch d"], a: float) -> Float[Tensor, "batch nm"]:
        """E[z | u]."""
        return self.moments(u, _as_tensor(a))[0]

    def moments(self, u: Float[Tensor, "batch d"], a: Tensor) -> tuple[Tensor, Tensor]:
        """E[z | u], and the standard deviations of z given u; a is `(batch, 1)` or `(1, 1)`."""
        white, system = self._system(a)
        rest = (u - self.process.fold(self.pair.mean, a, self.process.mask)) / variance_at(self.process, a).sqrt()
        factor = torch.linalg.cholesky(system)
        seen = (white @ rest[:, :, None]) if len(white) > 1 else (rest @ white[0].mT)[:, :, None]
        weights = torch.cholesky_solve(seen, factor)[:, :, 0]
        left = torch.linalg.solve_triangular(factor, self.pair.root.expand(len(factor), -1, -1), upper=False)
        return self.pair.mean + weights @ self.pair.root, left.square().sum(dim=1).sqrt()

    def draw(self, u: Float[Tensor, "batch d"], a: float, *, noise: MemberNoise, step: int) -> Tensor:
        """A draw from N(E[z | u], Cov(z | u))."""
        return self.mean(u, a) + self.scatter(a, noise=noise, step=step)

    def scatter(self, a: float, *, noise: MemberNoise, step: int) -> Float[Tensor, "batch nm"]:
        """Draws from N(0, Cov(z | u))."""
        _, system = self._system(_as_tensor(a))
        values, vectors = torch.linalg.eigh(system[0])
        xi = noise.normal("draw", (max(self.pair.labels) + 1,), step=step)[:, list(self.pair.labels)]
        return (xi @ (vectors / values.sqrt()) @ vectors.mT) @ self.pair.root

    def _system(self, a: Tensor) -> tuple[Float[Tensor, "batch k d"], Float[Tensor, "batch k k"]]:
        rows = self.process.fold(self.pair.root, a[:, :, None], self.process.mask[:, None])
        white = rows / variance_at(self.process, a).sqrt()[:, None]
        return white, torch.eye(white.shape[1], dtype=torch.float64) + white @ white.mT


def _as_tensor(a: float) -> Float[Tensor, "1 1"]:
    return torch.full((1, 1), a, dtype=torch.float64)
