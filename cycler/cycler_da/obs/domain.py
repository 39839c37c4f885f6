"""Where a position lies on the grid: index coordinates, and what counts as inside.

    index = (position - origin) / spacing        0 at the first cell centre, 1 at the next

A position within `SNAP` of a cell centre is taken to be that centre, so that interpolation there returns
the cell's value to the last bit. A periodic axis has no outside. On another axis "inside the centres" is
[0, size - 1] in index coordinates (interpolation has a neighbour on both sides) and "inside the cells" is
[-1/2, size - 1/2] (some cell holds the position). A position that is not finite is outside everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.layout import Grid, Layout
from cycler_da.obs.base import Locations

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

#: Cells. Far above the rounding of a float64 map coordinate (about 1e-12), far below any real distance.
SNAP = 1e-9


@runtime_checkable
class HasDomain(Protocol):
    """An operator that knows where it can be evaluated; elsewhere it returns NaN."""

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True where H(x) is defined."""
        ...


def index_coordinates(position: Float[Tensor, "obs axis"], grid: Grid) -> Float[Tensor, "obs axis"]:
    """Positions in cells from the first centre, float64; not wrapped on periodic axes."""
    position = position.to(torch.float64)
    origin = position.new_tensor([axis.origin for axis in grid.axes])
    spacing = position.new_tensor([axis.spacing for axis in grid.axes])
    index = (position - origin) / spacing
    nearest = index.round()
    return torch.where((index - nearest).abs() < SNAP, nearest, index)


def inside_centres(index: Float[Tensor, "obs axis"], grid: Grid) -> Bool[Tensor, "obs"]:
    """True between the outermost cell centres, or anywhere along a periodic axis."""
    return _inside(index, grid, margin=0.0)


def inside_cells(index: Float[Tensor, "obs axis"], grid: Grid) -> Bool[Tensor, "obs"]:
    """True where a grid cell holds the position, or anywhere along a periodic axis."""
    return _inside(index, grid, margin=0.5)


def _inside(index: Tensor, grid: Grid, *, margin: float) -> Tensor:
    inside = torch.isfinite(index).all(dim=1)
    for i_axis, axis in enumerate(grid.axes):
        if not axis.periodic:
            along = index[:, i_axis]
            inside = inside & (along >= -margin) & (along <= axis.size - 1 + margin)
    return inside
