"""Network with one trunk and two heads for states on one axis: what is left of a state and of what operators see of it.

    trunk    convolution, then residual blocks  x + c2 silu(c1 silu(x)),  circular along the axis
    heads    silu, convolution of width 1, silu, convolution of width 1; one for each of both answers, 0 at the start

With `width: 1` and an axis of one point it is a perceptron of the variables (Lorenz-63). Inputs and answers are those
of `generative/two_head_denoiser`. The published networks are a perceptron for Lorenz-63 and a U-Net of one axis for
Lorenz-96; at 40 points two convolutions in each of four blocks of width 5 see as far as a U-Net does.
Limits: one axis; the trunk knows no position, the answers neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.networks.base import network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class _Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first, self.second = (_convolution(channels, channels, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        silu = nn.functional.silu
        answer: Tensor = x + self.second(silu(self.first(silu(x))))
        return answer


@network("two_head_ring")
class TwoHeadRing(nn.Module):
    """The network; `inputs` and `fields` count channels, `fields` those of one answer."""

    def __init__(self, *, inputs: int, fields: int, channels: int = 64, blocks: int = 4, width: int = 5) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            _convolution(inputs, channels, width), *(_Block(channels, width) for _ in range(blocks))
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv1d(channels, channels, 1), nn.SiLU(), nn.Conv1d(channels, fields, 1))
            for _ in range(2)
        )

    def initialise(self) -> None:
        """Make both answers zero."""
        for head in self.heads:
            for parameter in head[-1].parameters():  # type: ignore[index]  # heads are sequences of layers
                nn.init.zeros_(parameter)

    def forward(self, inputs: Float[Tensor, "batch inputs x"]) -> Float[Tensor, "batch answers x"]:
        """Both answers, one behind the other."""
        seen = self.trunk(inputs)
        return torch.cat([head(seen) for head in self.heads], dim=1)


def _convolution(inputs: int, outputs: int, width: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, width, padding=width // 2, padding_mode="circular" if width > 1 else "zeros")
