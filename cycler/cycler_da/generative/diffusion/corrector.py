"""Correctors at a fixed time: Langevin moves, and the forward-diffusion corrector of SOAD.

Langevin, with n the predicted noise and its mean square over a state in place of 1:

    d = tau / mean(n^2),     z <- z - sigma ( d n + sqrt(2 d) xi ),     `steps` times

With n predicted anew for every move the stationary variance of a noise-dominated z is about (1 + tau/2) sigma^2; with
n kept (`score: stale`, as the published code of SOAD has it) it is (1 + steps tau / 2) sigma^2, 1.6 times too large for
5 moves and tau = 0.25 (a frozen force does not pull back).

Forward-diffusion corrector (arXiv:2407.21314, eqs. 40-42): an entry that was observed as y with error variance s^2 is
replaced by what it would be at t,

    z <- mu ( y + sqrt(r^2 - s^2) xi ),      while r > s

which has the mean mu y and the variance sigma^2 of a noised z_0 given y alone. It forgets that z_t and y are coupled
through the prior: beside a likelihood score y is used twice.
Sources: Rozet and Louppe (2023), SDA, Algorithm 4; Song et al. (2021), arXiv:2011.13456.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.denoiser import Denoiser, noise_in
from cycler_da.generative.diffusion.sampler import Draws, Replacement
from cycler_da.generative.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

SCORES = ("fresh", "stale")


@dataclass(frozen=True)
class Langevin:
    """Langevin moves; `then` is done after each (a replacement)."""

    schedule: Schedule
    draws: Draws
    steps: int
    tau: float
    score: str = "fresh"
    then: Replacement | None = None

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ConfigError(f"langevin score is {self.score!r}; valid: {', '.join(SCORES)}")
        if self.steps < 0 or not self.tau > 0:
            raise ConfigError(f"langevin steps is {self.steps}, tau {self.tau}; expected 0 or more and above 0")

    def __call__(self, z: Tensor, clean: Tensor, t: float, *, denoiser: Denoiser, step: int) -> tuple[Tensor, Tensor]:
        """All moves of one time."""
        sigma, shape = self.schedule.sigma(t), (-1, *(1,) * (z.ndim - 1))
        noise = noise_in(z, clean, self.schedule, t)
        for i in range(self.steps):
            move = step * self.steps + i
            size = (self.tau / noise.flatten(1).square().mean(dim=1)).view(shape)
            xi = self.draws.normal("langevin", z.shape[1:], step=move).to(z)
            z = z - sigma * (size * noise + torch.sqrt(2.0 * size) * xi)
            if self.then is not None:
                z = self.then(z, t, move)
            if self.score == "fresh":
                clean = denoiser(z, t)
                noise = noise_in(z, clean, self.schedule, t)
        if self.score == "stale":
            # The published sampler takes its next step with the noise predicted before the moves.
            clean = (z - sigma * noise) / self.schedule.mu(t)
        return z, clean


@dataclass(frozen=True)
class ForwardDiffusion:
    """Replaces observed entries; what is not seen has `seen` false."""

    schedule: Schedule
    draws: Draws
    stream: str
    values: Float[Tensor, "*batch_state"]
    variance: Float[Tensor, "*batch_state"]
    seen: Bool[Tensor, "*batch_state"]

    def __call__(self, z: Tensor, t: float, move: int) -> Tensor:
        """Entries with r > s at t, drawn anew."""
        missing = self.schedule.ratio(t) ** 2 - self.variance
        xi = self.draws.normal(self.stream, z.shape[1:], step=move).to(z)
        drawn = self.schedule.mu(t) * (self.values + missing.clamp(min=0.0).sqrt() * xi)
        return torch.where(self.seen & (missing > 0), drawn.to(z.dtype), z)
