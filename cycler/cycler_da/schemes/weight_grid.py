"""Weight grid: analysis weights on every n-th grid point, and linear interpolation between them.

Weights of an ensemble transform vary on the scale of the localization, not of the fields, so that they
may be computed on a coarser grid (its nodes) and interpolated linearly along each axis.
Source: Yang, Kalnay, Hunt and Bowler (2009), Q. J. R. Meteorol. Soc. 135, "Weight interpolation for
efficient data assimilation with the local ensemble transform Kalman filter".

The interpolated map is linear in the weights, so the maps of a cell's corner nodes are applied to the
state and their results are interpolated: no matrix is formed for a cell. For this the cells are grouped
into blocks, one for each node, that reach up to the next node along every axis. Work goes band by band
along the first axis, so that the weights of a large grid never exist at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Axis

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class AxisNodes:
    """Nodes along one axis; row i of the tables lists the cells from node i up to the next one."""

    centres: Float[Tensor, "node"]  # axis units
    own: Int[Tensor, "node"]  # place of the node among all whose weights are at hand
    following: Int[Tensor, "node"]  # place of the next node; the last of a plain axis is followed by itself
    cells: Int[Tensor, "node gap"]  # grid index, clamped where there is no cell
    is_cell: Bool[Tensor, "node gap"]
    fraction: Float[Tensor, "node gap"]  # of the way to the following node, float64

    def select(self, rows: slice) -> AxisNodes:
        """Some of the nodes."""
        return AxisNodes(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def place_nodes(axis: Axis, *, stride: int) -> AxisNodes:
    """Put a node on every `stride`-th cell; a plain axis also gets one on its last cell.

    On a periodic axis the cells after the last node lie between it and the first node.
    """
    nodes = torch.arange(0, axis.size, stride)
    if not axis.periodic and int(nodes[-1]) != axis.size - 1:
        nodes = torch.cat([nodes, torch.tensor([axis.size - 1])])
    ends = torch.cat([nodes[1:], torch.tensor([axis.size])])
    cells = nodes[:, None] + torch.arange(int((ends - nodes).max()))
    following = torch.arange(1, len(nodes) + 1)
    following[-1] = 0 if axis.periodic else len(nodes) - 1
    return AxisNodes(
        centres=torch.from_numpy(axis.centres())[nodes],
        own=torch.arange(len(nodes)),
        following=following,
        cells=cells.clamp(max=axis.size - 1),
        is_cell=cells < ends[:, None],
        fraction=(cells - nodes[:, None]).to(torch.float64) / (ends - nodes)[:, None],
    )


@dataclass(frozen=True)
class Corner:
    """One corner of every block: the node whose map is applied there, and its share in every cell."""

    node: Int[Tensor, "block"]  # row of `Band.points`
    share: Float[Tensor, "block cell"]


@dataclass(frozen=True)
class Band:
    """The blocks of some rows of nodes, and the nodes (theirs and the following row's) that they need."""

    along: tuple[AxisNodes, ...]
    points: Float[Tensor, "node axis"]  # positions of the nodes, axis units, first axis slowest
    n_nodes: tuple[int, ...]  # nodes along each axis

    @property
    def rows(self) -> slice:
        """Grid rows (first axis) of the band."""
        cells = self.along[0].cells[self.along[0].is_cell]
        return slice(int(cells[0]), int(cells[-1]) + 1)

    def corners(self) -> Iterator[Corner]:
        """All corners of the blocks; along an axis without cells between nodes there is only the node."""
        for corner in itertools.product(*[(0, 1)[: nodes.cells.shape[1]] for nodes in self.along]):
            node = torch.zeros(1, dtype=torch.int64)
            share = torch.ones((1, 1), dtype=torch.float64)
            for is_upper, nodes, n_nodes in zip(corner, self.along, self.n_nodes, strict=True):
                place = nodes.following if is_upper else nodes.own
                part = nodes.fraction if is_upper else 1 - nodes.fraction
                node = (node[:, None] * n_nodes + place).flatten()
                share = (share[:, None, :, None] * part[None, :, None, :]).flatten(2).flatten(0, 1)
            yield Corner(node, share)

    def gather(self, states: Float[Tensor, "member batch channel *space"]) -> Float[Tensor, "block member field cell"]:
        """Copy the band's cells of a whole field into blocks; places without a cell repeat one."""
        for i_axis, nodes in enumerate(self.along):
            states = states.index_select(3 + i_axis, nodes.cells.flatten().to(states.device))
        split = states.reshape(*states.shape[:3], *(size for nodes in self.along for size in nodes.cells.shape))
        blocks = split.permute(*range(3, split.ndim, 2), 0, 1, 2, *range(4, split.ndim, 2))
        n_blocks = math.prod(len(nodes.cells) for nodes in self.along)
        return blocks.reshape(n_blocks, states.shape[0], states.shape[1] * states.shape[2], -1)

    def scatter(
        self, blocks: Float[Tensor, "block member field cell"], *, n_channels: int
    ) -> Float[Tensor, "member batch channel *band"]:
        """Put blocks back in grid order: the inverse of `gather`, for the band's rows alone."""
        n_axes, shapes = len(self.along), [nodes.cells.shape for nodes in self.along]
        split = blocks.reshape(
            *(shape[0] for shape in shapes), blocks.shape[1], -1, n_channels, *(shape[1] for shape in shapes)
        )
        pairs = [dim for i_axis in range(n_axes) for dim in (i_axis, n_axes + 3 + i_axis)]
        field = split.permute(n_axes, n_axes + 1, n_axes + 2, *pairs)
        field = field.reshape(*field.shape[:3], *(shape[0] * shape[1] for shape in shapes))
        for i_axis, nodes in enumerate(self.along):
            field = field.index_select(3 + i_axis, nodes.is_cell.flatten().nonzero()[:, 0].to(field.device))
        return field


@dataclass(frozen=True)
class WeightGrid:
    """Nodes of a grid, on every `stride`-th cell along each axis."""

    axes: tuple[Axis, ...]
    stride: int

    @cached_property
    def nodes(self) -> tuple[AxisNodes, ...]:
        """Nodes along each axis."""
        return tuple(place_nodes(axis, stride=self.stride) for axis in self.axes)

    def bands(self, tile: int) -> Iterator[Band]:
        """Cut the grid into bands of about `tile` nodes, at least one row of them."""
        first, rest = self.nodes[0], self.nodes[1:]
        n_rows = max(1, tile // math.prod(len(nodes.own) for nodes in rest))
        for begin in range(0, len(first.own), n_rows):
            yield self._band(first.select(slice(begin, begin + n_rows)), rest)

    def _band(self, first: AxisNodes, rest: tuple[AxisNodes, ...]) -> Band:
        needs_following = self.stride > 1
        rows = torch.unique(torch.cat([first.own, first.following])) if needs_following else first.own
        local = AxisNodes(
            centres=first.centres,
            own=torch.searchsorted(rows, first.own),
            following=torch.searchsorted(rows, first.following),
            cells=first.cells,
            is_cell=first.is_cell,
            fraction=first.fraction,
        )
        centres = [self.nodes[0].centres[rows], *(nodes.centres for nodes in rest)]
        points = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, -2)
        return Band((local, *rest), points, tuple(len(axis) for axis in centres))
