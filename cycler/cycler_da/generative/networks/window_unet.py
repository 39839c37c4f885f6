"""Window U-Net: a small convolutional network on a torus for several frames at once, told how noisy they are.

Frames and channels are one axis of fields; patches of pixels become channels too. On grids each half as fine as the one
before,

    block:   z + W_2 ( silu(a) * b ),    (a, b) = (1 + g) * W_1 norm(z) + s

with products in place of activations alone, because advection is one (docs/decisions/0008), and (g, s) from a level: a
vector of numbers that says what the input is (noise, which frames are given). A block on every grid going down, another
going up, joined by addition. W_2 and the last layer start at zero: an untrained network gives zero.
The U shape is that of Ronneberger, Fischer and Brox (2015), MICCAI; gates as in Shazeer (2020), arXiv:2002.05202;
scale and shift by the level as in Perez et al. (2018), AAAI.
Limit: shifts by whole patches of the coarsest grid alone commute with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.generative.networks.base import network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_EMBEDDED = 64


class GatedBlock(nn.Module):
    """One block; the identity at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = nn.Conv2d(width, width, 3, padding=1, padding_mode="circular")
        self.second = nn.Conv2d(width // 2, width, 3, padding=1, padding_mode="circular")
        self.modulation = nn.Linear(_EMBEDDED, 2 * width)

    def forward(
        self, z: Float[Tensor, "batch width y x"], level: Float[Tensor, "batch embedded"]
    ) -> Float[Tensor, "batch width y x"]:
        """Apply the block."""
        scale, shift = self.modulation(level)[:, :, None, None].chunk(2, dim=1)
        gate, value = torch.addcmul(shift, 1.0 + scale, self.first(self.norm(z))).chunk(2, dim=1)
        return z + self.second(F.silu(gate) * value)


@network("window_unet")
class WindowUNet(nn.Module):
    """The network: `(batch, inputs, y, x)` and `(batch, levels)` to `(batch, outputs, y, x)`.

    Each side of the grid must be a multiple of `multiple`; raises LayoutMismatch for any other.
    """

    def __init__(self, *, frames: int, channels: int, widths: Sequence[int] = (64, 96, 128), patch: int = 2) -> None:
        super().__init__()
        if min(frames, channels, patch) < 1 or not widths or any(width < 2 or width % 2 for width in widths):
            raise ConfigError("network window_unet: frames, channels and patch are 1 or more, widths even numbers")
        self.frames, self.channels, self.patch = frames, channels, patch
        self.multiple = patch * 2 ** (len(widths) - 1)
        fields, coarser = frames * channels, list(itertools.pairwise(widths))
        levels = 1 + channels + frames
        self.embed = nn.Sequential(nn.Linear(levels, _EMBEDDED), nn.SiLU(), nn.Linear(_EMBEDDED, _EMBEDDED), nn.SiLU())
        self.enter = nn.Conv2d(2 * fields * patch**2, widths[0], 1)
        self.down_blocks = nn.ModuleList(GatedBlock(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in coarser)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in coarser)
        self.up_blocks = nn.ModuleList(GatedBlock(width) for width in widths)
        self.leave = nn.Conv2d(widths[0], fields * patch**2, 1)

    def initialise(self) -> None:
        """Make every block the identity and the output zero."""
        blocks = [module for module in self.modules() if isinstance(module, GatedBlock)]
        layers: list[nn.Conv2d | nn.Linear] = [block.second for block in blocks]
        for layer in (*layers, *(block.modulation for block in blocks), self.leave):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self, fields: Float[Tensor, "batch inputs y x"], level: Float[Tensor, "batch levels"]
    ) -> Float[Tensor, "batch outputs y x"]:
        """Noisy frames and their estimates side by side to the correction of the estimates."""
        if fields.shape[-2] % self.multiple or fields.shape[-1] % self.multiple:
            raise LayoutMismatch(
                f"network window_unet: the grid is {tuple(fields.shape[-2:])}, each side must be a multiple of "
                f"{self.multiple}"
            )
        known, kept = self.embed(level), []
        z = self.enter(F.pixel_unshuffle(fields, self.patch))
        for i, block in enumerate(self.down_blocks):
            z = block(z, known)
            if i < len(self.down):
                kept.append(z)
                z = self.down[i](z)
        z = self.up_blocks[-1](z, known)
        for i in reversed(range(len(self.up))):
            z = kept[i] + F.interpolate(self.up[i](z), scale_factor=2, mode="nearest")
            z = self.up_blocks[i](z, known)
        return F.pixel_shuffle(self.leave(z), self.patch)
