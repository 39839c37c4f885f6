"""Optimal interpolation of observed cells from a climatological covariance C, for one mask (scaled units, mean 0).

    mean = G x_obs,   G = C H^T (H C H^T + sigma^2 I)^-1,        r^2 = diag(C - G H C)

G is dense, state by observations: built once for a mask, in float64. Limits: a few hundred observations of up to some
ten thousand cells; the climatology is homogeneous, so that a mean flow counts as variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from cycler_da.generative.covariance import Covariance

#: Least r^2, of the variance of the cell: rounding must not make it 0.
_LEAST = 1e-6


@dataclass(frozen=True)
class CellInterpolation:
    """G and r^2 of one mask."""

    mask: Float[Tensor, "channel *space"]
    noise_std: float
    cells: Int[Tensor, "obs"]  # flat indices
    gain: Float[Tensor, "obs n"]
    variance: Float[Tensor, "channel *space"]

    def mean(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Interpolate the observed cells of every state, with error sigma."""
        return (x.flatten(1)[:, self.cells] @ self.gain.to(x)).view(x.shape)


def cell_interpolation(
    covariance: Covariance, mask: Float[Tensor, "channel *space"], *, noise_std: float
) -> CellInterpolation:
    """Build G for the cells where `mask` is 1; at least one."""
    cells = mask.flatten().nonzero()[:, 0]
    units = torch.zeros(len(cells), mask.numel(), dtype=torch.float64)
    units[torch.arange(len(cells)), cells] = 1.0
    columns = covariance.apply(units.view(-1, *mask.shape)).flatten(1)
    system = columns[:, cells] + noise_std**2 * torch.eye(len(cells), dtype=torch.float64)
    gain = torch.linalg.solve(system, columns)
    variance = cell_variance(covariance, mask)
    left = variance - (gain * columns).sum(dim=0).view(mask.shape)
    return CellInterpolation(mask, noise_std, cells, gain, torch.maximum(left, _LEAST * variance))


def cell_variance(covariance: Covariance, like: Float[Tensor, "channel *space"]) -> Float[Tensor, "channel *space"]:
    """Variance of every cell under a homogeneous covariance: that of the first cell of each channel."""
    units = torch.zeros(len(like), *like.shape, dtype=torch.float64)
    for channel in range(len(like)):
        units[(channel, channel, *(0 for _ in like.shape[1:]))] = 1.0
    answer = covariance.apply(units)
    first = torch.stack([answer[(c, c, *(0 for _ in like.shape[1:]))] for c in range(len(like))])
    return first.reshape(-1, *(1,) * (like.ndim - 1)).expand(like.shape).clone()
