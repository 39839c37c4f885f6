"""The group `/calibration` of an ensemble file: what its intervals were worth in the cycles before it.

An ensemble file declares intervals (50, 80, 90 %) by its members. This group says, by stream and variable, how many
observations really fell into them over a trailing window of published cycles, with 95 % intervals, and gives rank
histogram, fair CRPS, innovation chi-square and reliability over the same window. docs/products.md lists every
variable. The numbers are made by `verification.calibration`; here they are only written and read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from cycler_da.products.gridfile import open_file, read_part

GROUP = "calibration"

#: Central intervals that an ensemble declares.
LEVELS = (0.5, 0.8, 0.9)

Interval = tuple[float, float, float]  # value, lower and upper end of its 95 % interval


@dataclass(frozen=True)
class GroupCalibration:
    """Calibration of one stream and variable over a window; NaN where the cycles are too few to tell."""

    name: str  # stream/variable
    units: str
    n_obs: int
    n_cycles: int
    coverage: tuple[Interval, ...]  # one for each of LEVELS, 0 to 1
    rank_histogram: tuple[float, ...]  # members + 1 counts
    fair_crps: Interval  # units of the variable
    chi_square: Interval  # per observation, expected 1
    thresholds: tuple[float, ...] = ()
    reliability: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = field(default=())
    # for each threshold: number of observations, and of those at or above it, by members at or above it (0..M)


def append_calibration(path: Path, groups: Sequence[GroupCalibration], *, window: str, sample: str) -> None:
    """Add the group to a file that is not yet published; without any `groups` it says that nothing is known yet.

    `window` names the cycles, `sample` the observations that count, in words.
    """
    with netCDF4.Dataset(path, "a") as dataset:
        part = dataset.createGroup(GROUP)
        part.setncatts({"title": "calibration over a trailing window", "window": window, "sample": sample})
        part.createDimension("group", len(groups) or None)
        part.createDimension("level", len(LEVELS))
        part.createDimension("bound", 2)
        _put(
            part, "level", ("level",), np.array(LEVELS), "probability of the central interval that the members declare"
        )
        names = part.createVariable("group", str, ("group",))
        names.long_name = "stream and variable"
        if groups:
            names[:] = np.array([one.name for one in groups], dtype=object)
            _write_numbers(part, groups)
            _write_ranks(part, groups)
            _write_reliability(part, groups)


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """All variables of the group by name, empty when a file has none; fill values come back as NaN."""
    with open_file(path) as dataset:
        if GROUP not in dataset.groups:
            return {}
        return {name: np.asarray(read_part(path, one)) for name, one in dataset.groups[GROUP].variables.items()}


def _write_numbers(part: netCDF4.Group, groups: Sequence[GroupCalibration]) -> None:
    units = part.createVariable("units", str, ("group",))
    units.long_name = "units of the variable, of fair_crps and threshold"
    units[:] = np.array([one.units for one in groups], dtype=object)
    for name, counts, text in (
        ("n_observations", [one.n_obs for one in groups], "observations that count"),
        ("n_cycles", [one.n_cycles for one in groups], "cycles that they are from"),
    ):
        _put(part, name, ("group",), np.array(counts, dtype=np.int32), text)
    coverage = np.array([one.coverage for one in groups])
    _put(part, "coverage", ("group", "level"), coverage[..., 0], "share of observations inside the declared interval")
    _put(part, "coverage_interval", ("group", "level", "bound"), coverage[..., 1:], "95 % interval of coverage")
    for name, text in (
        ("fair_crps", "fair continuous ranked probability score"),
        ("chi_square", "mean squared innovation over what spread and error expect; 1 when both are right"),
    ):
        values = np.array([getattr(one, name) for one in groups])
        _put(part, name, ("group",), values[:, 0], text)
        _put(part, f"{name}_interval", ("group", "bound"), values[:, 1:], f"95 % interval of {name}")


def _write_ranks(part: netCDF4.Group, groups: Sequence[GroupCalibration]) -> None:
    part.createDimension("rank", len(groups[0].rank_histogram))
    counts = np.array([one.rank_histogram for one in groups])
    _put(part, "rank_histogram", ("group", "rank"), counts, "observations by the number of members below them")


def _write_reliability(part: netCDF4.Group, groups: Sequence[GroupCalibration]) -> None:
    most = max(len(one.thresholds) for one in groups)
    if not most:
        return
    n_votes = len(groups[0].rank_histogram)
    part.createDimension("threshold", most)
    part.createDimension("vote", n_votes)
    thresholds, counts = np.full((len(groups), most), np.nan), np.full((len(groups), most, n_votes), np.nan)
    happened = counts.copy()
    for i, one in enumerate(groups):
        for k, (threshold, (of_all, of_events)) in enumerate(zip(one.thresholds, one.reliability, strict=True)):
            thresholds[i, k], counts[i, k], happened[i, k] = threshold, of_all, of_events
    where = ("group", "threshold", "vote")
    _put(part, "event_threshold", ("group", "threshold"), thresholds, "event: value at or above this")
    _put(part, "reliability_count", where, counts, "observations by the number of members that have the event")
    _put(part, "reliability_events", where, happened, "of these, observations that have the event")


def _put(part: netCDF4.Group, name: str, dims: tuple[str, ...], values: np.ndarray, text: str) -> None:
    options: Mapping[str, Any] = {"fill_value": np.nan} if values.dtype.kind == "f" else {}
    variable = part.createVariable(name, values.dtype, dims, fletcher32=True, **options)
    variable.setncatts({"long_name": text, "units": "1"} if values.dtype.kind == "f" else {"long_name": text})
    variable[:] = values
