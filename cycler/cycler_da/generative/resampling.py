"""Weights of members: evidence, effective sample size, tempering, systematic resampling.

    W_i = w_i / sum w,   ESS = 1 / (N sum W_i^2) in (0, 1],   log p^ = log mean w

Systematic resampling takes member i as often as a comb of N teeth, shifted by one uniform number, falls into its
share of [0, 1]: every count is the floor or the ceiling of N W_i, and each member is taken N W_i times on average.
Source: Doucet, Johansen (2009), "A tutorial on particle filtering and smoothing", section 3.5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Halvings of the exponent's interval: to about 1e-9.
_HALVINGS = 30


def normalised(log_weights: Float[Tensor, "member"]) -> Float[Tensor, "member"]:
    """Weights with sum one."""
    return torch.softmax(log_weights.to(torch.float64), dim=0)


def log_evidence(log_weights: Float[Tensor, "member"]) -> float:
    """Logarithm of the mean weight."""
    return float(torch.logsumexp(log_weights.to(torch.float64), dim=0)) - math.log(len(log_weights))


def effective_share(log_weights: Float[Tensor, "member"]) -> float:
    """ESS as a share of the members, in (0, 1]; 1 when all weights are equal."""
    return float(1.0 / (normalised(log_weights).square().sum() * len(log_weights)))


def tempering_exponent(log_weights: Float[Tensor, "member"], *, share: float) -> float:
    """Largest exponent in [0, 1] that keeps the effective share of w^exponent at `share` or more (0 < share < 1)."""
    if effective_share(log_weights) >= share:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if effective_share(middle * log_weights) >= share:
            low = middle
        else:
            high = middle
    return low


def systematic_resampling(log_weights: Float[Tensor, "member"], *, uniform: float) -> Int[Tensor, "member"]:
    """Positions of the members to keep, in rising order; `uniform` in [0, 1) is the shift of the comb."""
    n = len(log_weights)
    edges = torch.cumsum(normalised(log_weights), dim=0)
    edges[-1] = 1.0  # not a rounding error below it
    teeth = (torch.arange(n, dtype=torch.float64, device=edges.device) + uniform) / n
    return torch.searchsorted(edges, teeth, right=True).clamp_max(n - 1)
