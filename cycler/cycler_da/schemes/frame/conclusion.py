"""The end of every analysis of one time: new states in the place of the last ones, and what is said about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.schemes.base import Analysis
from cycler_da.schemes.frame.diagnostics import field_diagnostics

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def conclude(
    background: Ensemble,
    analysed: Float[Tensor, "member channel *space"],
    *,
    carry: Mapping[str, Tensor],
    report: Mapping[str, float],
    earlier: Float[Tensor, "member time channel *space"] | None = None,
) -> Analysis:
    """Analysis with these states at the last time of the background; spread and increment join the report.

    `earlier` are the frames before it as a smoother has them; without them they stay those of the background.
    """
    fields = field_diagnostics(background.latest, analysed, channels=background.layout.channels)
    frames = background.values[:, :-1] if earlier is None else earlier
    values = torch.cat([frames, analysed.unsqueeze(1)], dim=1)
    return Analysis(background.with_values(values), carry, {**report, **fields})
