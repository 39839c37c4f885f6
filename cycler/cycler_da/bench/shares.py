"""Shares with their interval: k of n, Wilson (1927), J. Amer. Statist. Assoc. 22, 209: never empty at 0 or 1."""

from __future__ import annotations

import math

from cycler_da.tables.report import Row

#: Two-sided 95 % quantile of the normal distribution.
_Z = 1.959963984540054


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of k in n independent trials, n > 0."""
    centre = (k + _Z**2 / 2) / (n + _Z**2)
    half = _Z / (n + _Z**2) * math.sqrt(k * (n - k) / n + _Z**2 / 4)
    # The ends are exact where nothing or everything was found; by the formula they are so but for rounding.
    return max(0.0, centre - half) if k else 0.0, min(1.0, centre + half) if k < n else 1.0


def share_row(case: str, method: str, metric: str, k: int, n: int) -> Row:
    """The share of k in n as a row; NaN without trials."""
    if not n:
        return Row(case, method, metric, float("nan"), n=0)
    low, high = wilson(k, n)
    return Row(case, method, metric, k / n, low, high, n)
