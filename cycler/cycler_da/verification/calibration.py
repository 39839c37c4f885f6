"""Calibration: what the intervals of an ensemble were worth, judged by observations that it has not seen.

For an observation y of error sigma a member predicts H(x_i) + sigma z_i: what would be observed if the member were the
truth. Among exchangeable members the rank of y is then uniform (Hamill 2001, Mon. Weather Rev. 129, 550), and coverage,
fair CRPS and reliability are those of `scores`. Which observations an ensemble has not seen: a background none of its
window; an analysis only the withheld ones.

Sums of one cycle (`CalibrationSums`) are stored with it and can be added; `calibrations` makes numbers of a window of
them, with 95 % intervals from jackknife pseudo-values of cycles (`consistency`).

Limits: observation error counts on both sides, so where it is much larger than the spread, coverage says little
about the spread; `drift` then looks at the chi-square of all innovations, which is sharper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.products.calibration import LEVELS, GroupCalibration, Interval
from cycler_da.verification.consistency import mean_interval
from cycler_da.verification.innovations import InnovationSums, innovation_sums
from cycler_da.verification.scores import coverage
from cycler_da.verification.sums import ScoreSums, ensemble_sums
from cycler_da.verification.totals import stored_as

if TYPE_CHECKING:
    from jaxtyping import Float

_FORMAT = "cycler calibration sums 1"

#: Cycles below which a window gives values without intervals.
LEAST_FOR_INTERVAL = 5


@dataclass(frozen=True)
class CalibrationSums:
    """Sums of one cycle by group ("stream/variable"); groups may come and go between cycles."""

    scores: Mapping[str, ScoreSums] = field(default_factory=dict)
    innovations: InnovationSums | None = None
    units: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: CalibrationSums) -> CalibrationSums:
        """Merge; raises LayoutMismatch when a group has other members or thresholds."""
        scores = dict(self.scores)
        for group, sums in other.scores.items():
            scores[group] = scores[group] + sums if group in scores else sums
        parts = [part for part in (self.innovations, other.innovations) if part is not None]
        both = parts[0] + parts[1] if len(parts) == 2 else (parts[0] if parts else None)
        return CalibrationSums(scores, both, {**self.units, **other.units})

    def to_json(self) -> dict[str, Any]:
        """Plain objects for strict JSON; `from_json` gives back the same bits."""
        return {
            "format": _FORMAT,
            "scores": {group: sums.to_json() for group, sums in self.scores.items()},
            "innovations": None if self.innovations is None else self.innovations.to_json(),
            "units": dict(self.units),
        }

    @staticmethod
    def from_json(description: Mapping[str, Any]) -> CalibrationSums:
        """Read what `to_json` wrote; raises DataError for anything else."""
        with stored_as(_FORMAT, description):
            innovations = description["innovations"]
            return CalibrationSums(
                {group: ScoreSums.from_json(part) for group, part in description["scores"].items()},
                None if innovations is None else InnovationSums.from_json(innovations),
                dict(description["units"]),
            )


def calibration_sums(
    group: str,
    predicted: Float[np.ndarray, "member obs"],
    hx: Float[np.ndarray, "member obs"],
    value: Float[np.ndarray, "obs"],
    *,
    error: Float[np.ndarray, "obs"],
    units: str = "1",
    thresholds: Sequence[float] = (),
) -> CalibrationSums:
    """Sums of one stream and variable; `predicted` are model equivalents `hx` with errors of observations added."""
    events = {group: tuple(thresholds)} if thresholds else None
    scores = ensemble_sums(predicted[:, None], value[None], names=[group], thresholds=events)
    innovations = innovation_sums(
        value - hx.mean(axis=0), group=group, error=error, spread=hx.std(axis=0, ddof=1), n_members=len(hx)
    )
    return CalibrationSums({group: scores}, innovations, {group: units})


def calibrations(cycles: Sequence[CalibrationSums]) -> list[GroupCalibration]:
    """Calibration of every group over a window of cycles in time order.

    Cycles with another number of members than the last one of a group do not count: ranks of ensembles of
    different size are not mixed.
    """
    names = sorted({group for cycle in cycles for group in cycle.scores})
    return [_group(name, [cycle for cycle in cycles if name in cycle.scores]) for name in names]


def chi_squares(cycles: Sequence[CalibrationSums], stream: str) -> Float[np.ndarray, "cycle"]:
    """Innovation chi-square per observation of a stream, all variables together; cycles without any are left out."""
    return _means(cycles, stream, lambda total: total["chi_square"][0])


def squared_spreads(cycles: Sequence[CalibrationSums], stream: str) -> Float[np.ndarray, "cycle"]:
    """Mean of s^2 / e^2 over the observations of a stream, e^2 the mean squared error of their variable."""
    return _means(cycles, stream, lambda t: t["count"][0] * t["spread_squared"][0] / t["error_squared"][0])


def _means(
    cycles: Sequence[CalibrationSums], stream: str, total_of: Callable[[Mapping[str, tuple[float, ...]]], float]
) -> Float[np.ndarray, "cycle"]:
    series = []
    for cycle in cycles:
        totals = {} if cycle.innovations is None else cycle.innovations.totals.values
        own = [t for group, t in totals.items() if group.partition("/")[0] == stream and t["count"][0]]
        if own:
            series.append(sum(total_of(total) for total in own) / sum(total["count"][0] for total in own))
    return np.array(series)


def _group(name: str, cycles: Sequence[CalibrationSums]) -> GroupCalibration:
    last = cycles[-1].scores[name]
    kept = [
        c for c in cycles if (c.scores[name].n_members, c.scores[name].thresholds) == (last.n_members, last.thresholds)
    ]
    rows = [c.scores[name].totals.of(name) for c in kept]
    ranks = np.stack([row["ranks"] for row in rows])
    count = np.stack([row["count"] for row in rows])
    crps = np.concatenate([np.stack([row["fair_crps"] for row in rows]), count], axis=1)
    innovation = [c.innovations.totals.of(name) for c in kept if c.innovations is not None]
    chi = np.stack([np.concatenate([t["chi_square"], t["count"]]) for t in innovation])
    thresholds = last.thresholds.get(name, ())
    return GroupCalibration(
        name=name,
        units=cycles[-1].units.get(name, "1"),
        n_obs=int(count.sum()),
        n_cycles=len(kept),
        coverage=tuple(_interval(ranks, lambda total, level=level: coverage(total, level)) for level in LEVELS),  # type: ignore[misc]
        rank_histogram=tuple(ranks.sum(axis=0).tolist()),
        fair_crps=_interval(crps, _ratio),
        chi_square=_interval(chi, _ratio),
        thresholds=thresholds,
        reliability=_reliability(rows, len(thresholds), last.n_members),
    )


def _interval(rows: Float[np.ndarray, "cycle sums"], formula: Callable[[np.ndarray], float]) -> Interval:
    """Value of a formula on summed rows with its jackknife interval over cycles."""
    total, n_cycles = rows.sum(axis=0), len(rows)
    value = formula(total)
    if n_cycles < LEAST_FOR_INTERVAL:
        return (value, float("nan"), float("nan"))
    pseudo = np.array([n_cycles * value - (n_cycles - 1) * formula(total - row) for row in rows])
    estimate = mean_interval(pseudo)
    half = (estimate.high - estimate.low) / 2
    return (value, value - half, value + half)


def _ratio(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else float("nan")


def _reliability(
    rows: Sequence[Mapping[str, np.ndarray]], n_thresholds: int, n_members: int
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    if not n_thresholds:
        return ()
    counts = np.sum([row["exceedance"] for row in rows], axis=0).reshape(n_thresholds, 2, n_members + 1)
    return tuple((tuple(both[0].tolist()), tuple(both[1].tolist())) for both in counts)
