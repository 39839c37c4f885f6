"""Totals: named sums for each variable that can be added, stored and read back without loss.

A score is a statistic that may be summed over points, cycles and workers, and a final formula on the sums.
`Totals` is the first half: variable -> statistic -> sums (a tuple, because a histogram is a statistic with
many sums). Addition is element by element; a NaN stays NaN through every addition.

JSON holds floats in the shortest text that reads back to the same bits. NaN and the infinities are written
as the strings "nan", "inf" and "-inf", so that the text is strict JSON, which a browser reads too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from cycler_da.errors import DataError, LayoutMismatch


class Mergeable(Protocol):
    """Anything with partial sums that may be added."""

    def __add__(self, other: Self) -> Self: ...


Part = TypeVar("Part", bound=Mergeable)


@dataclass(frozen=True)
class Totals:
    """Sums of statistics over points: variable -> statistic -> sums."""

    values: Mapping[str, Mapping[str, tuple[float, ...]]]

    def of(self, variable: str) -> dict[str, np.ndarray]:
        """All sums of one variable as float64 arrays; raises DataError that lists the variables."""
        if variable not in self.values:
            raise DataError(f"no sums of variable {variable!r}; there are: {', '.join(self.values)}")
        return {statistic: np.array(sums) for statistic, sums in self.values[variable].items()}

    def __add__(self, other: Totals) -> Totals:
        """Add element by element; raises LayoutMismatch when variables, statistics or lengths differ."""
        _require_same("variables", self.values, other.values)
        merged = {}
        for variable, mine in self.values.items():
            theirs = other.values[variable]
            _require_same(f"statistics of {variable}", mine, theirs)
            merged[variable] = {name: _added(variable, name, sums, theirs[name]) for name, sums in mine.items()}
        return Totals(merged)

    def to_json(self) -> dict[str, dict[str, list[float | str]]]:
        """Plain objects for strict JSON; `from_json` gives back the same bits."""
        return {
            variable: {statistic: [encode_float(value) for value in sums] for statistic, sums in statistics.items()}
            for variable, statistics in self.values.items()
        }

    @staticmethod
    def from_json(description: Mapping[str, Mapping[str, Iterable[float | str]]]) -> Totals:
        """Read what `to_json` wrote."""
        return Totals(
            {
                variable: {statistic: tuple(float(value) for value in sums) for statistic, sums in statistics.items()}
                for variable, statistics in description.items()
            }
        )


def merge(parts: Iterable[Part]) -> Part:
    """Add partial sums in the order given; raises DataError when there is nothing to add."""
    parts = list(parts)
    if not parts:
        raise DataError("cannot merge sums: got none, expected at least one cycle")
    return reduce(add, parts)


def as_totals(sums: np.ndarray | float) -> tuple[float, ...]:
    """Any array of sums as a flat tuple of Python floats."""
    return tuple(float(value) for value in np.ravel(sums))


def encode_float(value: float) -> float | str:
    """A float as strict JSON: itself, or its name when it is not finite."""
    return value if math.isfinite(value) else str(value)


@contextmanager
def stored_as(expected: str, description: Mapping[str, Any]) -> Iterator[None]:
    """Read stored sums inside the block: another format or a missing part is DataError."""
    found = description.get("format") if isinstance(description, Mapping) else None
    if found != expected:
        raise DataError(f"cannot read stored sums: got format {found!r}, expected {expected!r}; compute them again")
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"cannot read stored sums of format {expected!r}: {error!r}; compute them again") from error


def _require_same(what: str, mine: Iterable[str], theirs: Iterable[str]) -> None:
    if sorted(mine) != sorted(theirs):
        raise LayoutMismatch(f"cannot merge sums: {what} are {sorted(theirs)}, expected {sorted(mine)}")


def _added(variable: str, statistic: str, mine: tuple[float, ...], theirs: tuple[float, ...]) -> tuple[float, ...]:
    if len(mine) != len(theirs):
        raise LayoutMismatch(
            f"cannot merge sums of {variable} {statistic}: got {len(theirs)} values, expected {len(mine)}"
        )
    return tuple(a + b for a, b in zip(mine, theirs, strict=True))
