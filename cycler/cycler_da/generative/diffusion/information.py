"""About how much a measurement says of each part of a state, D ~ H^T R^-1 H: what makes systems of likelihoods easy.

    CellInformation   one number for each part (of a window: frame and channel), the same in all cells
    WaveInformation   the same, and for some frames of a window a matrix of the channels for each wave: what an operator
                      tells that is not local, as velocities of vorticities, which is nearly all in the longest waves

It need not be right: solutions do not depend on it, the number of iterations does (`likelihood.KnownCovariance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor


class Information(Protocol):
    """D."""

    @property
    def density(self) -> Float[Tensor, "*some"]:
        """Its part that is the same in all cells; of no single state."""
        ...

    def times(self, v: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch *state"]:
        """D v."""
        ...


@dataclass(frozen=True)
class CellInformation:
    """The same in all cells."""

    density: Float[Tensor, "*some"]

    def times(self, v: Float[Tensor, "batch *state"]) -> Float[Tensor, "batch *state"]:
        """D v."""
        shape = self.density.shape
        return self.density.view(*shape, *(1,) * (v.ndim - 1 - len(shape))).to(v.dtype) * v


@dataclass(frozen=True)
class WaveInformation:
    """The same in all cells, and matrices of waves for the first channels of some frames."""

    density: Float[Tensor, "frame channel"]
    frames: Sequence[int]  # those with matrices, each once
    waves: Complex[Tensor, "some y k n n"]  # of rfft2, Hermitian; n first channels

    def times(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch frame channel y x"]:
        """D v."""
        told = CellInformation(self.density).times(v)
        at = list(self.frames)
        fields = torch.fft.rfft2(v[:, at, : self._n])
        moved = torch.einsum("fykij,bfjyk->bfiyk", self.waves.to(fields.dtype), fields)
        told[:, at, : self._n] += torch.fft.irfft2(moved, s=v.shape[-2:])
        return told

    def times_waves(self, matrix: Complex[Tensor, "y k n m"]) -> Complex[Tensor, "y k n m"]:
        """The part of waves of D, of columns that are windows wave by wave (n = frames x channels, frames outside)."""
        told = torch.zeros_like(matrix)
        for frame, waves in zip(self.frames, self.waves.to(matrix.dtype), strict=True):
            first = frame * self.density.shape[1]
            rows = slice(first, first + self._n)
            told[:, :, rows] = waves @ matrix[:, :, rows]
        return told

    @property
    def _n(self) -> int:
        return self.waves.shape[-1]
