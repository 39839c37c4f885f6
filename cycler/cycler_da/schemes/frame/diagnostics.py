"""Diagnostics: what an analysis did, as plain numbers for the log and the statistics of a cycle.

With d = y - mean(H(x_b)), s2 the ensemble variance of H(x_b) and r the error variance:
    innovation_chi_square = mean of d^2 / (s2 + r)      (1 when background spread and R are right)
    dof_signal = trace of H K = sum of var(H(x_a)) / r  (before relaxation; exact for a Kalman analysis)
Quantities with units are given for each variable, as `name.variable`.
Sources: Desroziers et al. (2005), Q. J. R. Meteorol. Soc. 131 (innovation statistics);
Cardinali et al. (2004), Q. J. R. Meteorol. Soc. 130 (degrees of freedom for signal).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.obs.base import Observations

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def field_diagnostics(
    background: Float[Tensor, "member channel *space"],
    analysis: Float[Tensor, "member channel *space"],
    *,
    channels: tuple[str, ...],
) -> dict[str, float]:
    """Spread before and after (root of the mean variance) and the largest increment of the mean."""
    result: dict[str, float] = {}
    before, after = background.to(torch.float64), analysis.to(torch.float64)
    for i_channel, name in enumerate(channels):
        x_b, x_a = before[:, i_channel], after[:, i_channel]
        if len(x_b) > 1:
            result[f"spread_background.{name}"] = float(x_b.var(dim=0).mean().sqrt())
            result[f"spread_analysis.{name}"] = float(x_a.var(dim=0).mean().sqrt())
        result[f"max_increment.{name}"] = float((x_a.mean(dim=0) - x_b.mean(dim=0)).abs().max())
    return result


def innovation_diagnostics(
    innovations: Float[Tensor, "obs"],
    predicted_variance: Float[Tensor, "obs"],
    *,
    observations: Observations,
) -> dict[str, float]:
    """Count, mean innovation of each variable, and chi-square; needs at least one observation."""
    innovations, predicted_variance = innovations.cpu(), predicted_variance.cpu()
    result: dict[str, float] = {"n_obs": float(len(innovations))}
    for i_channel, name in enumerate(observations.layout.channels):
        of_channel = innovations[observations.channels.cpu() == i_channel]
        if len(of_channel):
            result[f"mean_innovation.{name}"] = float(of_channel.mean())
    total = predicted_variance + observations.error_variance.cpu()
    result["innovation_chi_square"] = float((innovations**2 / total).mean())
    return result


def dof_signal(analysis_hx: Float[Tensor, "member obs"], error_variance: Float[Tensor, "obs"]) -> float:
    """Degrees of freedom for signal, trace of H P_a H^T R^-1, from the analysis members."""
    return float((analysis_hx.to(torch.float64).var(dim=0).cpu() / error_variance.cpu()).sum())


def dof_estimate(analysis_hx: Float[Tensor, "member obs"], error_variance: Float[Tensor, "obs"]) -> float:
    """The same for schemes that are no Kalman analysis, whose spread may grow: each observation counts once at most."""
    ratio = analysis_hx.var(dim=0) / error_variance.to(analysis_hx.device)
    return float(ratio.clamp_max(1).sum())


def used_share(innovation: Float[Tensor, "member obs"], change: Float[Tensor, "member obs"]) -> float:
    """Share of the innovations that an analysis removed (regression through zero), held to [0, 1].

    For methods without a gain matrix: dof_signal is this share times the number of observations.
    """
    share = (innovation * change).sum() / innovation.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(share.clamp(0.0, 1.0))
