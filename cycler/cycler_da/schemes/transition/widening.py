"""Widening: an ensemble that lost its track is spread again, as one, for the cycle in which this shows.

    d = y - mean h_i,   P = cov(h_i),   S = cov(y | x)        what was expected of d: N(0, P + S)
    lost:    P(chi-square with p degrees of freedom > d^T (P + S)^-1 d) < P(|N(0, 1)| > k)
    factor:  the maximum of N(d; 0, l^2 P + S) over l in 1 ... 2, by which anomalies at the previous time are multiplied

A filter of few members in a chaotic system holds all of them on one wing of the attractor now and then while the truth
takes the other; nothing but growth brings them back, which takes many cycles. With k = 3 an ensemble that is reliable
is widened in 0.3 % of its cycles. The bound of 2 keeps members near the attractor, where a learned model is at home.
Source: maximum likelihood of the spread as in Anderson (2007), Tellus 59A, 210-224, for one cycle without memory.
Limits: one factor for the whole state, for systems of few variables; a gross error of an observation looks the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LARGEST = 2.0
_N_TRIED = 65


def widening(
    hx: Float[Tensor, "member obs"],
    values: Float[Tensor, "obs"],
    covariance: Float[Tensor, "obs obs"],
    *,
    deviations: float,
) -> float:
    """Factor of the members' anomalies, 1 where nothing surprises; `covariance` is S, float64, two or more members."""
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, torch.cat([hx, values[None]]).mT, upper=False).mT
    members, innovation = white[:-1], white[-1] - white[:-1].mean(dim=0)
    spread, directions = torch.linalg.eigh(torch.cov(members.mT).reshape(len(values), len(values)))
    along = (directions.mT @ innovation).square()
    spread = spread.clamp(min=0.0)
    if not is_lost(float((along / (1 + spread)).sum()), len(values), deviations=deviations):
        return 1.0
    tried = torch.logspace(0.0, math.log10(LARGEST), _N_TRIED, dtype=torch.float64)
    variance = 1 + tried.square()[:, None] * spread
    return float(tried[(along / variance + variance.log()).sum(dim=1).argmin()])


def is_lost(chi_square: float, n_observations: int, *, deviations: float) -> bool:
    """Whether this chi-square is as improbable as a normal variable beyond `deviations`."""
    half = torch.tensor([n_observations / 2, chi_square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1])) < math.erfc(deviations / math.sqrt(2))
