"""Wasserstein-1 distance of point clouds of one size, by auction, many pairs of clouds at once.

    W1 = min over permutations of mean_i |x_i - y_p(i)|

Auction: every point without a partner bids for the partner that is best for it at the present prices, by as much as
that is better than its second best, plus eps; each partner goes to the highest bid. It ends within eps of the minimum.
Source: Bertsekas (1988), Ann. Oper. Res. 14, 105-123.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

#: Distance from the minimum, as a fraction of the mean distance between the clouds' points.
_TOLERANCE = 1e-3


def cloud_distance(
    x: Float[np.ndarray, "pair point dimension"], y: Float[np.ndarray, "pair point dimension"]
) -> Float[np.ndarray, "pair"]:
    """W1 of every pair, to a thousandth of its mean distance."""
    cost = np.linalg.norm(x[:, :, None] - y[:, None], axis=-1)
    partner = _auction(-cost, eps=_TOLERANCE * cost.mean(axis=(1, 2)))
    return np.take_along_axis(cost, partner[..., None], axis=2)[..., 0].mean(axis=1)


def _auction(value: np.ndarray, *, eps: np.ndarray) -> np.ndarray:
    """Partner of every point; `value` is what each pairing is worth."""
    n_pairs, n, _ = value.shape
    price, owner = np.zeros((n_pairs, n)), np.full((n_pairs, n), -1)
    partner = np.full((n_pairs, n), -1)
    while (partner < 0).any():
        pair, point = np.nonzero(partner < 0)
        worth = value[pair, point] - price[pair]
        best = worth.argmax(axis=1)
        rows = np.arange(len(pair))
        top = worth[rows, best]
        worth[rows, best] = -np.inf
        second = worth.max(axis=1) if n > 1 else top
        bid = price[pair, best] + top - second + eps[pair]
        order = np.argsort(bid, kind="stable")  # the highest bid for a partner is written last
        offered, winner = np.full((n_pairs, n), -np.inf), np.full((n_pairs, n), -1)
        offered[pair[order], best[order]] = bid[order]
        winner[pair[order], best[order]] = point[order]
        sold, wanted = np.nonzero(winner >= 0)
        before = owner[sold, wanted]
        partner[sold[before >= 0], before[before >= 0]] = -1
        owner[sold, wanted] = winner[sold, wanted]
        partner[sold, winner[sold, wanted]] = wanted
        price[sold, wanted] = offered[sold, wanted]
    return partner
