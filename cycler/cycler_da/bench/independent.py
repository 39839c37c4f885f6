"""A number that was found several times independently (for each truth, trial or seed): its mean with an interval.

The interval is Student's t of the mean at 95 %. A ratio of what was found (spread/skill) is that of the sums, for the
mean of ratios is too large where errors vary; its interval is that of the jackknife's pseudo-values (Efron and
Tibshirani 1993, ch. 11). For series in time order see `verification.consistency`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

import numpy as np

from cycler_da.tables.report import Row
from cycler_da.verification.consistency import t_quantile


def independent_row(case: str, method: str, metric: str, found: Sequence[float]) -> Row:
    """Row of a number found independently; NaN are left out and not counted, one value has no interval."""
    kept = [float(value) for value in found if np.isfinite(value)]
    if len(kept) < 2:
        return Row(case, method, metric, kept[0] if kept else float("nan"), n=len(kept))
    half = t_quantile(0.975, len(kept) - 1) * stdev(kept) / len(kept) ** 0.5
    return Row(case, method, metric, mean(kept), mean(kept) - half, mean(kept) + half, len(kept))


def pooled_spread_skill(rmse: Sequence[float], spread_skill: Sequence[float]) -> float:
    """Spread/skill of all cases together from those of each: the root of summed variances over summed squares."""
    squares = np.square(np.asarray(rmse, dtype=np.float64))
    return float(np.sqrt((np.square(spread_skill) * squares).sum() / squares.sum()))


def spread_skill_row(case: str, method: str, metric: str, rmse: Sequence[float], spread_skill: Sequence[float]) -> Row:
    """Row of the pooled spread/skill of independent cases; cases that are not finite are left out."""
    pairs = [(a, b) for a, b in zip(rmse, spread_skill, strict=True) if np.isfinite(a) and np.isfinite(b)]
    n = len(pairs)
    if n < 2:
        return Row(case, method, metric, pairs[0][1] if pairs else float("nan"), n=n)
    whole = pooled_spread_skill(*zip(*pairs, strict=True))
    without = [pooled_spread_skill(*zip(*(pairs[:i] + pairs[i + 1 :]), strict=True)) for i in range(n)]
    around = independent_row(case, method, metric, [n * whole - (n - 1) * one for one in without])
    return replace(around, value=whole)
