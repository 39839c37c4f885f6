"""Pattern search over options with ordered values: the least score among all neighbours, found without a full grid.

From a start, one value up or down in one option at a time; the first step that scores less is taken, until none does.
No point is scored twice. Where the best value stands at the end of what may be tried the search could not see beyond
it, and says so.
Source: compass search, Kolda, Lewis, Torczon (2003), SIAM Review 45, 385-482.
Limits: a local minimum; scores with noise stop it early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Value of every option.
Point = tuple[Any, ...]


@dataclass(frozen=True)
class Found:
    """The best point, how many were scored, and options whose best value is the last that may be tried."""

    point: Point
    score: float
    n_scored: int
    at_end: tuple[str, ...]

    @property
    def ends(self) -> str:
        """What a table has to say of options at their last value; nothing where there are none."""
        return f"; last value tried of {', '.join(self.at_end)}" if self.at_end else ""


def pattern_search(axes: Mapping[str, Sequence[Any]], start: Point, score: Callable[[Point], float]) -> Found:
    """Search from `start`, one value of each option in their order; infinite scores are failures, never taken.

    Raises ValueError when a value of the start is not among those of its option.
    """
    missing = [name for (name, values), value in zip(axes.items(), start, strict=True) if value not in values]
    if missing:
        raise ValueError(f"the start {start} is not among the values of {', '.join(missing)}")
    known = {start: score(start)}
    best, has_moved = start, True
    while has_moved:
        has_moved = False
        for near in _neighbours(axes, best):
            if near not in known:
                known[near] = score(near)
            if known[near] < known[best]:
                best, has_moved = near, True
                break
    return Found(best, known[best], len(known), tuple(_ends(axes, best)))


def _neighbours(axes: Mapping[str, Sequence[Any]], point: Point) -> Iterator[Point]:
    for i, values in enumerate(axes.values()):
        k = values.index(point[i])
        for other in (k + 1, k - 1):
            if 0 <= other < len(values):
                yield (*point[:i], values[other], *point[i + 1 :])


def _ends(axes: Mapping[str, Sequence[Any]], point: Point) -> Iterator[str]:
    for (name, values), value in zip(axes.items(), point, strict=True):
        if len(values) > 1 and value in (values[0], values[-1]):
            yield name
