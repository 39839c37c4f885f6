"""Weight grid: analysis weights on every n-th grid point, and linear interpolation between them.

Weights of an ensemble transform vary on the scale of the localization, not of the fields, so that they
may be computed on a coarser grid (its nodes) and interpolated linearly along each axis.
Source: Yang, Kalnay, Hunt and Bowler (2009), Q. J. R. Meteorol. Soc. 135, "Weight interpolation for
efficient data assimilation with the local ensemble transform Kalman filter".

The interpolated map is linear in the weights, so the map of a node is applied to all cells that it has a share in
and the results are added up: no matrix is formed for a cell, and a node's matrix is needed once. The grid is
cut into tiles of whole rows (first axis); a tile knows the nodes that its cells need and nothing of other tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
    """Nodes along one axis, and the share that each has in the cells around it."""

    centres: Float[Tensor, "node"]  # axis units
    cells: Int[Tensor, "node near"]  # grid index
    share: Float[Tensor, "node near"]  # float64; 0 where the table is padded

    def within(self, rows: slice) -> AxisNodes:
        """The nodes that have a share in some rows, with these rows alone, counted from the first of them."""
        is_inside = (self.cells >= rows.start) & (self.cells < rows.stop) & (self.share > 0)
        keep = is_inside.any(dim=1)
        cells = torch.where(is_inside, self.cells - rows.start, 0)[keep]
        return AxisNodes(self.centres[keep], cells, torch.where(is_inside, self.share, 0.0)[keep])


def place_nodes(axis: Axis, *, stride: int) -> AxisNodes:
    """Put a node on every `stride`-th cell; a plain axis also gets one on its last cell.

    On a periodic axis the cells after the last node lie between it and the first node.
    """
    nodes = torch.arange(0, axis.size, stride)
    if not axis.periodic and int(nodes[-1]) != axis.size - 1:
        nodes = torch.cat([nodes, torch.tensor([axis.size - 1])])
    ends = torch.cat([nodes[1:], torch.tensor([axis.size])])
    after = nodes[:, None] + torch.arange(int((ends - nodes).max()))  # cells from a node up to the next one
    is_cell = after < ends[:, None]
    fraction = (after - nodes[:, None]).to(torch.float64) / (ends - nodes)[:, None]
    of_next = (fraction * is_cell)[:, 1:].roll(1, dims=0)
    if not axis.periodic:
        of_next[0] = 0
    cells = torch.cat([after, after[:, 1:].roll(1, dims=0)], dim=1).clamp(max=axis.size - 1)
    share = torch.cat([(1 - fraction) * is_cell, of_next], dim=1)
    return AxisNodes(torch.from_numpy(axis.centres())[nodes], cells, share)


@dataclass(frozen=True)
class Tile:
    """Some rows of the grid with the nodes that they need."""

    rows: slice
    points: Float[Tensor, "node axis"]  # positions of the nodes, axis units, first axis slowest
    cells: Int[Tensor, "node near"]  # flat place within the tile
    share: Float[Tensor, "node near"]  # float64; 0 where the table is padded


@dataclass(frozen=True)
class WeightGrid:
    """Nodes of a grid, on every `stride`-th cell along each axis."""

    axes: tuple[Axis, ...]
    stride: int

    @cached_property
    def nodes(self) -> tuple[AxisNodes, ...]:
        """Nodes along each axis."""
        return tuple(place_nodes(axis, stride=self.stride) for axis in self.axes)

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return math.prod(len(nodes.centres) for nodes in self.nodes)

    def tiles(self, n_nodes: int) -> Iterator[Tile]:
        """Cut the grid into tiles of about `n_nodes` nodes, at least one row of them."""
        per_row = math.prod(len(nodes.centres) for nodes in self.nodes[1:])
        step = self.stride * max(1, n_nodes // per_row)
        for begin in range(0, self.axes[0].size, step):
            yield self._tile(slice(begin, min(begin + step, self.axes[0].size)))

    def _tile(self, rows: slice) -> Tile:
        along = (self.nodes[0].within(rows), *self.nodes[1:])
        points = torch.meshgrid(*[nodes.centres for nodes in along], indexing="ij")
        cells = torch.zeros((1, 1), dtype=torch.int64)
        share = torch.ones((1, 1), dtype=torch.float64)
        for nodes, axis in zip(along, self.axes, strict=True):
            cells = _outer(cells * axis.size, nodes.cells, torch.add)
            share = _outer(share, nodes.share, torch.mul)
        return Tile(rows, torch.stack(points, dim=-1).flatten(0, -2), cells, share)


def _outer(first: Tensor, second: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All pairs of rows and columns of two tables."""
    pairs = combine(first[:, None, :, None], second[None, :, None, :])
    return pairs.flatten(2).flatten(0, 1)
