"""Waves of a torus as rfft2 keeps them, the half plane k >= 0: their wave numbers and how often each one counts.

A wave (l, k) with 0 < k < n / 2 stands for itself and for its conjugate (-l, -k); the columns k = 0 and k = n / 2 hold
both of a pair. Grids have an even number of points along x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def wave_numbers(n: int) -> Float[Tensor, "y k"]:
    """|k| of every wave of a square grid, float64."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64)[None, :]
    l = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)[:, None]
    return torch.sqrt(k**2 + l**2)


def times_counted(n_y: int, n_x: int) -> Float[Tensor, "y k"]:
    """How often every wave stands in the whole transform, the weight of sums over the half plane; float64."""
    times = torch.full((n_y, n_x // 2 + 1), 2.0, dtype=torch.float64)
    times[:, 0] = times[:, -1] = 1.0
    return times
