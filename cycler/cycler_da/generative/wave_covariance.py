"""Covariance of fields on a torus whose waves keep their phase: one 2 x 2 block for each wave.

A homogeneous covariance gives sine and cosine of a wave the same variance. Noise that drives sin(6 x) alone does not:
its sine has all of it. Here the orthonormal coefficients of a real field keep their joint covariance,

    v_k = (Re x_k, Im x_k),   B_k = g_k Cov[v_k]   (2 x 2),   C = F^T B F,     g_k = 2, or 1 where x_k is always real

so a field has covariance C when waves are independent of each other. Homogeneous covariances are the case B_k = b_k I.
`apply`, `color`, `whiten`, `damped` are exact by FFT, as for `covariance.SpectralCovariance`.
Limits: one channel; covariances between different waves are dropped; 64 x 64 x 3 / 2 numbers are estimated, so some
hundred independent fields are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class WaveCovariance:
    """Eigen-decomposition of the blocks B_k on the half plane of rfft2, float64."""

    values: Float[Tensor, "y k 2"]
    vectors: Float[Tensor, "y k 2 2"]

    def apply(self, v: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch 1 y x"]:
        """C v."""
        return self._function(v, lambda b: b)

    def color(self, z: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch 1 y x"]:
        """C^1/2 z: a draw from N(0, C) when z is standard normal."""
        return self._function(z, torch.sqrt)

    def whiten(self, v: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch 1 y x"]:
        """C^-1/2 v; directions without variance give zero."""
        floor = 1e-14 * float(self.values.max())
        return self._function(v, lambda b: torch.where(b > floor, b.clamp(min=floor) ** -0.5, torch.zeros_like(b)))

    def damped(self, precision: float) -> WaveCovariance:
        """(C^-1 + precision I)^-1."""
        return WaveCovariance(self.values / (1.0 + precision * self.values), self.vectors)

    def scaled(self, factor: float) -> WaveCovariance:
        """The covariance times a factor."""
        return WaveCovariance(self.values * factor, self.vectors)

    def _function(self, v: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        modes = torch.fft.rfft2(v.to(torch.float64), norm="ortho")
        vectors = self.vectors.to(v.device)
        blocks = (vectors * function(self.values).to(v.device).unsqueeze(-2)) @ vectors.mT
        first = blocks[..., 0, 0] * modes.real + blocks[..., 0, 1] * modes.imag
        second = blocks[..., 1, 0] * modes.real + blocks[..., 1, 1] * modes.imag
        return torch.fft.irfft2(torch.complex(first, second), s=v.shape[-2:], norm="ortho").to(v.dtype)


def wave_blocks(residuals: Float[Tensor, "sample 1 y x"]) -> Float[Tensor, "3 y k"]:
    """Measure B_k of zero-mean fields: its entries (Re Re, Im Im, Re Im), float64."""
    modes = torch.fft.rfft2(residuals[:, 0].to(torch.float64), norm="ortho")
    joint = torch.stack([modes.real**2, modes.imag**2, modes.real * modes.imag]).mean(dim=1)
    return joint * _pairs(residuals.shape[-1])


def wave_covariance(blocks: Float[Tensor, "3 y k"]) -> WaveCovariance:
    """The covariance of measured blocks; negative eigenvalues from rounding are set to zero."""
    first, second, cross = blocks.to(torch.float64)
    rows = torch.stack([torch.stack([first, cross], dim=-1), torch.stack([cross, second], dim=-1)], dim=-2)
    values, vectors = torch.linalg.eigh(rows)
    return WaveCovariance(values.clamp(min=0.0), vectors)


def _pairs(n: int) -> Float[Tensor, "y k"]:
    """2 where a coefficient has a conjugate partner, 1 where it is its own and always real."""
    factor = torch.full((n, n // 2 + 1), 2.0, dtype=torch.float64)
    for y in (0, n // 2):
        for k in (0, n // 2):
            factor[y, k] = 1.0
    return factor
