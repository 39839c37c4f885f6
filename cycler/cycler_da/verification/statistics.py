"""Statistics: what is computed at each point from an ensemble and the truth, before any sum.

With members x_1..x_M, their mean m, order statistics x_(1) <= ... <= x_(M), and the truth y:

    error            m - y
    variance         1/(M-1) sum_i (x_i - m)^2
    fair CRPS        1/M sum_i |x_i - y| - 1/(2 M (M-1)) sum_ij |x_i - x_j|
                     and  1/2 sum_ij |x_i - x_j| = sum_k (2k - M - 1) x_(k)   (sorted formula, O(M log M))
    rank             number of members below y

The fair CRPS has the same expectation for every M (Ferro 2014, QJRMS 140, 1917, eq. 8): it does not reward
a bigger ensemble for its size. Ranks that are tied with the truth (many zeros in radar) are shared: a truth
with b members below it and t equal to it adds 1/(t+1) to each of the bins b..b+t. That is the expectation of
breaking ties at random, needs no random number, and leaves the histogram of exchangeable members flat.

Points run along the last axis. A NaN in a member or in the truth gives NaN, never zero and never a score of
fewer members. All arithmetic is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def error(members: Float[np.ndarray, "member point"], truth: Float[np.ndarray, "point"]) -> Float[np.ndarray, "point"]:
    """Error of the ensemble mean; its mean is the bias."""
    return members.mean(axis=0) - truth


def variance(members: Float[np.ndarray, "member point"]) -> Float[np.ndarray, "point"]:
    """Ensemble variance with denominator M - 1; needs two members."""
    return members.var(axis=0, ddof=1)


def fair_crps(
    members: Float[np.ndarray, "member point"], truth: Float[np.ndarray, "point"]
) -> Float[np.ndarray, "point"]:
    """Fair continuous ranked probability score, in the units of the variable; needs two members.

    The truth is taken off before sorting, so that a large common offset costs no digits.
    """
    n_members = members.shape[0]
    distance = np.sort(members - truth, axis=0)
    weights = 2.0 * np.arange(1, n_members + 1) - n_members - 1.0
    half_pairs = np.tensordot(weights, distance, axes=(0, 0))
    return np.abs(distance).mean(axis=0) - half_pairs / (n_members * (n_members - 1))


def rank_counts(
    members: Float[np.ndarray, "member point"], truth: Float[np.ndarray, "point"]
) -> Float[np.ndarray, "rank"]:
    """Rank histogram summed over points, M + 1 bins; ties are shared, so that counts may be fractions."""
    n_ranks = members.shape[0] + 1
    if _has_nan(members, truth):
        return np.full(n_ranks, np.nan)
    below = (members < truth).sum(axis=0)
    ties = (members == truth).sum(axis=0)
    table = np.bincount(below * n_ranks + ties, minlength=n_ranks**2).reshape(n_ranks, n_ranks)
    counts = np.zeros(n_ranks)
    for n_ties in np.flatnonzero(table.any(axis=0)):
        share = np.full(n_ties + 1, 1.0 / (n_ties + 1))
        counts += np.convolve(table[:, n_ties], share)[:n_ranks]
    return counts


def contingency_counts(
    field: Float[np.ndarray, "point"], truth: Float[np.ndarray, "point"], *, threshold: float
) -> Float[np.ndarray, "4"]:
    """Hits, misses, false alarms and correct negatives of the event `value >= threshold`."""
    if _has_nan(field, truth):
        return np.full(4, np.nan)
    forecast, observed = field >= threshold, truth >= threshold
    pairs = (forecast & observed, ~forecast & observed, forecast & ~observed, ~forecast & ~observed)
    return np.array([float(pair.sum()) for pair in pairs])


def exceedance_counts(
    members: Float[np.ndarray, "member point"], truth: Float[np.ndarray, "point"], *, threshold: float
) -> Float[np.ndarray, "2 vote"]:
    """Points by the number of members (0..M) at or above a threshold: all of them, and those where it happened.

    The Brier score and a reliability diagram follow from these counts exactly.
    """
    n_votes = members.shape[0] + 1
    if _has_nan(members, truth):
        return np.full((2, n_votes), np.nan)
    votes = (members >= threshold).sum(axis=0)
    happened = votes[truth >= threshold]
    return np.stack([np.bincount(some, minlength=n_votes).astype(np.float64) for some in (votes, happened)])


def _has_nan(*arrays: np.ndarray) -> bool:
    return any(bool(np.isnan(array).any()) for array in arrays)
