"""Both heads of a homogeneous Gaussian z = (x, h) of a torus, for the mixed process of MASF: exact, by FFT.

    u = a x + (1 - a) M h + v^1/2 eta,   v = sigma^2 (1 - a^2);   M: the observed cells, P their selection out of u or h
    A0 = a^2 C_xx + v I,   B = C_xh P^T,   D = P C_hh P^T;   E[z | u] = C L^T y,   A y = u,   A = Cov(u)
    A = A0 + a (1 - a) (B P + P^T B^T) + (1 - a)^2 P^T D P

A0 is a 2 x 2 block (channels of u) for each wave, a Wiener filter: what u tells where nothing is observed. What is
observed enters through q = P y and g = a (1 - a) B^T y + (1 - a)^2 D q, two numbers for each observation: with
y0 = A0^-1 u, J = 1 + a (1 - a) B^T A0^-1 P^T and Q = D - a^2 B^T A0^-1 B (what u leaves of h where nothing is observed)

    J^T q + P A0^-1 P^T g = P y0,     J g - (1 - a)^2 Q q = a (1 - a) B^T y0
    y = A0^-1 (u - P^T g - a (1 - a) B q)

Every matrix of this system is a homogeneous kernel at the distances of the observed cells. It stands where the dense
Gaussian of `two_heads` stands, and is the same (tests/exact/test_masf_mixed_fields). Source: ours.
Limits: mean 0; an even number of points along x; one sigma; some hundred observations, whose system is solved densely
for each value of a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.half_plane import times_counted

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from cycler_da.generative.covariance import SpectralCovariance

#: Of 1 - a: u is the state itself, to rounding.
_LEAST_LEFT = 1e-8


@dataclass(frozen=True)
class WienerHeads:
    """E[z | u] of N(0, C); `channels[j]` is the channel of u in which the j-th field of h stands."""

    covariance: SpectralCovariance
    channels: tuple[int, ...]
    noise_std: float

    @property
    def n(self) -> int:
        """Channels of x."""
        return self.covariance.values.shape[-1] - len(self.channels)

    def mean(
        self, u: Float[Tensor, "batch n y x"], a: Float[Tensor, "level"], mask: Float[Tensor, "m y x"]
    ) -> Float[Tensor, "batch nm y x"]:
        """E[z | u], differentiable; one a for every field, or one for all. Float64 arithmetic."""
        level = _wide(a.clamp(max=1.0 - _LEAST_LEFT))
        left, mixed = 1.0 - level, level * (1.0 - level)
        inverse, half = self._filters(level)
        modes = _modes(u.to(torch.float64))
        whole = _times(inverse, modes)
        cells = _cells(mask, self.channels)
        if cells.count:
            v = self.noise_std**2 * (1.0 - level**2)
            system = self._system(inverse, half, level, cells)
            own, seen = _fields(whole, u), _fields(_times(self._blocks[..., self.n :, : self.n], whole), u)
            right = torch.cat([cells.of_u(own), level[:, 0, 0] * cells.of_h(seen)], dim=1)
            q, g = torch.linalg.solve(system, right[..., None])[..., 0].chunk(2, dim=1)
            placed_q = _modes(cells.in_h(q, mask.shape))
            placed_g = v * _modes(cells.in_u(g, u.shape[1:]))
            whole = whole - _times(inverse, placed_g) - mixed * _times(half, placed_q)
            parts = torch.cat([level * whole, left * placed_q], dim=1)
        else:
            blank = whole.new_zeros(len(whole), len(mask), *whole.shape[2:])
            parts = torch.cat([level * whole, blank], dim=1)
        return _fields(_times(self._blocks[None], parts), u)

    def variance(self, a: Float[Tensor, "level"]) -> Float[Tensor, "level nm 1 1"]:
        """Variance of every channel of z given u where nothing is observed; at a = 0 that of the climate."""
        level = _wide(a.clamp(max=1.0 - _LEAST_LEFT))
        to_state = self._blocks[..., : self.n]
        inverse, _ = self._filters(level)
        told = (to_state @ inverse @ to_state.mH).diagonal(dim1=-2, dim2=-1).real
        own = self._blocks.diagonal(dim1=-2, dim2=-1).real
        n_y, n_x = own.shape[0], 2 * (own.shape[1] - 1)
        weight = times_counted(n_y, n_x)[..., None] / (n_y * n_x)
        return ((own - level**2 * told) * weight).sum(dim=(1, 2))[..., None, None]

    @cached_property
    def _blocks(self) -> Tensor:
        return self.covariance.blocks().to(torch.complex128)

    @cached_property
    def _of_state(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self._blocks[..., : self.n, : self.n])
        return values.clamp(min=0.0), vectors

    def _filters(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """A0^-1 and A0^-1 C_xh of every wave, `(level, y, k, n, n or m)`."""
        values, vectors = self._of_state
        total = level**2 * values + self.noise_std**2 * (1.0 - level**2)
        inverse = (vectors / total[..., None, :]) @ vectors.mH
        return inverse, inverse @ self._blocks[..., : self.n, self.n :]

    def _system(self, inverse: Tensor, half: Tensor, level: Tensor, cells: _Cells) -> Float[Tensor, "level 2p 2p"]:
        """The two equations; g counted in v, and the second divided by 1 - a, so that all entries stay of order 1."""
        n, a = self.n, level[:, 0]
        unseen = self._blocks[..., n:, n:] - level[..., None] ** 2 * (self._blocks[..., n:, :n] @ half)
        cross = cells.kernel(half, cells.channel, cells.field)
        first = a * (1.0 - a) * cross + torch.eye(cells.count, dtype=torch.float64)
        noise = self.noise_std**2 * (1.0 - a**2)
        top = torch.cat([first, noise * cells.kernel(inverse, cells.channel, cells.channel)], dim=2)
        own = (1.0 - a) * cells.kernel(unseen, cells.field, cells.field)
        return torch.cat([top, torch.cat([-own, self.noise_std**2 * (1.0 + a) * first.mT], dim=2)], dim=1)


def mix(
    z: Float[Tensor, "batch nm y x"], a: Tensor, mask: Float[Tensor, "m y x"], channels: Sequence[int]
) -> Float[Tensor, "batch n y x"]:
    """A x + (1 - a) M h, every field of h in its channel; a is `(batch or 1, 1, 1, 1)`."""
    n = z.shape[1] - len(channels)
    seen = (1.0 - a) * mask * z[:, n:]
    return (a * z[:, :n]).index_add(1, torch.tensor(channels), seen.to(z.dtype))


@dataclass(frozen=True)
class _Cells:
    """Observed values: field of h, channel of u, and place."""

    field: Int[Tensor, "p"]
    channel: Int[Tensor, "p"]
    y: Int[Tensor, "p"]
    x: Int[Tensor, "p"]
    apart: tuple[Tensor, Tensor]  # along y and x, of every two

    @property
    def count(self) -> int:
        return len(self.field)

    def of_u(self, u: Tensor) -> Float[Tensor, "batch p"]:
        return u[:, self.channel, self.y, self.x]

    def of_h(self, h: Tensor) -> Float[Tensor, "batch p"]:
        return h[:, self.field, self.y, self.x]

    def in_u(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        blank = values.new_zeros(len(values), *shape)
        return blank.index_put((torch.arange(len(values))[:, None], self.channel, self.y, self.x), values)

    def in_h(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        blank = values.new_zeros(len(values), *shape)
        return blank.index_put((torch.arange(len(values))[:, None], self.field, self.y, self.x), values)

    def kernel(self, blocks: Tensor, rows: Tensor, columns: Tensor) -> Float[Tensor, "level p p"]:
        """Entries of a homogeneous matrix between the observed cells, in given channels."""
        size = (blocks.shape[1], 2 * (blocks.shape[2] - 1))
        kernel = torch.fft.irfft2(blocks.permute(0, 3, 4, 1, 2), s=size)
        return kernel[:, rows[:, None], columns[None, :], *self.apart]


def _cells(mask: Float[Tensor, "m y x"], channels: Sequence[int]) -> _Cells:
    field, y, x = mask.nonzero().unbind(dim=1)
    apart = ((y[:, None] - y) % mask.shape[1], (x[:, None] - x) % mask.shape[2])
    return _Cells(field, torch.tensor(channels)[field], y, x, apart)


def _wide(a: Tensor) -> Float[Tensor, "level 1 1 1"]:
    return a.to(torch.float64).reshape(-1, 1, 1, 1)


def _modes(fields: Tensor) -> Tensor:
    return torch.fft.rfft2(fields, norm="ortho")


def _fields(modes: Tensor, like: Tensor) -> Tensor:
    return torch.fft.irfft2(modes, s=like.shape[-2:], norm="ortho")


def _times(blocks: Tensor, modes: Float[Tensor, "batch j y k"]) -> Float[Tensor, "batch i y k"]:
    """A block of every wave, one table for each field or one for all."""
    return (blocks @ modes.permute(0, 2, 3, 1)[..., None])[..., 0].permute(0, 3, 1, 2)
