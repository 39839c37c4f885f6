"""Weight grid: analysis weights on every n-th grid point, and linear interpolation between them.

Weights of an ensemble transform vary on the scale of the localization, not of the fields, so that they
may be computed on a coarser grid (its nodes) and interpolated linearly along each axis.
Source: Yang, Kalnay, Hunt and Bowler (2009), Q. J. R. Meteorol. Soc. 135, "Weight interpolation for
efficient data assimilation with the local ensemble transform Kalman filter".

Work goes band by band along the first grid axis, so that the weights of a large grid never exist at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Axis

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class AxisNodes:
    """Nodes along one axis; cell i lies between nodes `lower[i]` and `upper[i]`."""

    cells: Int[Tensor, "node"]  # grid index of each node, increasing
    lower: Int[Tensor, "cell"]
    upper: Int[Tensor, "cell"]
    fraction: Float[Tensor, "cell"]  # 0 at the lower node

    @property
    def is_every_cell(self) -> bool:
        """True when every grid cell is a node and nothing is interpolated."""
        return len(self.cells) == len(self.lower)


def place_nodes(axis: Axis, *, stride: int) -> AxisNodes:
    """Put a node on every `stride`-th cell; a plain axis also gets one on its last cell.

    On a periodic axis the cells after the last node lie between it and the first node.
    """
    cells = torch.arange(0, axis.size, stride)
    if not axis.periodic and int(cells[-1]) != axis.size - 1:
        cells = torch.cat([cells, torch.tensor([axis.size - 1])])
    index = torch.arange(axis.size)
    lower = torch.searchsorted(cells, index, right=True) - 1
    ends = torch.cat([cells[1:], torch.tensor([axis.size])])  # where the gap after each node ends
    fraction = (index - cells[lower]).to(torch.float64) / (ends - cells)[lower]
    upper = torch.where(fraction > 0, (lower + 1) % len(cells), lower)
    return AxisNodes(cells, lower, upper, fraction)


@dataclass(frozen=True)
class Band:
    """A range of grid rows (first axis) with the rows of nodes that it needs."""

    rows: slice
    node_rows: Int[Tensor, "row"]


@dataclass(frozen=True)
class WeightGrid:
    """Nodes of a grid, every `stride`-th cell along each axis."""

    axes: tuple[Axis, ...]
    stride: int

    @cached_property
    def nodes(self) -> tuple[AxisNodes, ...]:
        """Nodes along each axis."""
        return tuple(place_nodes(axis, stride=self.stride) for axis in self.axes)

    def bands(self, tile: int) -> Iterator[Band]:
        """Cut the grid into bands of at most `tile` cells, but at least one row of nodes."""
        first = self.nodes[0]
        cells_in_node_row = self.stride
        for axis in self.axes[1:]:
            cells_in_node_row *= axis.size
        n_rows = max(1, tile // cells_in_node_row)
        for begin in range(0, len(first.cells), n_rows):
            after = begin + n_rows
            stop = int(first.cells[after]) if after < len(first.cells) else self.axes[0].size
            rows = slice(int(first.cells[begin]), stop)
            yield Band(rows, torch.unique(torch.cat([first.lower[rows], first.upper[rows]])))

    def points(self, band: Band) -> Float[Tensor, "point axis"]:
        """Positions (axis units) of a band's nodes, first axis slowest."""
        cells = [nodes.cells for nodes in self.nodes]
        cells[0] = cells[0][band.node_rows]
        centres = [torch.from_numpy(axis.centres())[index] for axis, index in zip(self.axes, cells, strict=True)]
        return torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, -2)

    def interpolate(self, weights: Float[Tensor, "point *w"], band: Band) -> Float[Tensor, "cell *w"]:
        """Carry weights from a band's nodes to its cells (cells in grid order, flattened)."""
        shape = (len(band.node_rows), *(len(nodes.cells) for nodes in self.nodes[1:]))
        field = weights.unflatten(0, shape)
        # The last axis first: the first axis, cut into bands, has the fewest rows to carry along.
        for i_axis in reversed(range(len(self.axes))):
            nodes = self.nodes[i_axis]
            if nodes.is_every_cell:
                continue
            lower, upper, fraction = nodes.lower, nodes.upper, nodes.fraction
            if i_axis == 0:
                lower = torch.searchsorted(band.node_rows, lower[band.rows])
                upper = torch.searchsorted(band.node_rows, upper[band.rows])
                fraction = fraction[band.rows]
            field = _interpolate_along(field, i_axis, lower=lower, upper=upper, fraction=fraction)
        return field.flatten(0, len(self.axes) - 1)


def _interpolate_along(field: Tensor, i_axis: int, *, lower: Tensor, upper: Tensor, fraction: Tensor) -> Tensor:
    low = field.index_select(i_axis, lower.to(field.device))
    high = field.index_select(i_axis, upper.to(field.device))
    share = fraction.to(field).reshape([-1] + [1] * (field.ndim - i_axis - 1))
    return low.lerp_(high, share.expand_as(low))
