"""The check of a stream as a whole: can these observations be of this state at all?

For the observations of a stream and variable that reached it (values, places and times are in order one by one),
with d = y - mean H(x_b) and sigma^2 = (1 + 1/M) spread^2 + error^2,

    deviation   = median(|d| / sigma) / 0.6745              1 when spread and error are right
    unexplained = median(|d| / sigma) / median(|y - median y| / sigma)    near 0 when the background knows y

A half of gross errors cannot move medians much. A wrong grid (an axis flipped: sqrt 2), a wrong unit (a factor 10
or 1000: 0.9 or more) or a file of another season leaves nothing explained. When a variable of a stream deviates by
more than `stream_check` times what is usual for it (the median of its last cycles, at least 1) and more than 0.7 of it
is unexplained, all observations of the stream are rejected, as if the file could not be read. So neither an
ensemble that is merely too sure of itself nor one without skill (a free run, which is as wide as it is wrong) costs a
stream. Below 10 observations nothing is said.

Of an intermittent field (no echo almost everywhere) medians are those of nothing, whatever is flipped. With
`stream_check_above` only observations count that are an event, or where the mean of the background is one. On proxies
of radar (seven sequences, a tenth of the pixels) right files then deviate by 1.0 to 1.2, flipped or turned ones by
2.3 to 5.2, where all observations give 0.6 to 0.8 and 0.8 to 2.7; the limit may be lower there, 2.

Limits: a factor between 0.6 and 3 explains too much. A background that is itself wrong looks the same: a stream that is
set aside cycle after cycle is for the operator (docs/operations.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.obs.qc_checks import Case, Verdict, nothing

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from cycler_da.obs.qc_table import Table

#: Median of |z| for z ~ N(0, 1).
NORMAL_MEDIAN = 0.6744897501960817
#: Observations below which a median tells nothing.
LEAST = 10
#: Unexplained part above which an ensemble knows nothing of the observations; 1.41 flipped, 0.9 in a tenfold unit.
UNEXPLAINED = 0.7
#: How the reason of a stream that is rejected as a whole begins.
SET_ASIDE = "the stream is set aside"


@dataclass(frozen=True)
class Fit:
    """How far a number of observations are from an ensemble that has not seen them."""

    deviation: float  # expected 1; NaN without observations
    relative: float  # distance as a part of that of the reference; NaN where that is 0
    n_obs: int

    def is_impossible(self, limit: float | None, *, usual: float, relative: float) -> bool:
        """True when these observations cannot be of this ensemble's state; None as `limit` lifts the check."""
        if limit is None or self.n_obs < LEAST:
            return False
        return self.deviation > limit * max(1.0, usual) and self.relative > relative


def fit(
    departure: Float[np.ndarray, "obs"],
    *,
    reference: Float[np.ndarray, "obs"],
    spread: Float[np.ndarray, "obs"],
    error: Float[np.ndarray, "obs"],
    n_members: int,
) -> Fit:
    """Fit of observations to an ensemble; `reference` are departures from something that knows less."""
    if not len(departure):
        return Fit(float("nan"), float("nan"), 0)
    sigma = np.sqrt((1.0 + 1.0 / n_members) * spread**2 + error**2)
    distance, size = float(np.median(np.abs(departure) / sigma)), float(np.median(np.abs(reference) / sigma))
    return Fit(distance / NORMAL_MEDIAN, distance / size if size > 0 else float("nan"), len(departure))


def group_of(stream: str, variable: str) -> str:
    """Name of the observations of a stream and variable in statistics."""
    return f"{stream}/{variable}"


def fits_to_background(
    table: Table, among: Bool[np.ndarray, "obs"], *, above: Mapping[str, float] | None = None
) -> dict[str, Fit]:
    """Fit of every stream and variable, of the observations `among` alone.

    Of variables in `above` only where the value, or the background's mean, is at least that.
    """
    fits = {}
    among = among & _is_event(table, above or {})
    groups = np.array([group_of(s, v) for s, v in zip(table.stream, table.variable, strict=True)], dtype=np.str_)
    for name in sorted(set(groups[among].tolist())):
        own = among & (groups == name)
        value = table.value[own]
        fits[name] = fit(
            value - table.hx_mean[own],
            reference=value - np.median(value),
            spread=table.hx_spread[own],
            error=table.error[own],
            n_members=table.n_members,
        )
    return fits


def _is_event(table: Table, above: Mapping[str, float]) -> Bool[np.ndarray, "obs"]:
    least = np.array([above.get(name, -np.inf) for name in table.variable], dtype=np.float64)
    return np.fmax(table.value, table.hx_mean) >= least


def _is_impossible(one: Fit, limit: float | None, usual: float) -> bool:
    return one.is_impossible(limit, usual=usual, relative=UNEXPLAINED)


def is_of_another_state(case: Case) -> Verdict:
    """All observations of a stream of which one variable cannot be of this state."""
    limit, usual = case.settings.stream_check, case.usual
    above = case.settings.stream_check_above
    fits: Mapping[str, Fit] = {} if limit is None else fits_to_background(case.table, case.alive, above=above)
    found = {name: one for name, one in fits.items() if _is_impossible(one, limit, usual.get(name, 1.0))}
    if not found:
        return nothing(case)
    worst = max(found, key=lambda name: found[name].deviation)
    text = (
        f"{SET_ASIDE}: {worst} is {found[worst].deviation:.3g} expected deviations from the background (median of "
        f"{found[worst].n_obs}; usual {max(1.0, usual.get(worst, 1.0)):.3g}, limit {limit:g} times that), which "
        f"explains nothing of it; check grid, unit and time of the file"
    )
    return Verdict(case.alive.copy(), lambda i: text)
