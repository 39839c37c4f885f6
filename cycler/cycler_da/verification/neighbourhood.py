"""Fractions skill score: are there about as many events nearby as were seen? Sums that merge.

    P, O   share of the cells within a square window where the forecast (its probability) and the truth have the event
    FBS = mean (P - O)^2,   reference = mean P^2 + mean O^2,   FSS = 1 - FBS / reference

1 is perfect, 0 is no overlap at all; NaN where neither has an event. Windows are cut off at the edge of the grid, and
cells that are not known do not count. For an ensemble P is the windowed mean of the members' probability.
Source: Roberts and Lean (2008), Mon. Wea. Rev. 136, 78-97; for probabilities, Schwartz et al. (2010), Wea. Forecasting
25, 263-280.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(frozen=True)
class FractionSums:
    """Sums over cells of one event and one window."""

    difference: float  # of (P - O)^2
    reference: float  # of P^2 + O^2

    def __add__(self, other: FractionSums) -> FractionSums:
        return FractionSums(self.difference + other.difference, self.reference + other.reference)

    @property
    def score(self) -> float:
        """FSS."""
        return 1.0 - self.difference / self.reference if self.reference > 0 else float("nan")


def fraction_sums(
    probability: Float[np.ndarray, "y x"],
    event: Bool[np.ndarray, "y x"],
    *,
    width: int,
    known: Bool[np.ndarray, "y x"] | None = None,
) -> FractionSums:
    """Sums for a window of `width` cells (odd) along each axis."""
    known = np.ones(event.shape, dtype=bool) if known is None else known
    count = np.maximum(_windowed(known.astype(np.float64), width), 1.0)
    p = _windowed(np.where(known, probability, 0.0), width) / count
    o = _windowed((event & known).astype(np.float64), width) / count
    return FractionSums(float(((p - o) ** 2)[known].sum()), float((p**2 + o**2)[known].sum()))


def _windowed(values: np.ndarray, width: int) -> np.ndarray:
    """Sums over square windows, cut off at the edges."""
    half = width // 2
    for axis in (0, 1):
        total = np.cumsum(values, axis=axis)
        n = values.shape[axis]
        last, before = np.minimum(np.arange(n) + half, n - 1), np.arange(n) - half - 1
        shape = [1, 1]
        shape[axis] = n
        earlier = np.where((before >= 0).reshape(shape), np.take(total, np.maximum(before, 0), axis=axis), 0.0)
        values = np.take(total, last, axis=axis) - earlier
    return values
