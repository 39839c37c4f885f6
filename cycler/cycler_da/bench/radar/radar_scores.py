"""Levels of the radar benchmarks, and the fractions skill score of one of them within three radii.

A value reaches a code when it rounds to it or above; level 74 of the archive is scored at 73, because in the SEVIR
frames at hand original 74s are stored as 73.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cycler_da.systems.radar_pairs import SPACING
from cycler_da.tables.report import Row
from cycler_da.verification.neighbourhood import FractionSums, fraction_sums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

#: Values of v = code / 255 from which a code is reached.
CODES = {16: 15.5 / 255, 73: 72.5 / 255, 133: 132.5 / 255}
FSS_CODE, RADII_KM = 73, (8, 16, 40)


def fractions_within(
    members: Float[Tensor, "member y x"], truth: Float[Tensor, "y x"], known: Bool[Tensor, "y x"]
) -> list[FractionSums]:
    """Sums of the fractions skill score at every radius, windows of 2 r + 1 cells."""
    limit = CODES[FSS_CODE]
    probability = (members >= limit).to(torch.float64).mean(dim=0).numpy()
    widths = (2 * round(radius / SPACING) + 1 for radius in RADII_KM)
    event = (truth >= limit).numpy()
    return [fraction_sums(probability, event, width=width, known=known.numpy()) for width in widths]


def fraction_rows(case: str, method: str, sums: Sequence[Sequence[FractionSums]]) -> list[Row]:
    """Scores of sums by start (or cycle) and radius."""
    scores = [functools.reduce(operator.add, of_radius).score for of_radius in zip(*sums, strict=True)]
    return [
        Row(case, method, f"FSS {FSS_CODE}, {radius} km", value, n=len(sums))
        for radius, value in zip(RADII_KM, scores, strict=True)
    ]
