"""How benchmark `lorenz96_filters` chooses the free numbers of a method: by RMSE on other truths.

Inflation may differ from ring to ring in most methods: the search is then over the radius alone, and all inflations are
tried with each. Others (local weights) are searched over all numbers, one value up or down at a time
(`bench.pattern_search`). Numbers that lose a trial come last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cycler_da.bench.pattern_search import Point, pattern_search
from cycler_da.bench.small_systems.lorenz96_cases import INFLATIONS, TUNING_SEED, Candidate, Case, Numbers
from cycler_da.bench.small_systems.lorenz96_cycles import Size, run
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.dense_transition import DenseTransition

#: First values that mean that nothing is done; a search that ends there has not stopped short.
NOTHING: Mapping[str, float] = {"inflation": 1.0, "share": 0.0}


def choose(
    case: Case, candidate: Candidate, transition: DenseTransition, size: Size, *, start: Numbers
) -> tuple[Numbers, tuple[str, ...]]:
    """Numbers with the least RMSE on the tuning truths, and the names of those at the end of what is tried."""
    if not candidate.axes:
        return start, ()
    axes = dict(candidate.axes)
    best: dict[Point, Numbers] = {}

    def least(point: Point) -> float:
        """Least RMSE at a point: among the inflations, unless they are an axis."""
        here = replace(start, **dict(zip(axes, point, strict=True)))
        tried = [here] if "inflation" in axes else [replace(here, inflation=factor) for factor in INFLATIONS]
        errors = tuning_errors(case, candidate, transition, size, tried)
        best[point] = tried[int(errors.argmin())]
        return float(errors.min())

    found = pattern_search(axes, tuple(getattr(start, name) for name in axes), least)
    numbers = best[found.point]
    return numbers, at_end(numbers, axes if "inflation" in axes else {**axes, "inflation": INFLATIONS})


def tuning_errors(
    case: Case,
    candidate: Candidate,
    transition: DenseTransition | ConditionedTransition,
    size: Size,
    tried: Sequence[Numbers],
) -> np.ndarray:
    """RMSE over the tuning truths of each of the numbers; infinite where a trial is lost."""
    rings = [numbers for numbers in tried for _ in range(size.trials)]
    found = run(case, candidate, transition, size, seed=TUNING_SEED, numbers=rings)
    squares = found.scores("rmse").reshape(len(tried), size.trials) ** 2
    return np.nan_to_num(np.sqrt(squares.mean(axis=1)), nan=np.inf)


def at_end(numbers: Numbers, axes: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Names of the numbers that are the first or last of what may be tried, but for first ones that do nothing."""
    values = {name: getattr(numbers, name) for name in axes}
    ends = {name: {tried[0], tried[-1]} - {NOTHING.get(name)} for name, tried in axes.items()}
    return tuple(name for name, value in values.items() if value in ends[name])
