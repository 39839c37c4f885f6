"""Denoisers of the mask bridge: of the Gaussian that an ensemble spans, and a network.

`ensemble_denoiser`: members with mean m and anomalies X (N of them, X^T X / (N - 1) their covariance),

    E[x_0 | x_a] = m + X^T w / sqrt(N - 1),    w = (I + S S^T)^-1 S Sigma^-1/2 (x_a - A m)
    S = X A Sigma^-1/2 / sqrt(N - 1)

which is exact for that Gaussian; with it the bridge samples the analysis of the global ETKF. No training.

`NetworkDenoiser`: an interpolation of the observed cells, what each cell tells itself, and a network F,

    D = mu + s (x_a - A mu) + c F,   mu = G x_a,obs and r^2 from cell_interpolation
    v = sigma^2 (1 - a^2),   s = r^2 (a^2 / A) / (v + r^2 a^2),   c = sqrt(r^2 v / (v + r^2 a^2))

The interpolation takes x_a at observed cells for an observation of error sigma; what x_a tells beyond that has the
precision a^2 / v in every cell, observed or not. With F = 0, as it starts, D is optimal interpolation at a = 0, and
exact at every a for independent cells; the target of F has unit variance (as in Karras et al. 2022, arXiv:2206.00364).
F sees (x_a - A mu) / sqrt(v + r^2 a^2), mu, the mask, and log of a / (sigma sqrt(1 - a^2)). The mask is an input: one
network serves every mask, and one with a hole where an observation was rejected. The published networks see x_a alone.
Limits: scaled states of mean 0; one sigma, that of the training.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.cell_interpolation import CellInterpolation
from cycler_da.generative.mask_bridge import BridgeDenoiser, MaskBridge

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Signal over noise between which a network is trained; beyond them the level stays.
RATIOS = (0.02, 100.0)
#: Of 1 - a^2, against a division by 0 at the end.
_LEAST_NOISE = 1e-8


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
    """A network on top of an interpolation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Float[Tensor, "batch channel *space"], a: Float[Tensor, "batch"], seen: CellInterpolation
    ) -> Float[Tensor, "batch channel *space"]:
        """E[x_0 | x_a]; every state has its own a, all have the mask of `seen`."""
        base, out, answer = self._parts(x, a, seen)
        return base + out * answer

    def loss(self, clean: Tensor, a: Tensor, xi: Tensor, seen: CellInterpolation) -> Float[Tensor, ""]:
        """Mean square of what F misses, with standard normal noise xi."""
        factor, wide = _factor(a, seen, clean)
        x = factor * clean + seen.noise_std * (1.0 - wide**2).clamp(min=0.0).sqrt() * xi
        base, out, answer = self._parts(x, a, seen)
        return (((clean - base) / out - answer) ** 2).mean()

    def _parts(self, x: Tensor, a: Tensor, seen: CellInterpolation) -> tuple[Tensor, Tensor, Tensor]:
        factor, wide = _factor(a, seen, x)
        prior = seen.variance.to(x)
        noise = seen.noise_std**2 * (1.0 - wide**2).clamp(min=_LEAST_NOISE)
        total, mean = noise + prior * wide**2, seen.mean(x)
        # a^2 / A is a where A is a, without a division by 0.
        skip = prior * (seen.mask.to(x) * wide**2 + (1.0 - seen.mask.to(x)) * wide) / total
        rest = x - factor * mean
        level = torch.log(signal_ratio(a, seen.noise_std).clamp(*RATIOS)) / math.log(RATIOS[1])
        constant = level.reshape(-1, *(1,) * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
        inputs = [rest / total.sqrt(), mean, seen.mask.to(x).expand_as(x), constant]
        answer = self.network(torch.cat(inputs, dim=1))
        return mean + skip * rest, (prior * noise / total).sqrt(), answer


def bound_denoiser(model: NetworkDenoiser, seen: CellInterpolation, *, at_once: int = 8) -> BridgeDenoiser:
    """A network for one mask; arithmetic in float32, `at_once` states together whatever the batch."""

    def denoise(x: Tensor, a: float) -> Tensor:
        with torch.no_grad():
            parts = x.to(torch.float32).split(at_once)
            return torch.cat([model(part, part.new_full((len(part),), a), seen) for part in parts]).to(x.dtype)

    return denoise


def signal_ratio(a: Float[Tensor, "batch"], noise_std: float) -> Float[Tensor, "batch"]:
    """a / (sigma sqrt(1 - a^2))."""
    return a / (noise_std * (1.0 - a**2).clamp(min=_LEAST_NOISE).sqrt())


def _factor(a: Tensor, seen: CellInterpolation, like: Tensor) -> tuple[Tensor, Tensor]:
    wide = a.to(like).reshape(-1, *(1,) * (like.ndim - 1))
    mask = seen.mask.to(like)
    return mask + wide * (1.0 - mask), wide
