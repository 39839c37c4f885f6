"""Convolutional U-Net for fields that are not periodic, or are: local, and usable on any grid size.

Input: the last `history` frames, scaled, oldest first. Features are the last frame and its differences to
the earlier ones. They are cut into patches (the pixels of a patch become channels), pass residual blocks on
`len(channels)` grids, each half as fine as the one before, and return:

    u_0 = W_in x,   u_{l+1} = D_l (blocks u_l),   v_L = blocks u_L,   v_l = blocks (u_l + upsample(P_l v_{l+1}))

with blocks z -> z + W_2 silu(W_1 silu(norm z)). W_2 and the output layer start at zero, so that an untrained
network predicts no change. The U shape is that of Ronneberger, Fischer and Brox (2015), MICCAI.

`n_outputs` fields come out for each variable: the first is the increment, a second, where there is one, the
logarithm of its standard deviation up to a constant that the transition adds.
Edges: `padding` periodic wraps, replicate repeats the outermost pixel; zero padding would be read as no echo.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.generative.networks.base import network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_PADDING: Mapping[str, Literal["circular", "replicate"]] = {"periodic": "circular", "replicate": "replicate"}


def _conv(n_in: int, n_out: int, padding: str) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, padding_mode=_PADDING[padding])


class ResidualBlock(nn.Module):
    """z + W_2 silu(W_1 silu(norm z)), the identity at the start."""

    def __init__(self, width: int, padding: str) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(8, width), width)
        self.first, self.second = _conv(width, width, padding), _conv(width, width, padding)

    def forward(self, z: Float[Tensor, "batch width y x"]) -> Float[Tensor, "batch width y x"]:
        """Apply the block."""
        return z + self.second(F.silu(self.first(F.silu(self.norm(z)))))


@network("unet")
class UNet(nn.Module):
    """The network: scaled frames `(batch, history * fields, y, x)` to `(batch, n_outputs * fields, y, x)`.

    Each side of the grid must be a multiple of `multiple`. Raises LayoutMismatch for any other grid.
    """

    def __init__(
        self,
        *,
        history: int,
        fields: int = 1,
        n_outputs: int = 1,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        patch: int = 2,
        padding: str = "replicate",
    ) -> None:
        super().__init__()
        if padding not in _PADDING:
            raise ConfigError(f"network unet: padding {padding!r} is not one of {', '.join(sorted(_PADDING))}")
        if history < 1 or fields < 1 or n_outputs < 1 or blocks < 1 or patch < 1 or not channels:
            raise ConfigError("network unet: history, fields, n_outputs, blocks, patch and channels are 1 or more")
        self.history, self.fields, self.patch = history, fields, patch
        self.multiple = patch * 2 ** (len(channels) - 1)
        coarser = list(itertools.pairwise(channels))

        def some_blocks(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width, padding) for _ in range(blocks)))

        self.enter = _conv(history * fields * patch**2, channels[0], padding)
        self.down_blocks = nn.ModuleList(some_blocks(width) for width in channels)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in coarser)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in coarser)
        self.up_blocks = nn.ModuleList(some_blocks(width) for width in channels)
        self.leave = _conv(channels[0], n_outputs * fields * patch**2, padding)

    def initialise(self) -> None:
        """Make every block the identity and the output zero."""
        lasts = [module.second for module in self.modules() if isinstance(module, ResidualBlock)]
        for layer in (*lasts, self.leave):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, frames: Float[Tensor, "batch history_fields y x"]) -> Float[Tensor, "batch out y x"]:
        """Predict the scaled increment and what else was asked for."""
        if frames.shape[-2] % self.multiple or frames.shape[-1] % self.multiple:
            raise LayoutMismatch(
                f"network unet: the grid is {tuple(frames.shape[-2:])}, each side must be a multiple of {self.multiple}"
            )
        z = self.enter(F.pixel_unshuffle(self._features(frames), self.patch))
        kept = []
        for level, blocks in enumerate(self.down_blocks):
            z = blocks(z)
            if level < len(self.down):
                kept.append(z)
                z = self.down[level](z)
        z = self.up_blocks[-1](z)
        for level in reversed(range(len(self.up))):
            z = kept[level] + F.interpolate(self.up[level](z), scale_factor=2, mode="nearest")
            z = self.up_blocks[level](z)
        return F.pixel_shuffle(self.leave(z), self.patch)

    def _features(self, frames: Tensor) -> Tensor:
        last = frames[:, -self.fields :]
        earlier = frames[:, : -self.fields].unflatten(1, (self.history - 1, self.fields)) if self.history > 1 else None
        if earlier is None:
            return last
        return torch.cat([last, (last[:, None] - earlier).flatten(1, 2)], dim=1)
