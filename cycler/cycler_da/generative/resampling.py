"""Weights of members: evidence, effective sample size, tempering, resampling.

    W_i = w_i / sum w,   ESS = 1 / (N sum W_i^2) in (0, 1],   log p^ = log mean w

Systematic resampling takes member i as often as a comb of N teeth, shifted by one uniform number, falls into its
share of [0, 1]: every count is the floor or the ceiling of N W_i, and each member is taken N W_i times on average.
Stratified resampling shifts every tooth by a number of its own; residual resampling takes floor(N W_i) of each member
and draws the few that are left from what is left of the weights. All three take member i N W_i times on average.
Sources: Doucet, Johansen (2009), "A tutorial on particle filtering and smoothing", section 3.5; Kitagawa (1996),
J. Comput. Graph. Stat. 5, 1-25 (stratified); Liu, Chen (1998), J. Am. Stat. Assoc. 93, 1032-1044 (residual).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

#: Halvings of the exponent's interval: to about 1e-9.
_HALVINGS = 30
#: What N W_i may lose in float64 when it is a whole number.
_ROUNDING = 1e-9


def normalised(log_weights: Float[Tensor, "member"]) -> Float[Tensor, "member"]:
    """Weights with sum one."""
    return torch.softmax(log_weights.to(torch.float64), dim=0)


def log_evidence(log_weights: Float[Tensor, "member"]) -> float:
    """Logarithm of the mean weight."""
    return float(torch.logsumexp(log_weights.to(torch.float64), dim=0)) - math.log(len(log_weights))


def effective_share(log_weights: Float[Tensor, "member"]) -> float:
    """ESS as a share of the members, in (0, 1]; 1 when all weights are equal."""
    return float(1.0 / (normalised(log_weights).square().sum() * len(log_weights)))


def n_ancestors(kept: Int[Tensor, "member"]) -> float:
    """How many different members are left of those that were resampled; the others are copies of them."""
    return float(len(kept.unique()))


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
    return _taken_by(torch.full_like(log_weights, uniform, dtype=torch.float64), log_weights)


def stratified_resampling(
    log_weights: Float[Tensor, "member"], *, uniforms: Float[Tensor, "member"]
) -> Int[Tensor, "member"]:
    """Positions of the members to keep, in rising order; `uniforms` in [0, 1) shift each tooth of the comb."""
    return _taken_by(uniforms, log_weights)


def residual_resampling(
    log_weights: Float[Tensor, "member"], *, uniforms: Float[Tensor, "member"]
) -> Int[Tensor, "member"]:
    """Positions of the members to keep, in rising order; as many of the `uniforms` are used as members are left."""
    expected = normalised(log_weights) * len(log_weights)
    sure = torch.floor(expected + _ROUNDING)
    n_left = len(log_weights) - int(sure.sum())
    remainder = (expected - sure).clamp_min(0)
    edges = torch.cumsum(remainder, dim=0)
    drawn = torch.searchsorted(edges, uniforms[:n_left] * edges[-1], right=True).clamp_max(len(log_weights) - 1)
    counts = sure.to(torch.int64) + torch.bincount(drawn, minlength=len(log_weights))
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def resample(
    log_weights: Float[Tensor, "member"], *, how: str, generator: np.random.Generator
) -> Int[Tensor, "member"]:
    """Positions of the members to keep, in rising order, by one of `RESAMPLING`."""
    return RESAMPLING[how](log_weights, generator)


def _systematic(log_weights: Tensor, generator: np.random.Generator) -> Tensor:
    return systematic_resampling(log_weights, uniform=float(generator.random()))


def _stratified(log_weights: Tensor, generator: np.random.Generator) -> Tensor:
    return stratified_resampling(log_weights, uniforms=_uniforms(log_weights, generator))


def _residual(log_weights: Tensor, generator: np.random.Generator) -> Tensor:
    return residual_resampling(log_weights, uniforms=_uniforms(log_weights, generator))


def _uniforms(log_weights: Tensor, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.random(len(log_weights))).to(log_weights.device)


def _taken_by(uniforms: Tensor, log_weights: Tensor) -> Tensor:
    n = len(log_weights)
    edges = torch.cumsum(normalised(log_weights), dim=0)
    edges[-1] = 1.0  # not a rounding error below it
    teeth = (torch.arange(n, dtype=torch.float64, device=edges.device) + uniforms) / n
    return torch.searchsorted(edges, teeth, right=True).clamp_max(n - 1)


#: Name in a config -> how members are drawn.
RESAMPLING: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "systematic": _systematic,
    "stratified": _stratified,
    "residual": _residual,
}
