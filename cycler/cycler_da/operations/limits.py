"""Limits: numbers of a cycle that are not what they usually are.

    soft   median +- max(5 * 1.4826 * MAD, 10 % of the median) over the cycles of the last 20 days, from 20 cycles on:
           1.4826 * MAD is the standard deviation of Gaussian numbers, which leave 5 of them once in two million
    hard   `operations.limits: {used: [50, null]}` in the config

MAD is the median distance from the median, which a few wild cycles do not move. Cycles without a used observation are
an alert of their own: they have no soft limits, and do not count as usual after a long outage. At most 500 cycles are
read, evenly spread. Numbers: `used` and `rejected` (observations), `seconds`, `analysis.<score>` (all variables),
`scheme.<diagnostic>`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.products.store import Store

DAYS = np.timedelta64(20 * 86400, "s")
FEWEST, MOST = 20, 500
WIDTH, SHARE = 5.0, 0.1
_GAUSSIAN = 1.4826


@dataclass(frozen=True)
class Excess:
    """A number outside its limits."""

    name: str
    value: float
    low: float
    high: float
    is_hard: bool


def excesses(store: Store, hard: Mapping[str, Sequence[float | None]]) -> list[Excess]:
    """Numbers of the newest cycle that lie outside; soft limits come from the cycles before it."""
    latest = store.latest()
    if latest is None:
        return []
    numbers = numbers_of_cycle(store, latest)
    times = [time for time in store.complete_cycles() if latest - DAYS <= time < latest]
    earlier = [numbers_of_cycle(store, time) for time in times[:: max(1, -(-len(times) // MOST))]]
    usual = [one for one in earlier if one.get("used")] if numbers.get("used") else []
    found = []
    for name, value in numbers.items():
        history = np.array([one[name] for one in usual if name in one])
        bounds = hard_bounds(hard.get(name)), soft_bounds(history)
        outside = [(b, n == 0) for n, b in enumerate(bounds) if b is not None and not b[0] <= value <= b[1]]
        found += [Excess(name, value, *b, is_hard) for b, is_hard in outside[:1]]
    return found


def soft_bounds(history: np.ndarray) -> tuple[float, float] | None:
    """Usual range of a number; None while there are too few."""
    if len(history) < FEWEST:
        return None
    middle = float(np.median(history))
    half = max(WIDTH * _GAUSSIAN * float(np.median(np.abs(history - middle))), SHARE * abs(middle))
    return middle - half, middle + half


def hard_bounds(pair: Sequence[float | None] | None) -> tuple[float, float] | None:
    """Range from the config; null is no limit on that side."""
    if pair is None:
        return None
    low, high = pair
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def numbers_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary that have limits."""
    counts = summary.get("counts", {})
    numbers = {
        "used": counts.get("USED", 0),
        "rejected": sum(counts.values()) - counts.get("USED", 0) - counts.get("PASSIVE", 0),
        "seconds": sum(summary.get("seconds", {}).values()),
        **{f"analysis.{k}": v for k, v in summary.get("scores", {}).get("analysis", {}).get("all", {}).items()},
        **{f"scheme.{k}": v for k, v in summary.get("diagnostics", {}).items()},
    }
    return {name: float(value) for name, value in numbers.items()}


def numbers_of_cycle(store: Store, time: np.datetime64) -> dict[str, float]:
    """The numbers of a published cycle; none where its summary cannot be read."""
    path = store.cycle_folder(time) / "diag" / "summary.json"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=8 * MOST)
def _read(path: Path, written: int) -> dict[str, float]:
    return numbers_of(json.loads(path.read_text(encoding="utf-8")))
