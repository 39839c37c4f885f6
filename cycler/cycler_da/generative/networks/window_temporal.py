"""SDA's own network of whole windows: convolutions over space in every frame, convolutions over time in every pixel.

    spatial   R(c):  x + W_1 silu( W_k LN(x + E level) ),     k x k circular, c -> 4 c -> c
    temporal  T(c):  x + W_1 silu( W_3 x ),                   along the frames, zeros beyond them, c -> 4 c -> c
    down: W_k, R R R;  then on each grid half as fine  W_k (stride 2), T, R R R;     up: R R R, T, LN, nearest, W_k, add

Frames share all weights, so that a frame knows its place by the ends alone, and by which frames are given. Four
temporal layers with three grids see four frames each way: all of a window of nine from its middle.
Source: the network of QG windows in the published code of SDA and SOAD (arXiv:2306.10574, arXiv:2407.21314), which has
widths 16, 32, 64, kernels of 5 and 3.72 million parameters; E there takes 16 waves of the time t, here the level of
`diffusion.window` (log of the ratio, channels present, frames given) through the same two layers. In place of the noise
it answers what the Wiener filter of the window leaves, of which it sees the estimate beside the noisy frames.
Limits: sides are multiples of 2^(grids - 1); about 0.6 s for nine frames of 64 x 64 on one core at the published size.
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

_HIDDEN, _EMBEDDED, _WIDER = 256, 64, 4


class PixelNorm(nn.LayerNorm):
    """Normalisation over the channels of every pixel."""

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """Apply."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class SpatialBlock(nn.Module):
    """R: one frame, told the level."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.level, self.norm = nn.Linear(_EMBEDDED, width), PixelNorm(width)
        self.first = _spatial(width, _WIDER * width, kernel)
        self.second = nn.Conv2d(_WIDER * width, width, 1)

    def forward(
        self, x: Float[Tensor, "batch width y x"], known: Float[Tensor, "batch embedded"]
    ) -> Float[Tensor, "batch width y x"]:
        """Apply."""
        answer: Tensor = self.second(F.silu(self.first(self.norm(x + self.level(known)[:, :, None, None]))))
        return x + answer


class TemporalBlock(nn.Module):
    """T: every pixel along the frames, which run fastest in the batch."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.first = nn.Conv1d(width, _WIDER * width, 3, padding=1)
        self.second = nn.Conv1d(_WIDER * width, width, 1)

    def forward(self, x: Float[Tensor, "batch_frame width y x"]) -> Float[Tensor, "batch_frame width y x"]:
        """Apply."""
        grid = x.shape[2:]
        series = x.unflatten(0, (-1, self.frames)).flatten(3).permute(0, 3, 2, 1).flatten(0, 1)
        answer = self.second(F.silu(self.first(series)))
        frames = answer.unflatten(0, (-1, grid[0] * grid[1])).permute(0, 3, 2, 1).flatten(0, 1)
        return x + frames.unflatten(2, grid)


class TemporalUNet(nn.Module):
    """The network: `(batch * frame, inputs, y, x)`, frames running fastest, and levels of every frame."""

    def __init__(
        self, *, frames: int, inputs: int, outputs: int, levels: int, widths: Sequence[int], blocks: int, kernel: int
    ) -> None:
        super().__init__()
        coarser = list(itertools.pairwise(widths))
        self.embed = nn.Sequential(nn.Linear(levels, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _EMBEDDED))
        self.enter = _spatial(inputs, widths[0], kernel)
        self.down = nn.ModuleList(_spatial(fine, coarse, kernel, stride=2) for fine, coarse in coarser)
        self.down_time = nn.ModuleList(TemporalBlock(coarse, frames) for _, coarse in coarser)
        self.down_blocks, self.up_blocks = (
            nn.ModuleList(nn.ModuleList(SpatialBlock(width, kernel) for _ in range(blocks)) for width in widths)
            for _ in range(2)
        )
        self.up_time = nn.ModuleList(TemporalBlock(coarse, frames) for _, coarse in coarser)
        self.up_norm = nn.ModuleList(PixelNorm(coarse) for _, coarse in coarser)
        self.up = nn.ModuleList(_spatial(coarse, fine, kernel) for fine, coarse in coarser)
        self.leave = _spatial(widths[0], outputs, kernel)

    def forward(
        self, x: Float[Tensor, "batch_frame inputs y x"], level: Float[Tensor, "batch_frame levels"]
    ) -> Float[Tensor, "batch_frame outputs y x"]:
        """Apply."""
        known, kept = self.embed(level), []
        x = _all(self.down_blocks[0], self.enter(x), known)
        for i, down in enumerate(self.down):
            kept.append(x)
            x = _all(self.down_blocks[i + 1], self.down_time[i](down(x)), known)
        for i in reversed(range(len(self.up))):
            x = self.up_norm[i](self.up_time[i](_all(self.up_blocks[i + 1], x, known)))
            x = kept[i] + self.up[i](F.interpolate(x, scale_factor=2, mode="nearest"))
        answer: Tensor = self.leave(_all(self.up_blocks[0], x, known))
        return answer


@network("window_temporal")
class WindowTemporal(nn.Module):
    """The network of windows: `(batch, 2 frames channels, y, x)` and levels to `(batch, frames channels, y, x)`.

    Raises ConfigError for sizes that cannot be, LayoutMismatch for a grid that the coarsest level does not divide.
    """

    def __init__(
        self,
        *,
        frames: int,
        channels: int,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 3,
        kernel: int = 5,
    ) -> None:
        super().__init__()
        if min(frames, channels, blocks) < 1 or not widths or min(widths) < 1 or kernel < 1 or kernel % 2 == 0:
            raise ConfigError(
                "network window_temporal: frames, channels, blocks and widths are 1 or more, the kernel an odd number"
            )
        self.frames, self.channels, self.multiple = frames, channels, 2 ** (len(widths) - 1)
        self.unet = TemporalUNet(
            frames=frames,
            inputs=2 * channels,
            outputs=channels,
            levels=2 + channels,  # ratio, which channels are present, whether the frame is given
            widths=widths,
            blocks=blocks,
            kernel=kernel,
        )

    def initialise(self) -> None:
        """Make the output zero."""
        nn.init.zeros_(self.unet.leave.weight)
        if self.unet.leave.bias is not None:
            nn.init.zeros_(self.unet.leave.bias)

    def forward(
        self, fields: Float[Tensor, "batch inputs y x"], level: Float[Tensor, "batch levels"]
    ) -> Float[Tensor, "batch outputs y x"]:
        """Noisy frames and their estimates side by side to the correction of the estimates."""
        if fields.shape[-2] % self.multiple or fields.shape[-1] % self.multiple:
            raise LayoutMismatch(
                f"network window_temporal: the grid is {tuple(fields.shape[-2:])}, each side must be a multiple of "
                f"{self.multiple}"
            )
        both = fields.unflatten(1, (2, self.frames, self.channels)).transpose(1, 2).flatten(2, 3)
        common, given = level[:, : 1 + self.channels], level[:, 1 + self.channels :]
        of_frame = torch.cat([common[:, None].expand(-1, self.frames, -1), given[:, :, None]], dim=2)
        answer: Tensor = self.unet(both.flatten(0, 1), of_frame.flatten(0, 1))
        return answer.unflatten(0, (-1, self.frames)).flatten(1, 2)


def _spatial(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, padding_mode="circular")


def _all(blocks: nn.Module, x: Tensor, known: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]  # a list of modules
        x = block(x, known)
    return x
