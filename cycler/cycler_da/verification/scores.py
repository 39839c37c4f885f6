"""Scores: final formulas on merged sums.

With sums over N points of M-member ensembles, SE of the squared error of the mean, V of the variance:

    rmse = sqrt(SE / N)        spread = sqrt(V / N)        fair_crps, mae, bias = sum / N
    spread_skill = sqrt((M + 1) / M) spread / rmse         (1 for exchangeable members and truth;
                                                            Fortin et al. 2014, J. Hydrometeor. 15, 1708, eq. 15)
    coverage_q   = share of the rank histogram inside the central q %, bins cut in proportion

Coverage: the truth's position among the members is spread evenly over its rank's share 1/(M+1) of (0, 1).
At levels an ensemble can name exactly, such as (M-1)/(M+1), this is the share of truths inside the order
statistics; for exchangeable members its expectation is q at every level. A level above (M-1)/(M+1) lies
outside the outermost members and is NaN.

Events `value >= threshold` (Wilks 2019, Statistical Methods in the Atmospheric Sciences, ch. 9) with hits a,
misses c, false alarms b: csi = a/(a+b+c), pod = a/(a+c), far = b/(a+b), frequency_bias = (a+b)/(a+c), all of
the ensemble mean; brier is the mean of (k/M - o)^2 over points where k of M members reach the threshold.
A formula without events (0/0) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cycler_da.errors import DataError
from cycler_da.verification.sums import POOLED, ScoreSums

Sums = Mapping[str, np.ndarray]

#: Central intervals whose coverage is reported, in percent.
COVERAGE_LEVELS = (50, 80, 90)
#: Power of the scale that each statistic is divided by in the pool of normalised variables.
_POWER = {
    "count": 0,
    "error": 1,
    "absolute_error": 1,
    "fair_crps": 1,
    "squared_error": 2,
    "variance": 2,
    "ranks": 0,
}


def final_scores(sums: ScoreSums) -> dict[str, dict[str, Any]]:
    """All scores by variable, and of the pool `all` when the sums have a scale.

    Each is a dict of floats in the units of the variable (dimensionless in the pool) with keys n, rmse, bias,
    mae, fair_crps; for ensembles also spread, spread_skill, coverage_50, coverage_80, coverage_90 and
    rank_histogram (M + 1 counts). A variable without points has NaN scores.
    """
    names = sums.variables if sums.scale is None else (*sums.variables, POOLED)
    return {name: _scores_of(_sums_of(sums, name), sums.n_members) for name in names}


def score(sums: ScoreSums, variable: str, metric: str) -> float:
    """One score of one variable or of `all`; raises DataError for a metric these sums do not give."""
    scores = _scores_of(_sums_of(sums, variable), sums.n_members)
    if metric not in scores:
        raise DataError(f"no score {metric!r} with {sums.n_members} member(s); there are: {', '.join(scores)}")
    return scores[metric]


def event_scores(sums: ScoreSums, variable: str) -> dict[float, dict[str, float]]:
    """Scores of events: threshold -> csi, pod, far, frequency_bias, base_rate, brier; {} without thresholds."""
    thresholds = sums.thresholds.get(variable, ())
    if not thresholds:
        return {}
    totals = sums.totals.of(variable)
    tables = totals["contingency"].reshape(len(thresholds), 4)
    votes = totals["exceedance"].reshape(len(thresholds), 2, sums.n_members + 1)
    return {
        threshold: _contingency_scores(table) | {"brier": brier_score(*vote)}
        for threshold, table, vote in zip(thresholds, tables, votes, strict=True)
    }


def reliability(sums: ScoreSums, variable: str, threshold: float) -> dict[str, np.ndarray]:
    """Reliability diagram of an event: forecast probability k/M, observed frequency and number of points."""
    thresholds = sums.thresholds.get(variable, ())
    if threshold not in thresholds:
        raise DataError(f"no counts of {variable} at {threshold}; there are: {thresholds}")
    votes = sums.totals.of(variable)["exceedance"].reshape(len(thresholds), 2, sums.n_members + 1)
    n_points, n_events = votes[thresholds.index(threshold)]
    probability = np.arange(sums.n_members + 1) / sums.n_members
    return {"probability": probability, "frequency": _ratio(n_events, n_points), "n": n_points}


def brier_score(n_points: np.ndarray, n_events: np.ndarray) -> float:
    """Brier score from counts by number of members k = 0..M: of all points, and of those with the event."""
    probability = np.arange(n_points.size) / (n_points.size - 1)
    total = ((n_points - n_events) * probability**2 + n_events * (1.0 - probability) ** 2).sum()
    return float(_ratio(total, n_points.sum()))


def coverage(ranks: np.ndarray, level: float) -> float:
    """Share of truths in the central interval of `level` (0..1) by rank histogram; NaN beyond (M-1)/(M+1)."""
    n_ranks = ranks.size
    if level > (n_ranks - 2) / n_ranks + 1e-12:
        return float("nan")
    edges = np.arange(n_ranks + 1) / n_ranks
    low, high = 0.5 - level / 2, 0.5 + level / 2
    inside = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0, None) * n_ranks
    return float(_ratio((ranks * inside).sum(), ranks.sum()))


def _mean_scores(totals: Sums, n_members: int) -> dict[str, Any]:
    n_points = totals["count"][0]
    return {
        "n": float(n_points),
        "rmse": float(np.sqrt(_ratio(totals["squared_error"][0], n_points))),
        "bias": float(_ratio(totals["error"][0], n_points)),
        "mae": float(_ratio(totals["absolute_error"][0], n_points)),
        "fair_crps": float(_ratio(totals["fair_crps"][0], n_points)),
    }


def _spread_scores(totals: Sums, n_members: int) -> dict[str, Any]:
    spread = np.sqrt(_ratio(totals["variance"][0], totals["count"][0]))
    rmse = np.sqrt(_ratio(totals["squared_error"][0], totals["count"][0]))
    skill = np.sqrt((n_members + 1) / n_members) * _ratio(spread, rmse)
    return {"spread": float(spread), "spread_skill": float(skill)}


def _rank_scores(totals: Sums, n_members: int) -> dict[str, Any]:
    ranks = totals["ranks"]
    covered = {f"coverage_{level}": coverage(ranks, level / 100) for level in COVERAGE_LEVELS}
    return covered | {"rank_histogram": ranks.tolist()}


#: Final formulas, each with the statistic without which it does not exist (a single forecast has no spread).
_FORMULAS: tuple[tuple[str, Callable[[Sums, int], dict[str, Any]]], ...] = (
    ("count", _mean_scores),
    ("variance", _spread_scores),
    ("ranks", _rank_scores),
)


def _scores_of(totals: Sums, n_members: int) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for needed, formula in _FORMULAS:
        if needed in totals:
            scores |= formula(totals, n_members)
    return scores


def _sums_of(sums: ScoreSums, variable: str) -> dict[str, np.ndarray]:
    if variable != POOLED:
        return sums.totals.of(variable)
    if sums.scale is None:
        raise DataError(f"no pooled scores {POOLED!r}: the sums were made without a scale for each variable")
    pooled: dict[str, np.ndarray] = {}
    for name in sums.variables:
        for statistic, total in sums.totals.of(name).items():
            if statistic in _POWER:
                scaled = total / sums.scale[name] ** _POWER[statistic]
                pooled[statistic] = pooled.get(statistic, 0.0) + scaled
    return pooled


def _contingency_scores(table: np.ndarray) -> dict[str, float]:
    hits, misses, false_alarms, _ = table
    ratios = {
        "csi": _ratio(hits, hits + misses + false_alarms),
        "pod": _ratio(hits, hits + misses),
        "far": _ratio(false_alarms, hits + false_alarms),
        "frequency_bias": _ratio(hits + false_alarms, hits + misses),
        "base_rate": _ratio(hits + misses, table.sum()),
    }
    return {name: float(value) for name, value in ratios.items()}


def _ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(numerator, denominator)
