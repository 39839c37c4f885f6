"""Lag-1 smoother with perturbed observations: members at an earlier time are moved by later observations.

    x_i + K (y + e_i - h_i),   K = P_xh (P_hh + S)^-1,   e_i ~ N(0, S)

with P the sample covariances of the states (and their history) x_i and their predictions h_i of the observations, and
S the covariance of y given x. Dense S, no distances: for systems of few variables. Perturbations have zero mean over
members. In n passes S is multiplied by n in each (multiple data assimilation), the predictions being made anew.
Sources: Evensen, van Leeuwen (2000), Mon. Wea. Rev. 128 (ensemble smoother); Emerick, Reynolds (2013), Comput.
Geosci. 55 (multiple passes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.schemes.enkf import sample_increments

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def smooth(
    states: Float[Tensor, "member *state"],
    hx: Float[Tensor, "member obs"],
    values: Float[Tensor, "obs"],
    *,
    covariance: Float[Tensor, "obs obs"],
    perturbations: Float[Tensor, "member obs"],
) -> Float[Tensor, "member *state"]:
    """Move members; `perturbations` are draws from N(0, I) whose sample mean is zero, `covariance` is S."""
    factor = torch.linalg.cholesky(covariance)

    def whiten(v: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(factor, v.mT, upper=False).mT

    white = whiten(hx)
    differences = whiten(values[None]) + perturbations - white
    x = states.to(torch.float64).flatten(1)
    ones = torch.ones_like(values)
    change, _ = sample_increments(x - x.mean(dim=0), white - white.mean(dim=0), differences, error_variance=ones)
    return (x + change).view(states.shape).to(states.dtype)
