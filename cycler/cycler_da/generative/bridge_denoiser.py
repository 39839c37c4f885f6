"""Denoisers of the mask bridge: of the Gaussian that an ensemble spans, and a network.

`ensemble_denoiser`: members with mean m and anomalies X (N of them, X^T X / (N - 1) their covariance),

    E[x_0 | x_a] = m + X^T w / sqrt(N - 1),    w = (I + S S^T)^-1 S Sigma^-1/2 (x_a - A m)
    S = X A Sigma^-1/2 / sqrt(N - 1)

which is exact for that Gaussian; with it the bridge samples the analysis of the global ETKF. No training.

`NetworkDenoiser`: D = c_skip x + c_out F(c_in x, mask, level) with, for a prior of variance 1 in every cell,

    c_in = 1 / sqrt(A^2 + Sigma),   c_skip = A / (A^2 + Sigma),   c_out = sqrt(Sigma / (A^2 + Sigma))

so that the target of F has unit variance at every a (Karras et al. 2022, arXiv:2206.00364, for cells with different A).
level = log of a / (sigma sqrt(1 - a^2)). The mask is an input: one network serves every mask it was shown, and a mask
with a hole where an observation was rejected. The published networks see neither mask nor preconditioning.
Limits: scaled states of mean 0 and deviation near 1; one sigma, that of the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.mask_bridge import BridgeDenoiser, MaskBridge

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Signal over noise between which a network is trained; beyond them the level stays.
RATIOS = (0.02, 100.0)


def ensemble_denoiser(bridge: MaskBridge, members: Float[Tensor, "member channel *space"]) -> BridgeDenoiser:
    """The denoiser of the Gaussian with mean and covariance of two or more members, float64."""
    wide = members.to(torch.float64).flatten(1)
    mean = wide.mean(dim=0)
    anomalies = (wide - mean) / (len(wide) - 1) ** 0.5
    eye = torch.eye(len(wide), dtype=torch.float64, device=wide.device)

    def denoise(x: Tensor, a: float) -> Tensor:
        root = bridge.variance(a).sqrt().flatten()
        factor = bridge.factor(a).flatten()
        seen = anomalies * (factor / root)
        difference = (x.to(torch.float64).flatten(1) - factor * mean) / root
        weights = torch.linalg.solve(eye + seen @ seen.mT, seen @ difference.mT).mT
        return (mean + weights @ anomalies).view(x.shape).to(x.dtype)

    return denoise


class NetworkDenoiser(nn.Module):
    """A network with its preconditioning, for bridges of any mask."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        x: Float[Tensor, "batch channel *space"],
        mask: Float[Tensor, "batch channel *space"],
        noise: Float[Tensor, "batch channel *space"],
        a: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channel *space"]:
        """E[x_0 | x_a]; every state has its own a and mask. `noise` is sigma^2."""
        skip, out, answer = self._parts(x, mask, noise, a)
        return skip * x + out * answer

    def loss(self, clean: Tensor, mask: Tensor, noise: Tensor, a: Tensor, xi: Tensor) -> Float[Tensor, ""]:
        """Mean square of what F misses; 1 where it knows nothing."""
        factor, variance = _diagonals(mask, noise, a)
        x = factor * clean + variance.sqrt() * xi
        skip, out, answer = self._parts(x, mask, noise, a)
        return (((clean - skip * x) / out - answer) ** 2).mean()

    def _parts(self, x: Tensor, mask: Tensor, noise: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        factor, variance = _diagonals(mask, noise, a)
        total = factor**2 + variance
        level = torch.log(signal_ratio(a, noise.flatten(1).mean(dim=1)).clamp(*RATIOS)) / math.log(RATIOS[1])
        constant = level.reshape(-1, *(1,) * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
        answer = self.network(torch.cat([x / total.sqrt(), mask, constant], dim=1))
        return factor / total, (variance / total).sqrt(), answer


def bound_denoiser(model: NetworkDenoiser, bridge: MaskBridge, *, at_once: int = 8) -> BridgeDenoiser:
    """A network for the mask of a bridge; arithmetic in float32, `at_once` states together whatever the batch."""

    def denoise(x: Tensor, a: float) -> Tensor:
        with torch.no_grad():
            return torch.cat([_apply(model, bridge, part, a) for part in x.to(torch.float32).split(at_once)]).to(
                x.dtype
            )

    return denoise


def signal_ratio(a: Float[Tensor, "batch"], noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """a / (sigma sqrt(1 - a^2))."""
    return a / (noise * (1.0 - a**2)).clamp(min=1e-12).sqrt()


def _apply(model: Callable[..., Tensor], bridge: MaskBridge, x: Tensor, a: float) -> Tensor:
    mask, noise = (field.to(x).expand_as(x) for field in (bridge.mask, bridge.noise))
    return model(x, mask, noise, x.new_full((len(x),), a))


def _diagonals(mask: Tensor, noise: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    wide = a.reshape(-1, *(1,) * (mask.ndim - 1))
    return mask + wide * (1.0 - mask), noise * (1.0 - wide**2).clamp(min=1e-8)
