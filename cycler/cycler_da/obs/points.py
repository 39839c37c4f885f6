"""Linear point operators: one observation is a weighted sum of a few grid cells of one channel.

    H(x)_p = sum_k w_kp x[cell_kp],        (H^T v)[cell] = sum_(k,p: cell_kp = cell) w_kp v_p

`points` interpolates linearly along every axis (bilinear in two dimensions): exact for fields that are
linear between cell centres, second order in the spacing otherwise, and equal to the cell's value at its
centre. `cell` reads the cell that holds the position. Both work on grids of any number of axes.

Limits: outside a grid that is not periodic H(x) is NaN and the adjoint gives nothing. `points` ends at the
outermost cell centres (nothing is extrapolated), `cell` half a cell further out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import LayoutMismatch
from cycler_da.layout import Axis, Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.domain import index_coordinates, inside_cells, inside_centres
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Stencil:
    """Which cells each observation reads, as flat indices into (channel, *space), with their weights."""

    flat: Int[Tensor, "corner obs"]
    weight: Float[Tensor, "corner obs"]
    inside: Bool[Tensor, "obs"]

    def on(self, like: Tensor) -> Stencil:
        """The stencil on the device and with the dtype of `like`."""
        return Stencil(self.flat.to(like.device), self.weight.to(like.device, like.dtype), self.inside.to(like.device))


@dataclass(frozen=True)
class PointOperator:
    """H and its transpose for a given way of choosing cells and weights."""

    name: str
    make_stencil: Callable[[Locations, Layout], Stencil]
    is_linear: bool = True

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents; NaN where the operator does not cover the position. Dtype and device follow x."""
        _require_states(x, layout)
        stencil = self.make_stencil(where, layout).on(x)
        cells = x.flatten(1)
        # Corner by corner: all corners in one tensor cost three times as much in memory traffic.
        hx = _take(cells, stencil.flat[0]) * stencil.weight[0]
        for flat, weight in zip(stencil.flat[1:], stencil.weight[1:], strict=True):
            hx = torch.addcmul(hx, _take(cells, flat), weight)
        return torch.where(stencil.inside, hx, torch.nan)

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel *space"]:
        """Transpose H^T v; what lies outside the grid contributes nothing. Dtype and device follow v."""
        stencil = self.make_stencil(where, layout).on(v)
        v = torch.where(stencil.inside, v, 0.0)
        sums = v.new_zeros((len(v), math.prod(layout.state_shape)))
        for flat, weight in zip(stencil.flat, stencil.weight, strict=True):
            sums = _add_at(sums, flat, v * weight)
        return sums.unflatten(1, layout.state_shape)

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True where H(x) is defined."""
        return self.make_stencil(where, layout).inside


def linear_stencil(where: Locations, layout: Layout) -> Stencil:
    """Cells and weights of linear interpolation along every axis (2 to the number of axes of them)."""
    index = index_coordinates(where.position, layout.grid)
    flat = where.channel.to(index.device, torch.int64).unsqueeze(0)
    weight = index.new_ones(flat.shape)
    for i_axis, axis in enumerate(layout.grid.axes):
        lower, upper, fraction = _bracket(index[:, i_axis], axis)
        flat = torch.cat([flat * axis.size + lower, flat * axis.size + upper])
        weight = torch.cat([weight * (1.0 - fraction), weight * fraction])
    return Stencil(flat, weight, inside_centres(index, layout.grid))


def cell_stencil(where: Locations, layout: Layout) -> Stencil:
    """The cell that holds each position, with weight one; a position on an edge belongs to the upper cell."""
    index = index_coordinates(where.position, layout.grid)
    flat = where.channel.to(index.device, torch.int64)
    for i_axis, axis in enumerate(layout.grid.axes):
        nearest = torch.floor(torch.nan_to_num(index[:, i_axis]) + 0.5)
        bounded = nearest.remainder(axis.size) if axis.periodic else nearest.clamp(0, axis.size - 1)
        flat = flat * axis.size + bounded.to(torch.int64)
    return Stencil(flat.unsqueeze(0), index.new_ones((1, len(flat))), inside_cells(index, layout.grid))


@register("operator", "points")
@dataclass(frozen=True, kw_only=True)
class PointsSpec(Spec):
    """Linear interpolation of the observed variable to the position of the observation."""

    def build(self, layout: Layout) -> PointOperator:
        """Make the operator; it suits every grid."""
        return PointOperator("points", linear_stencil)


@register("operator", "cell")
@dataclass(frozen=True, kw_only=True)
class CellSpec(Spec):
    """The value of the grid cell that holds the position of the observation."""

    def build(self, layout: Layout) -> PointOperator:
        """Make the operator; it suits every grid."""
        return PointOperator("cell", cell_stencil)


def _bracket(along: Tensor, axis: Axis) -> tuple[Tensor, Tensor, Tensor]:
    """Cells below and above a position and its fraction of the way; positions outside are moved to the edge."""
    along = torch.nan_to_num(along)
    along = along.remainder(axis.size) if axis.periodic else along.clamp(0, axis.size - 1)
    lower = along.floor()
    fraction = along - lower
    # A cell of weight zero is never read: its value might be NaN, and past the last cell there is none.
    upper = torch.where(fraction > 0, lower + 1, lower)
    if axis.periodic:
        upper = upper.remainder(axis.size)
    return lower.to(torch.int64), upper.to(torch.int64), fraction


def _take(cells: Tensor, flat: Tensor) -> Tensor:
    """Values (batch, obs) of the given cells, read so that the gradient is summed in a fixed order."""
    if cells.is_cuda:
        return cells[:, flat]  # its gradient sorts the indices; that of index_select adds in any order
    return cells.index_select(1, flat)


def _add_at(sums: Tensor, flat: Tensor, parts: Tensor) -> Tensor:
    """Sums (batch, cell) with parts (batch, obs) added, in a fixed order on every device."""
    if sums.is_cuda:
        return sums.T.index_put((flat,), parts.T, accumulate=True).T
    return sums.scatter_add(1, flat.expand(len(parts), -1), parts)


def _require_states(x: Tensor, layout: Layout) -> None:
    if tuple(x.shape[1:]) != layout.state_shape:
        raise LayoutMismatch(
            f"observation operator on {layout.system}: states have shape {tuple(x.shape[1:])}, "
            f"expected {layout.state_shape} (channel, *space)"
        )
