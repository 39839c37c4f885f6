"""MASF's published two heads on large grids: a network for u = a x + (1 - a) M h + sigma sqrt(1 - a^2) eta.

    E[z | u] = E_W + s F(inputs),    z = (x, h),    E_W: both heads of the climate's Gaussian (`wiener_heads`)
    1 / s^2 = 1 / w^2 + 1 / r^2 - 1 / P

P is the variance of a cell in the climate, w^2 what u leaves of it where nothing is observed, r^2 what the observed
cells leave of it at a = 0 (`cell_interpolation`). With F = 0, as it starts, the heads are those of the Gaussian,
exactly; s is exact at a = 0 and without observations, and sets no more than the unit of F's target elsewhere.
F (`bridge_unet`) sees (u - L E_W) whitened, the mask, E_W, s / sqrt(P), and log of a / (sigma sqrt(1 - a^2)), and
answers for both heads. The published networks see u and the time alone, and predict x and h themselves. Masks and
longer states are those of `observed_bridge`. Limits: those of `wiener_heads`; one sigma, that of the training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.bridge_denoiser import RATIOS, signal_ratio
from cycler_da.generative.cell_interpolation import CellInterpolation
from cycler_da.generative.two_head_denoiser import LEAST_STD
from cycler_da.generative.two_heads import LEAST_NOISE
from cycler_da.generative.wiener_heads import WienerHeads, mix

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class MixedDenoiser(nn.Module):
    """F with the heads of its climate; longer states are `(batch, nm, y, x)`, mixtures `(batch, n, y, x)`."""

    def __init__(self, network: nn.Module, heads: WienerHeads) -> None:
        super().__init__()
        self.network, self.heads = network, heads

    def forward(
        self, u: Float[Tensor, "batch n y x"], a: Float[Tensor, "level"], seen: CellInterpolation
    ) -> Float[Tensor, "batch nm y x"]:
        """E[z | u]; one a for every mixture, or one for all; all have the mask of `seen`."""
        base, std, answer = self._parts(u, a, seen)
        return base + std * answer

    def loss(self, clean: Tensor, a: Tensor, xi: Tensor, seen: CellInterpolation) -> Float[Tensor, ""]:
        """Mean square of what F misses over x and h, with standard normal noise xi, of which x's part is used."""
        wide = a.to(clean).reshape(-1, 1, 1, 1)
        noise = seen.noise_std**2 * (1.0 - wide**2).clamp(min=LEAST_NOISE)
        u = self._mix(clean, wide, seen) + noise.sqrt() * xi[:, : self.heads.n]
        base, std, answer = self._parts(u, a, seen)
        return (((clean - base) / std - answer) ** 2).mean()

    def at_end(self, noisy: Float[Tensor, "batch nm y x"], seen: CellInterpolation) -> Float[Tensor, "batch nm y x"]:
        """E[z | u] at a = 0, where u is the observation, and in cells without one the noise in the place of x."""
        u = noisy[:, : self.heads.n] * (1.0 - self._mix(torch.ones_like(noisy), torch.zeros(1, 1, 1, 1), seen))
        u = u + self._mix(noisy, torch.zeros(1, 1, 1, 1), seen)
        with torch.no_grad():
            answer: Tensor = self(u, torch.zeros(1), seen)
        return answer

    def _mix(self, z: Tensor, a: Tensor, seen: CellInterpolation) -> Tensor:
        return mix(z, a.to(z), seen.mask[self.heads.n :].to(z), self.heads.channels)

    def _parts(self, u: Tensor, a: Tensor, seen: CellInterpolation) -> tuple[Tensor, Tensor, Tensor]:
        n, wide = self.heads.n, a.to(torch.float64).reshape(-1, 1, 1, 1)
        base = self.heads.mean(u, a, seen.mask[n:])
        prior, left = self.heads.variance(torch.zeros(1)), self.heads.variance(a)
        std = (1.0 / left.clamp(min=LEAST_STD**2) + 1.0 / seen.variance - 1.0 / prior).rsqrt()
        noise = seen.noise_std**2 * (1.0 - wide**2).clamp(min=LEAST_NOISE)
        rest = (u - self._mix(base, wide, seen)) / (noise + self._mix(std, wide, seen) ** 2).sqrt()
        level = torch.log(signal_ratio(wide, seen.noise_std).clamp(*RATIOS)) / math.log(RATIOS[1])
        relative = (std / prior.sqrt()).expand_as(base)
        constant = level.expand(len(base), 1, *base.shape[2:])
        mask = seen.mask[n:].expand(len(base), -1, -1, -1)
        inputs = torch.cat([rest, mask, base, relative, constant], dim=1)
        answer = self.network(inputs.to(torch.float32))
        return base.to(u), std.to(u), answer.to(u)


@dataclass(frozen=True)
class FieldHeads:
    """Both heads of a network for one mask, of flat mixtures: x, and of h a value for every value of x, 0 unseen."""

    model: MixedDenoiser
    seen: CellInterpolation

    def mean(self, u: Float[Tensor, "batch d"], a: float) -> Float[Tensor, "batch nm"]:
        """E[z | u]; differentiable."""
        heads = self.model.heads
        fields = u.view(len(u), heads.n, *self.seen.mask.shape[1:])
        z = self.model(fields, torch.full((1,), a, dtype=torch.float64), self.seen)
        h = torch.zeros_like(fields).index_add(1, torch.tensor(heads.channels), z[:, heads.n :])
        return torch.cat([z[:, : heads.n], h], dim=1).flatten(1)
