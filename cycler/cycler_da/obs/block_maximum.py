"""Block maximum: the largest value of the observed variable in the block of cells that holds the position,

    H(x)_p = max of x over the block,        blocks of `factor` cells along each axis

as radar composites are made coarser (SEVIR-LR is the 3 x 3 maximum). A maximum commutes with every increasing scale:
the block maximum of VIL is the VIL of the block maximum of codes, so observations of it are right on the code scale,
where a block mean of VIL is not. Its gradient is that of the largest cell (shared where several are equal). With the
sites of `stride` (stride = factor) every block is seen once.
Limits: not linear, so there is no transpose; blocks must fill each axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.block_mean import BlockMeanSpec, block_stencil
from cycler_da.obs.points import PointOperator
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@register("operator", "block_maximum")
@dataclass(frozen=True, kw_only=True)
class BlockMaximumSpec(Spec):
    """Cells of a block along each axis."""

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ConfigError(f"operator block_maximum: factor is {self.factor}; expected 1 or more")

    def build(self, layout: Layout) -> BlockMaximum:
        """Make the operator; raises ConfigError when blocks do not fill an axis."""
        try:
            mean = BlockMeanSpec(factor=self.factor).build(layout)
        except ConfigError as refusal:
            raise ConfigError(str(refusal).replace("block_mean", "block_maximum")) from refusal
        return BlockMaximum(self.factor, mean)


@dataclass(frozen=True)
class BlockMaximum:
    """H with a fixed factor; `mean` is the block mean, which checks shapes and covers the same places."""

    factor: int
    mean: PointOperator
    name: str = "block_maximum"
    is_linear: bool = False
    is_differentiable: bool = True

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents; NaN outside the grid."""
        inside = self.mean(x, where, layout)
        stencil = block_stencil(where, layout, factor=self.factor).on(x)
        cells = x.flatten(1)[:, stencil.flat]
        return torch.where(inside.isnan(), torch.nan, cells.amax(dim=1))

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel *space"]:
        """Refused: raises ConfigError."""
        raise ConfigError(f"operator {self.name} is not linear and has no transpose; use block_mean or another scheme")

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True where H(x) is defined."""
        return self.mean.covers(where, layout)
