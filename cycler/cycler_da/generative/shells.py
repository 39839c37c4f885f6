"""Shells of wave numbers on a torus: matrices that mix fields, one for each distance from the origin; other grids.

    (A x)(k) = A_s x(k),      s = |k| rounded to a whole number

Real matrices that depend on |k| alone are filters without a direction. The best one for pairs of fields is the ratio of
their cross spectra over shells, `fit`. `resampled` moves fields to a grid of another size: waves that both grids have
are kept, others are left out or zero; so are those at which the smaller grid ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.half_plane import times_counted, wave_numbers

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int
    from torch import Tensor

#: Part of the features' own spectrum that is added to it in a fit.
_RIDGE = 1e-4


@dataclass(frozen=True)
class Shells:
    """The shells of a square grid."""

    size: int

    @property
    def count(self) -> int:
        """How many there are."""
        return int(_shell_of(self.size).max()) + 1

    @property
    def waves(self) -> Float[Tensor, "shell"]:
        """How many waves each has, float64."""
        shell, weight = _shell_of(self.size).flatten(), times_counted(self.size, self.size)
        return torch.zeros(self.count, dtype=torch.float64).index_add_(0, shell, weight.flatten())

    def of_each_wave(self, matrices: Float[Tensor, "shell out inn"]) -> Float[Tensor, "y k out inn"]:
        """The matrix of every wave of rfft2."""
        return matrices[_shell_of(self.size)]

    def apply(
        self, matrices: Float[Tensor, "shell out inn"], x: Float[Tensor, "batch inn y x"]
    ) -> Float[Tensor, "batch out y x"]:
        """The filter with these matrices; those of a smaller grid serve its shells, others give zero."""
        waves = torch.fft.rfft2(x)
        if len(matrices) < self.count:
            matrices = torch.cat([matrices, matrices.new_zeros(self.count - len(matrices), *matrices.shape[1:])])
        turned = torch.einsum("ykoi,biyk->boyk", self.of_each_wave(matrices).to(waves.dtype), waves)
        return torch.fft.irfft2(turned, s=(self.size, self.size))

    def cross(self, a: Float[Tensor, "batch n y x"], b: Float[Tensor, "batch p y x"]) -> Float[Tensor, "shell n p"]:
        """Mean over batch and waves of a shell of the real part of a(k) b(k)*; a variance is their sum over waves."""
        product = torch.einsum("bnyk,bpyk->npyk", self._waves(a), self._waves(b).conj()).real.to(torch.float64)
        shell, weight = _shell_of(self.size).flatten(), times_counted(self.size, self.size)
        sums = (product * weight).flatten(2)
        total = torch.zeros(*sums.shape[:2], self.count, dtype=torch.float64).index_add_(2, shell, sums)
        return (total / (len(a) * self.waves.clamp(min=1.0))).permute(2, 0, 1)

    def fit(
        self, features: Float[Tensor, "batch p y x"], target: Float[Tensor, "batch n y x"]
    ) -> Float[Tensor, "shell n p"]:
        """Matrices of least squares, float64."""
        normal, cross = self.cross(features, features), self.cross(target, features)
        scale = normal.diagonal(dim1=1, dim2=2)
        ridge = _RIDGE * scale + 1e-9 * scale.amax(dim=1, keepdim=True) + torch.finfo(torch.float64).tiny
        return torch.linalg.solve(normal + torch.diag_embed(ridge), cross.mT).mT

    def _waves(self, x: Tensor) -> Complex[Tensor, "batch n y k"]:
        return torch.fft.rfft2(x, norm="ortho")


def resampled(x: Float[Tensor, "*any y x"], size: int) -> Float[Tensor, "*any size size"]:
    """Fields on another square grid, with the waves that both grids have."""
    if x.shape[-1] == size:
        return x
    half = min(size, x.shape[-1]) // 2
    waves = torch.fft.rfft2(x, norm="forward")
    rows = [waves[..., :half, :half], waves[..., waves.shape[-2] - half + 1 :, :half]]
    gap = waves.new_zeros(*x.shape[:-2], size - 2 * half + 1, half)
    kept = torch.cat([rows[0], gap, rows[1]], dim=-2)
    beyond = waves.new_zeros(*x.shape[:-2], size, size // 2 + 1 - half)
    return torch.fft.irfft2(torch.cat([kept, beyond], dim=-1), s=(size, size), norm="forward")


@lru_cache(maxsize=8)
def _shell_of(size: int) -> Int[Tensor, "y k"]:
    return wave_numbers(size).round().long()
