"""An ensemble moved as one to a mean and a covariance, by the affine map that moves it least.

    x_i -> m + T (x_i - mean),    T = V^-1/2 (V^1/2 W V^1/2)^1/2 V^-1/2

with V the covariance of the ensemble, W the one it shall have (both divide by N): the optimal transport of Gaussians,
in deviations of every variable. An ensemble that has m and W is left as it is. Directions without spread stay without.
Source: Gelbrich (1990), Math. Nachr. 147, 185-203; for ensembles Reich, Cotter (2015), section 6.4 and 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Of the largest variance, below which a direction has none.
_FLAT = 1e-12


def affine_map(
    x: Float[Tensor, "member state"], mean: Float[Tensor, "state"], covariance: Float[Tensor, "state state"]
) -> Float[Tensor, "member state"]:
    """The ensemble, float64, with this mean and covariance (which divides by the number of members)."""
    width = deviations(x)
    anomalies = (x - x.mean(dim=0)) / width
    root, inverse = roots(anomalies.mT @ anomalies / len(x))
    middle, _ = roots(root @ (covariance / torch.outer(width, width)) @ root)
    return mean + anomalies @ inverse @ middle @ inverse * width


def deviations(x: Float[Tensor, "member state"]) -> Float[Tensor, "state"]:
    """Standard deviation of every variable; 1 where it has none."""
    width = x.std(dim=0, correction=0)
    return torch.where(width > 0, width, 1.0)


def roots(
    covariance: Float[Tensor, "state state"],
) -> tuple[Float[Tensor, "state state"], Float[Tensor, "state state"]]:
    """Symmetric root and its inverse (0 in directions without variance)."""
    size, directions = torch.linalg.eigh(covariance)
    has_spread = size > _FLAT * size[-1].clamp_min(torch.finfo(torch.float64).tiny)
    root = torch.where(has_spread, size, 0.0).sqrt()
    inverse = torch.where(has_spread, 1.0 / torch.where(has_spread, root, 1.0), 0.0)
    return (directions * root) @ directions.mT, (directions * inverse) @ directions.mT
