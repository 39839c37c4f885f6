"""Residual denoiser: what a network knows of the whitened residual beyond a Gaussian, and how it learns it.

    U = tau r + B_tau,    E[r | U, x0] = U / (1 + tau) + F(x0, U / sqrt(tau (1 + tau)), tau) / sqrt(1 + tau)
    loss = | sqrt(1 + tau) ( r - U / (1 + tau) ) - F |^2

The target of F has unit variance at every tau when r is white, and F = 0 is the Gaussian: what is learned are the parts
of the residual that depend on the state. tau is log-uniform, and exactly 0 for a fifth of the samples, with zeros in
place of the noisy residual, because every chain begins there (of none where a network is zero at tau = 0 anyway).
The network takes scaled frames and the noisy residual as fields, and tau as its level (`networks.fno`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.fitting import Tell, run_steps
from cycler_da.generative.networks import build_network
from cycler_da.generative.training import TrainSettings

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

TAU_RANGE = (math.exp(-4.0), 300.0)
#: Part of the samples with tau = 0.
AT_ZERO = 0.2


class NetworkDenoiser(nn.Module):
    """F for a network with a level; untrained it is zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        frames: Float[Tensor, "batch fields *space"],
        u: Float[Tensor, "batch channel *space"],
        tau: float | Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch channel *space"]:
        """F; `tau` is one number, or one for every sample."""
        levels = torch.full((len(u),), tau, dtype=u.dtype) if isinstance(tau, float) else tau
        size = torch.sqrt(levels * (1.0 + levels))
        factor = torch.where(size > 0, 1.0 / torch.where(size > 0, size, 1.0), 0.0)
        noisy = u * factor.reshape(-1, *(1,) * (u.ndim - 1))
        answer: Tensor = self.network(torch.cat([frames, noisy], dim=1), levels)
        return answer


def train_denoiser(
    frames: Float[Tensor, "sample fields *space"],
    residuals: Float[Tensor, "sample channel *space"],
    settings: TrainSettings,
) -> NetworkDenoiser:
    """Fit F to whitened residuals by Adam; the moving average of the weights is returned."""
    return fit_denoiser(frames, residuals, settings)[0]


def fit_denoiser(
    frames: Float[Tensor, "sample fields *space"],
    residuals: Float[Tensor, "sample channel *space"],
    settings: TrainSettings,
    *,
    folder: Path | None = None,
    at_zero: float = AT_ZERO,
    tell: Tell | None = None,
) -> tuple[NetworkDenoiser, float]:
    """`train_denoiser` with the seconds it took; it goes on from the checkpoint in `folder`.

    `at_zero` is the part of the samples with tau = 0.
    """
    denoiser, average = (NetworkDenoiser(build_network(settings.network, seed=settings.seed)) for _ in range(2))
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((settings.seed << 32) + step)
        picked = torch.randint(0, len(residuals), (settings.batch,), generator=generator)
        return denoising_loss(denoiser, frames[picked], residuals[picked], generator, at_zero=at_zero)

    running = Checkpoint(folder, repr(settings), denoiser, average, optimiser)
    seconds = run_steps(running, settings, loss_of, tell)
    return average.eval(), seconds


def denoising_loss(
    denoiser: NetworkDenoiser,
    frames: Tensor,
    residuals: Tensor,
    generator: torch.Generator,
    *,
    at_zero: float = AT_ZERO,
) -> Float[Tensor, ""]:
    """Mean square of what F misses, at one random tau for every sample; 1 for F = 0 on white residuals."""
    shape = (-1, *(1,) * (residuals.ndim - 1))
    low, high = (math.log(bound) for bound in TAU_RANGE)
    part = torch.rand(len(residuals), 2, generator=generator)
    tau = torch.where(part[:, 0] < at_zero, 0.0, torch.exp(low + (high - low) * part[:, 1]))
    wide = tau.reshape(shape)
    u = wide * residuals + torch.sqrt(wide) * torch.randn(residuals.shape, generator=generator)
    target = torch.sqrt(1.0 + wide) * (residuals - u / (1.0 + wide))
    return ((target - denoiser(frames, u, tau)) ** 2).mean()
