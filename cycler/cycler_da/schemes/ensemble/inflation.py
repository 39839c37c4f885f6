"""Inflation and relaxation of ensemble anomalies (deviations from the ensemble mean).

    multiplicative:  A_b <- f A_b
    RTPP:            A_a <- (1 - a) A_a + a A_b
    RTPS:            A_a <- A_a (1 + a (sd_b - sd_a) / sd_a)      at every grid point
    of the analysis: A_a <- f A_a                            where the analysis moved a member
Order of use in the LETKF: multiplicative inflation of the background inside the transform, RTPP, RTPS, and inflation
of the analysis. Both relaxations are towards the background before it was inflated. Where analysis and background
members are equal, nothing is changed. Inflating the background widens what is weighed against the observations;
inflating the analysis, as published settings of DAPPER do, widens what the next forecast starts from.
Sources: Anderson and Anderson (1999), Mon. Wea. Rev. 127 (multiplicative); Zhang, Snyder and Sun (2004),
Mon. Wea. Rev. 132, eq. 5 (RTPP); Whitaker and Hamill (2012), Mon. Wea. Rev. 140, eq. 2 (RTPS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


def inflate(
    members: Float[Tensor, "member *state"], factor: float | Float[Tensor, "*state"]
) -> Float[Tensor, "member *state"]:
    """Multiply the anomalies by `factor` (or a field of them) and keep the mean; float64 inside, dtype kept."""
    x = members.to(torch.float64)
    return (x + (factor - 1) * _anomalies(x)).to(members.dtype)


def inflate_moved(
    analysis: Float[Tensor, "member *state"], factor: float, *, is_moved: Bool[Tensor, "member *state"]
) -> Float[Tensor, "member *state"]:
    """Multiply the anomalies by `factor` where any member was moved; elsewhere members keep their bits."""
    if factor == 1:
        return analysis
    return torch.where(is_moved.any(dim=0), inflate(analysis, factor), analysis)


def relax_to_prior_perturbations(
    analysis: Float[Tensor, "member *state"], background: Float[Tensor, "member *state"], *, amount: float
) -> Float[Tensor, "member *state"]:
    """RTPP: blend analysis anomalies with background anomalies; amount 0 none, 1 the background's."""
    if amount == 0:
        return analysis
    x, prior = analysis.to(torch.float64), background.to(torch.float64)
    return (x + amount * (_anomalies(prior) - _anomalies(x))).to(analysis.dtype)


def relax_to_prior_spread(
    analysis: Float[Tensor, "member *state"], background: Float[Tensor, "member *state"], *, amount: float
) -> Float[Tensor, "member *state"]:
    """RTPS: scale analysis anomalies towards the background spread; amount 0 none, 1 the background's.

    Where the analysis has no spread nothing is scaled.
    """
    if amount == 0:
        return analysis
    x = analysis.to(torch.float64)
    sd_a, sd_b = x.std(dim=0), background.to(torch.float64).std(dim=0)
    has_spread = sd_a > 0
    growth = torch.where(has_spread, amount * (sd_b - sd_a) / torch.where(has_spread, sd_a, 1.0), 0.0)
    return (x + growth * _anomalies(x)).to(analysis.dtype)


def _anomalies(x: Tensor) -> Tensor:
    return x - x.mean(dim=0)
