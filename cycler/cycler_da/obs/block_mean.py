"""Block mean: the mean of the observed variable over the block of cells that holds the position,

    H(x)_p = 1 / factor^d  sum of x over the block,        blocks of `factor` cells along each of d axes

as a coarser instrument or model sees it ("super-resolution" by that factor). Linear, with the exact transpose. With the
sites of `stride` (stride = factor) every block is seen once.
The super-resolution of Chen et al. (2025), FlowDAS, is bilinear without smoothing: it reads the middle of the block
alone, which is the operator `points` at the centres of the blocks (stations of one's own, or a file).
Limit: blocks must fill each axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.domain import index_coordinates, inside_cells
from cycler_da.obs.points import PointOperator, Stencil
from cycler_da.registry import Spec, register


@register("operator", "block_mean")
@dataclass(frozen=True, kw_only=True)
class BlockMeanSpec(Spec):
    """Cells of a block along each axis."""

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ConfigError(f"operator block_mean: factor is {self.factor}; expected 1 or more")

    def build(self, layout: Layout) -> PointOperator:
        """Make the operator; raises ConfigError when blocks do not fill an axis."""
        for axis in layout.grid.axes:
            if axis.size % self.factor:
                raise ConfigError(
                    f"operator block_mean: factor {self.factor} does not divide the {axis.size} cells of axis "
                    f"{axis.name} of {layout.system}"
                )
        return PointOperator("block_mean", partial(block_stencil, factor=self.factor))


def block_stencil(where: Locations, layout: Layout, *, factor: int) -> Stencil:
    """All cells of the block that holds each position, with equal weights."""
    axes = layout.grid.axes
    index = index_coordinates(where.position, layout.grid)
    channel = where.channel.to(index.device, torch.int64)
    first = []
    for i_axis, axis in enumerate(axes):
        cell = torch.floor(torch.nan_to_num(index[:, i_axis]) + 0.5)
        cell = cell.remainder(axis.size) if axis.periodic else cell.clamp(0, axis.size - 1)
        first.append(torch.div(cell.to(torch.int64), factor, rounding_mode="floor") * factor)
    corners = []
    for offsets in product(range(factor), repeat=len(axes)):
        flat = channel
        for start, offset, axis in zip(first, offsets, axes, strict=True):
            flat = flat * axis.size + start + offset
        corners.append(flat)
    weight = index.new_full((len(corners), len(channel)), 1.0 / len(corners))
    return Stencil(torch.stack(corners), weight, inside_cells(index, layout.grid))
