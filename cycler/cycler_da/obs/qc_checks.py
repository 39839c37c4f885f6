"""Checks that look at one observation alone; each says which fail and why, in words and numbers.

The order of the checks, and the flag each one gives, stand in `obs.qc`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.noise import Noise
from cycler_da.obs.base import QC
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.obs.qc_table import Table
from cycler_da.times import Window, iso_time

if TYPE_CHECKING:
    from jaxtyping import Bool

#: Observation errors by which a variable's valid range is widened when there is no background check.
BOUNDS_MARGIN = 5.0
#: Relative distance at which a value counts as a missing mark: 1e20 stored in single precision is one.
MARK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Verdict:
    """Observations that fail a check, and why one of them does."""

    fails: Bool[np.ndarray, "obs"]
    why: Callable[[int], str]


@dataclass(frozen=True)
class Case:
    """What the checks look at; `alive` marks what passed all earlier checks."""

    table: Table
    alive: Bool[np.ndarray, "obs"]
    window: Window
    settings: QCSettings
    noise: Noise
    usual: Mapping[str, float] = field(default_factory=dict)  # usual deviation by stream/variable, see qc_stream


def is_missing(case: Case) -> Verdict:
    """Value not finite, or one that marks a missing value."""
    values = case.table.value
    marks = np.asarray(case.settings.missing_values, dtype=np.float64)
    fails = np.isclose(values[:, None], marks, rtol=MARK_TOLERANCE, atol=0.0).any(axis=1) | ~np.isfinite(values)

    def why(i: int) -> str:
        if np.isnan(values[i]):
            return "no value"
        return f"the value {values[i]:g} " + ("marks a missing one" if np.isfinite(values[i]) else "is not finite")

    return Verdict(fails, why)


def arrives_rejected(case: Case) -> Verdict:
    """Flagged as rejected before quality control."""
    table = case.table
    return Verdict(table.arrived >= int(QC.MISSING), lambda i: table.arrived_reason[i] or "rejected before this cycle")


def is_out_of_bounds(case: Case) -> Verdict:
    """Outside the configured bounds, else outside the variable's valid range and some errors more."""
    table, settings = case.table, case.settings
    margin = (settings.background_check or BOUNDS_MARGIN) * table.error
    low, high = table.valid_min - margin, table.valid_max + margin
    for name, (least, most) in settings.bounds.items():
        low[table.variable == name], high[table.variable == name] = least, most
    fails = (table.value < low) | (table.value > high)
    return Verdict(fails, lambda i: f"{table.quantity(i, table.value[i])} is outside [{low[i]:.4g}, {high[i]:.4g}]")


def is_out_of_domain(case: Case) -> Verdict:
    """Where the operator is not defined, or outside the time window."""
    table, window = case.table, case.window
    in_window = window.holds(table.time)

    def why(i: int) -> str:
        if not table.covered[i]:
            return f"position {table.place(i)} is outside the grid"
        if np.isnat(table.time[i]):
            return "no time"
        return f"time {iso_time(table.time[i])} is outside ({iso_time(window.start)}, {iso_time(window.stop)}]"

    return Verdict(~table.covered | ~in_window, why)


def is_blacklisted(case: Case) -> Verdict:
    """From a listed station."""
    table = case.table
    fails = np.isin(table.station, np.asarray(case.settings.blacklist, dtype=np.str_))
    return Verdict(fails, lambda i: f"station {table.station[i]} is on the blacklist")


def h_failed(case: Case) -> Verdict:
    """H(x) of some background member not finite."""
    table = case.table
    fails = table.n_failed > 0
    return Verdict(fails, lambda i: f"H(x) of {table.n_failed[i]} of {table.n_members} members is not finite")


def is_far_from_background(case: Case) -> Verdict:
    """Further from the background mean than spread and error make plausible."""
    table, k = case.table, case.settings.background_check
    if k is None:
        return nothing(case)
    distance = np.abs(table.value - table.hx_mean)
    expected = np.sqrt(table.hx_spread**2 + table.error**2)

    def why(i: int) -> str:
        return (
            f"|y - H(background)| = {table.quantity(i, distance[i])} is {distance[i] / expected[i]:.3g} expected "
            f"deviations ({expected[i]:.4g}: spread {table.hx_spread[i]:.4g}, error {table.error[i]:.4g}); limit {k:g}"
        )

    return Verdict(distance > k * expected, why)


def arrives_passive(case: Case) -> Verdict:
    """Flagged as passive before quality control."""
    table = case.table
    return Verdict(table.arrived == int(QC.PASSIVE), lambda i: table.arrived_reason[i] or "arrived as passive")


def nothing(case: Case) -> Verdict:
    """The verdict of a check that is switched off."""
    return Verdict(np.zeros(len(case.table), dtype=bool), lambda i: "")
