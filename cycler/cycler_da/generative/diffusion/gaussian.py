"""The exact denoiser of a Gaussian: the anchor of every test of samplers and likelihood scores.

For z_0 ~ N(m, C) and r = sigma / mu

    zhat = m + C (C + r^2 I)^-1 (z / mu - m),      Cov[z_0 | z_t] = (C^-1 + r^-2 I)^-1,

and with y = A z_0 + e, e ~ N(0, R), the posterior is Gaussian again, so that E[z_0 | z_t, y] is known too.
Dense matrices over the flattened state, float64: for low dimension and for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class GaussianDenoiser:
    """Denoiser of N(mean, covariance); the mean may differ from state to state."""

    mean: Float[Tensor, "*batch n"]
    covariance: Float[Tensor, "n n"]
    schedule: Schedule

    def __call__(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch *state"]:
        """E[z_0 | z_t]."""
        difference = z.flatten(1) / self.schedule.mu(t) - self.mean
        return (self.mean + difference @ self._shrink(t).mT).view(z.shape)

    def left_covariance(self, t: float) -> Float[Tensor, "n n"]:
        """Cov[z_0 | z_t]."""
        return self.schedule.ratio(t) ** 2 * self._shrink(t)

    def log_density(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch"]:
        """log p_t(z) up to a constant."""
        mu, sigma = self.schedule.mu(t), self.schedule.sigma(t)
        total = mu**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance), dtype=z.dtype)
        difference = z.flatten(1) - mu * self.mean
        return -0.5 * (difference * torch.linalg.solve(total, difference.mT).mT).sum(dim=1)

    def given(
        self, values: Float[Tensor, "*batch obs"], matrix: Float[Tensor, "obs n"], variance: Float[Tensor, "obs"]
    ) -> GaussianDenoiser:
        """The denoiser of z_0 given y = A z_0 + e."""
        cross = self.covariance @ matrix.mT
        gain = torch.linalg.solve(matrix @ cross + torch.diag(variance), cross.mT).mT
        mean = self.mean + (values - self.mean @ matrix.mT) @ gain.mT
        covariance = self.covariance - gain @ cross.mT
        return GaussianDenoiser(mean, 0.5 * (covariance + covariance.mT), self.schedule)

    def _shrink(self, t: float) -> Tensor:
        eye = torch.eye(len(self.covariance), dtype=self.covariance.dtype)
        return torch.linalg.solve(self.covariance + self.schedule.ratio(t) ** 2 * eye, self.covariance).mT
