"""Scaling between the variable an analysis works in and the numbers a network sees: z = (x - mean) / std.

One mean and standard deviation for each channel; they stand in the weight card, in the units of the layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """Channel-wise affine scaling."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(f"scaling needs one mean and one positive std for each channel: {self.mean}, {self.std}")

    def to_scaled(self, x: Float[Tensor, "... channel y x"]) -> Float[Tensor, "... channel y x"]:
        """Physical to scaled; two space axes."""
        mean, std = self._columns(x)
        return (x - mean) / std

    def to_physical(self, z: Float[Tensor, "... channel y x"]) -> Float[Tensor, "... channel y x"]:
        """Scaled to physical; two space axes."""
        mean, std = self._columns(z)
        return z * std + mean

    def stretch(self, z: Float[Tensor, "... channel y x"]) -> Float[Tensor, "... channel y x"]:
        """Scaled differences to physical differences (no mean); its own transpose."""
        return z * self._columns(z)[1]

    def shrink(self, x: Float[Tensor, "... channel y x"]) -> Float[Tensor, "... channel y x"]:
        """Physical differences to scaled differences: the inverse of `stretch`."""
        return x / self._columns(x)[1]

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, 1, 1)
        mean = torch.tensor(self.mean, dtype=like.dtype, device=like.device).reshape(shape)
        return mean, torch.tensor(self.std, dtype=like.dtype, device=like.device).reshape(shape)
