"""Units of the channels of a state on any grid: x = mean + std z."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class FieldScaling:
    """x = mean + std z for each channel, on grids of any number of axes."""

    mean: Float[Tensor, "channel *one"]
    std: Float[Tensor, "channel *one"]

    def to_scaled(self, x: Tensor) -> Tensor:
        """z of states `(..., channel, *space)`."""
        return (x - self.mean.to(x)) / self.std.to(x)

    def to_physical(self, z: Tensor) -> Tensor:
        """x of scaled states."""
        return z * self.std.to(z) + self.mean.to(z)

    def shrink(self, difference: Tensor) -> Tensor:
        """A difference of states, scaled."""
        return difference / self.std.to(difference)


def field_scaling(mean: Sequence[float], std: Sequence[float], layout: Layout) -> FieldScaling:
    """Put one number for each channel on the axes of a layout."""
    shape = (-1, *(1 for _ in layout.grid.axes))
    return FieldScaling(*(torch.tensor(one, dtype=torch.float64).reshape(shape) for one in (mean, std)))


def unit_of_members(members: Float[Tensor, "member channel *space"]) -> FieldScaling:
    """For each channel the power of ten nearest to the members' deviation, 1 where they have none.

    A power, so that the unit stays as it is from cycle to cycle, and states of a deviation about 1 stay as they are.
    """
    variance = members.to(torch.float64).var(dim=0)
    deviation = variance.flatten(1).mean(dim=1).sqrt().reshape(-1, *(1,) * (variance.ndim - 1))
    unit = torch.where(deviation > 0, 10.0 ** torch.log10(deviation).round(), 1.0)
    return FieldScaling(torch.zeros_like(unit), unit)
