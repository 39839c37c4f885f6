"""U-Net that denoises a partly observed state: its inputs are those of `bridge_denoiser`.

The U-Net is `unet`; it gives as many fields as it takes, of which the first ones are the answer. It knows no position,
so that a force that stands still is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from cycler_da.generative.networks.base import network
from cycler_da.generative.networks.unet import UNet

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@network("bridge_unet")
class BridgeUNet(nn.Module):
    """F: noisy states, interpolation, mask and level, `(batch, 3 fields + 1, y, x)` to `(batch, fields, y, x)`."""

    def __init__(
        self, *, fields: int, channels: Sequence[int] = (64, 96), blocks: int = 1, patch: int = 4, padding: str
    ) -> None:
        super().__init__()
        self.fields = fields
        self.unet = UNet(
            history=1, fields=3 * fields + 1, channels=channels, blocks=blocks, patch=patch, padding=padding
        )

    def initialise(self) -> None:
        """Make the output zero."""
        self.unet.initialise()

    def forward(self, inputs: Float[Tensor, "batch inputs y x"]) -> Float[Tensor, "batch fields y x"]:
        """Apply the network."""
        answer: Tensor = self.unet(inputs)[:, : self.fields]
        return answer
