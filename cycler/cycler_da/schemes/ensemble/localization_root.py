"""Localization as a square root: rho = L L^T with the Gaspari-Cohn taper, for control variables.

On a grid the taper is a stationary correlation, applied and rooted by Fourier transform: rho = P^T F^H S F P with S
the transform of the taper (never negative: Gaspari-Cohn is a correlation function in three dimensions), P padding by
its reach on axes that are not periodic. Without a radius every cell has the same weight, L = 1 (one number).
Source: Gaspari and Cohn (1999), Q. J. R. Meteorol. Soc. 125; as a root: Buehner (2005), Q. J. R. Meteorol. Soc. 131.

Limits: equal spacing along each axis. On a periodic axis shorter than twice the taper's reach its images are summed,
which is still a correlation, but wider than the taper of the short way round.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from cycler_da.generative.local_covariance import StationaryCorrelation, fast_size
from cycler_da.layout import Axis, Grid
from cycler_da.schemes.ensemble.localization import gaspari_cohn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class LocalizationRoot(Protocol):
    """rho = L L^T for fields of one channel; leading dimensions are free."""

    @property
    def torus(self) -> tuple[int, ...]:
        """Shape of the control variable of one field."""
        ...

    def apply(self, v: Float[Tensor, "*batch *space"]) -> Float[Tensor, "*batch *space"]:
        """Rho v."""
        ...

    def spread(self, z: Float[Tensor, "*batch *torus"]) -> Float[Tensor, "*batch *space"]:
        """L z."""
        ...

    def gather(self, v: Float[Tensor, "*batch *space"]) -> Float[Tensor, "*batch *torus"]:
        """L^T v."""
        ...


@dataclass(frozen=True)
class NoLocalization:
    """Rho = 1 everywhere: one weight for the whole grid."""

    shape: tuple[int, ...]

    @property
    def torus(self) -> tuple[int, ...]:
        """One number, with as many axes as the grid."""
        return (1,) * len(self.shape)

    def apply(self, v: Tensor) -> Tensor:
        """The sum over the grid, in every cell."""
        return self.spread(self.gather(v))

    def spread(self, z: Tensor) -> Tensor:
        """The number in every cell."""
        return z.expand(*z.shape[: z.ndim - len(self.shape)], *self.shape)

    def gather(self, v: Tensor) -> Tensor:
        """The sum over the grid."""
        return v.sum(dim=tuple(range(-len(self.shape), 0)), keepdim=True) if self.shape else v


def localization_root(grid: Grid, radius: float | None) -> LocalizationRoot:
    """The root for a Gaspari-Cohn half-width in axis units; None for no localization."""
    if radius is None or not grid.axes:
        return NoLocalization(grid.shape)
    torus = tuple(_length(axis, radius) for axis in grid.axes)
    offsets = [_offsets(axis, n) for axis, n in zip(grid.axes, torus, strict=True)]
    kernel = torch.zeros(torus, dtype=torch.float64)
    images = [
        range(-count, count + 1)
        for count in (_images(axis, n, radius) for axis, n in zip(grid.axes, torus, strict=True))
    ]
    for shifts in itertools.product(*images):
        along = [
            offset + shift * n * axis.spacing
            for offset, shift, n, axis in zip(offsets, shifts, torus, grid.axes, strict=True)
        ]
        square = sum(part**2 for part in torch.meshgrid(*along, indexing="ij"))
        kernel = kernel + gaspari_cohn(torch.as_tensor(square).sqrt(), radius)
    spectrum = torch.fft.rfftn(kernel / kernel.flatten()[0]).real.clamp(min=0.0)  # rounding
    return StationaryCorrelation(spectrum, grid.shape, torus)


def _length(axis: Axis, radius: float) -> int:
    return axis.size if axis.periodic else fast_size(axis.size + math.ceil(2 * radius / axis.spacing))


def _offsets(axis: Axis, n: int) -> Tensor:
    """Signed distances from the first cell of a torus of n cells, the short way round."""
    index = torch.arange(n, dtype=torch.float64)
    return torch.where(index > n / 2, index - n, index) * axis.spacing


def _images(axis: Axis, n: int, radius: float) -> int:
    """How often a torus must be repeated to each side until the taper is gone."""
    return math.ceil(max(0.0, 2 * radius / (n * axis.spacing) + 0.5 - 1.0)) if axis.periodic else 0
