"""Forecasts that every learned radar forecast must beat, and how all of them are scored.

Persistence, one shift of the whole field, and advection along the motion of blocks; scores on the code scale
v = code / 255. Level 74 of the archive is scored at 73: in the SEVIR frames at hand original 74s are 73.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cycler_da.advection import advect
from cycler_da.systems.sevir_codec import CODE_SPAN

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

#: A method: last frame `(batch, 1, y, x)` on the code scale, motion `(batch, 2, y, x)` and lead in steps -> forecast.
Method = Callable[["Tensor", "Tensor", int], "Tensor"]
SCORE_CODES = (16, 73, 133)


def persistence(last: Float[Tensor, "batch 1 y x"], flow: Tensor, lead: int) -> Float[Tensor, "batch 1 y x"]:
    """The last frame, unchanged."""
    return last


def global_shift(
    last: Float[Tensor, "batch 1 y x"], flow: Float[Tensor, "batch 2 y x"], lead: int
) -> Float[Tensor, "batch 1 y x"]:
    """The last frame, shifted by the mean motion of the domain."""
    return advect(last, flow.mean(dim=(-2, -1), keepdim=True).expand_as(flow), steps=lead)


def flow_advection(
    last: Float[Tensor, "batch 1 y x"], flow: Float[Tensor, "batch 2 y x"], lead: int
) -> Float[Tensor, "batch 1 y x"]:
    """The last frame, carried along the motion of its blocks."""
    return advect(last, flow, steps=lead)


BASELINES: Mapping[str, Method] = {
    "persistence": persistence,
    "global shift": global_shift,
    "block-flow advection": flow_advection,
}


def score_frames(
    forecast: Float[Tensor, "batch y x"], target: Float[Tensor, "batch y x"], known: Bool[Tensor, "batch y x"]
) -> dict[str, float]:
    """RMSE and critical success indices over the known pixels: rmse (code / 255), csi_16, csi_73, csi_133.

    A forecast counts as reaching a code when it rounds to it or above; NaN where nothing reaches it.
    """
    error = (forecast - target)[known].double()
    scores = {"rmse": float((error**2).mean().sqrt())}
    for code in SCORE_CODES:
        level = (code - 0.5) / CODE_SPAN
        hit, seen = (forecast >= level) & known, (target >= level) & known
        union = int((hit | seen).sum())
        scores[f"csi_{code}"] = int((hit & seen).sum()) / union if union else float("nan")
    return scores
