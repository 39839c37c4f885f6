"""About how much a measurement says of each part of a state, D ~ H^T R^-1 H: what makes systems of likelihoods easy.

    CellInformation   one number for each part (of a window: frame and channel), the same in all cells
    WaveInformation   the same, and for some frames of a window a matrix of the channels for each wave: what an operator
                      tells that is not local, as velocities of vorticities, which is nearly all in the longest waves

It need not be right: solutions do not depend on it, the number of iterations does (`likelihood.KnownCovariance`).
"""

from __future__ import annotations

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
    """The same in all cells, and matrices of waves."""

    density: Float[Tensor, "frame channel"]
    waves: Complex[Tensor, "frame y k channel channel"]  # of rfft2, Hermitian

    def times(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch frame channel y x"]:
        """D v."""
        fields = torch.fft.rfft2(v)
        moved = torch.einsum("fykij,bfjyk->bfiyk", self.waves.to(fields.dtype), fields)
        return CellInformation(self.density).times(v) + torch.fft.irfft2(moved, s=v.shape[-2:])

    def times_waves(self, matrix: Complex[Tensor, "y k n m"]) -> Complex[Tensor, "y k n m"]:
        """The part of waves of D, of columns that are windows wave by wave (n = frames x channels, frames outside)."""
        frames, channels = self.density.shape
        moved = torch.einsum("fykij,ykfjm->ykfim", self.waves.to(matrix.dtype), matrix.unflatten(2, (frames, channels)))
        return moved.flatten(2, 3)
