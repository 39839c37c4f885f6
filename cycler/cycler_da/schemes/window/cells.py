"""Observations of a window that are values of single cells, or curves or lines of them: H has one entry a row.

    h(z)_i = c_i(z[p_i]),        H = diag(c') P,        H^T w = P^T (c' w)

with the flat place p_i (frame, channel, cell) of every observation. Slopes of several parts are one slope of more
places (`joined`), so that a product with H or H^T of a whole window is one gather or scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Cells:
    """Places in a window."""

    places: Int[Tensor, "obs"]  # flat: frame, channel, cell
    shape: tuple[int, ...]  # of a window: frame, channel, y, x

    def taken(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """The values there, float64."""
        return z.flatten(1)[:, self.places].to(torch.float64)

    def put(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch frame channel y x"]:
        """A window with w added up there, zero elsewhere."""
        z = w.new_zeros((len(w), prod(self.shape)))
        return z.index_add_(1, self.places, w).view(len(w), *self.shape)


def frame_cells(frame: int, places: Int[Tensor, "obs"], shape: tuple[int, ...]) -> Cells:
    """Places in one frame, from flat places (channel, cell) in it."""
    return Cells(frame * prod(shape[1:]) + places, shape)


@dataclass(frozen=True)
class CellSlope:
    """diag(c') P; without a derivative P alone."""

    cells: Cells
    derivative: Float[Tensor, "batch obs"] | None = None

    def forward(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """H v."""
        taken = self.cells.taken(v)
        return taken if self.derivative is None else taken * self.derivative

    def transpose(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch frame channel y x"]:
        """H^T w."""
        return self.cells.put(w if self.derivative is None else w * self.derivative.to(w.dtype))


def joined(slopes: Sequence[CellSlope], n_rows: int) -> CellSlope:
    """One slope of all places, for batches of `n_rows`."""
    if len(slopes) == 1:
        return slopes[0]
    cells = Cells(torch.cat([slope.cells.places for slope in slopes]), slopes[0].cells.shape)
    if all(slope.derivative is None for slope in slopes):
        return CellSlope(cells)
    ones = torch.ones((), dtype=torch.float64)
    rows = [ones if slope.derivative is None else slope.derivative for slope in slopes]
    return CellSlope(
        cells,
        torch.cat(
            [row.expand(n_rows, len(slope.cells.places)) for row, slope in zip(rows, slopes, strict=True)], dim=1
        ),
    )


@dataclass(frozen=True)
class EntryPart:
    """Cells of one channel and frame as they are."""

    frame: int
    cells: Cells
    values: Float[Tensor, "*batch obs"]
    error_variance: Float[Tensor, "obs"]

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """The entries."""
        return self.cells.taken(z)

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> CellSlope:
        """P, whatever z."""
        return CellSlope(self.cells)


@dataclass(frozen=True)
class CurvePart:
    """A curve of the value in one cell for each observation; no derivative of an operator is needed."""

    frame: int
    cells: Cells
    values: Float[Tensor, "*batch obs"]
    error_variance: Float[Tensor, "obs"]
    curve: Callable[[Tensor], Tensor]
    std: Float[Tensor, "obs"]  # argument = std z + mean, scaled state z
    mean: Float[Tensor, "obs"]

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """The curve of every entry."""
        return self.curve(self._argument(z))

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> CellSlope:
        """Its derivative at z."""
        with torch.enable_grad():
            argument = self._argument(z.detach()).requires_grad_(True)
            (derivative,) = torch.autograd.grad(self.curve(argument).sum(), argument)
        return CellSlope(self.cells, derivative * self.std)

    def _argument(self, z: Tensor) -> Float[Tensor, "batch obs"]:
        return self.cells.taken(z) * self.std + self.mean


@dataclass(frozen=True)
class LinePart:
    """A line for the value in one cell for each observation, h = mean + slope (z - at), of each member its own."""

    frame: int
    cells: Cells
    values: Float[Tensor, "batch obs"]
    error_variance: Float[Tensor, "batch obs"]
    at: Float[Tensor, "batch obs"]
    mean: Float[Tensor, "batch obs"]
    rise: Float[Tensor, "batch obs"]  # the slope
    density: Float[Tensor, "channel"]  # about slope^2 / R in the mean over cells; of no single member

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """The line at every entry."""
        return self.mean + self.rise * (self.cells.taken(z) - self.at)

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> CellSlope:
        """Its slope, whatever z."""
        return CellSlope(self.cells, self.rise)
