"""What forecasters read off an ensemble of one variable: numpy, members first.

    probability_matched_mean   the ranks of the mean with the values of the members: the pooled values of M members,
                               sorted, every M-th of them, are given to the cells in the order of the ensemble mean
    probability                share of members at or above a threshold, cell by cell
    within                     share of members that reach it anywhere within a radius: the neighbourhood maximum
                               probability; cells beyond the edge of the grid do not count
Sources: Ebert (2001), Mon. Wea. Rev. 129, 2461-2480 (probability matching); Schwartz and Sobash (2017), Mon. Wea. Rev.
145, 3397-3418 (neighbourhood probabilities and their names).
Limits: probability matching is global, over the whole patch; a radius below half a cell is the cell itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def probability_matched_mean(members: Float[np.ndarray, "member *space"]) -> Float[np.ndarray, "*space"]:
    """The ensemble mean with the distribution of the members."""
    n_members, space = len(members), members.shape[1:]
    mean = members.mean(axis=0, dtype=np.float64).ravel()
    # The median of each M sorted values stands for them: the largest of all would raise the maximum with M.
    pooled = np.sort(members.ravel())[n_members // 2 :: n_members]
    matched = np.empty(mean.size, dtype=members.dtype)
    matched[np.argsort(mean, kind="stable")] = pooled
    return matched.reshape(space)


def probability(members: Float[np.ndarray, "member *space"], threshold: float) -> Float[np.ndarray, "*space"]:
    """Share of members at or above a threshold."""
    return (members >= threshold).mean(axis=0, dtype=np.float32)


def probability_within(
    members: Float[np.ndarray, "member y x"], threshold: float, *, radius: float
) -> Float[np.ndarray, "y x"]:
    """Share of members that reach a threshold anywhere within `radius` cells."""
    return reached_within(members >= threshold, radius=radius).mean(axis=0, dtype=np.float32)


def reached_within(events: Bool[np.ndarray, "*batch y x"], *, radius: float) -> Bool[np.ndarray, "*batch y x"]:
    """True where an event lies within `radius` cells (distance of cell centres)."""
    n_y = events.shape[-2]
    reached = np.zeros(events.shape, dtype=bool)
    for shift in range(-math.floor(radius), math.floor(radius) + 1):
        row = _within_row(events, math.floor(math.sqrt(radius**2 - shift**2)))
        low, high = max(0, shift), min(n_y, n_y + shift)
        if low < high:
            reached[..., low:high, :] |= row[..., low - shift : high - shift, :]
    return reached


def _within_row(events: np.ndarray, half: int) -> np.ndarray:
    """True where an event lies within `half` cells along the last axis."""
    counts = np.cumsum(events, axis=-1, dtype=np.int32)
    n_x = events.shape[-1]
    last = np.minimum(np.arange(n_x) + half, n_x - 1)
    before = np.arange(n_x) - half - 1
    earlier = np.where(before >= 0, counts[..., np.maximum(before, 0)], 0)
    return counts[..., last] > earlier
