"""Agenda: which cycles of a chain are to be made now, and in which order.

    pending    cycles that are not complete, and final passes that are due; oldest first
    ready      the same up to the first cycle that still waits for an observation file (see arrivals)

Without a period the agenda begins at the newest cold start. A period (`cycler run --from --to`) names its cycles
itself, so that what lies before a cold start can be made later, beside the service.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycler_da.arrivals import EARLY, FINAL, Arrivals, follows_final, is_final
from cycler_da.errors import ConfigError
from cycler_da.products.store import Store
from cycler_da.times import iso_time


@dataclass(frozen=True)
class Period:
    """Valid times from `first` to `last`, both included; None: no limit on that side."""

    first: np.datetime64 | None = None
    last: np.datetime64 | None = None

    def holds(self, time: np.datetime64) -> bool:
        """Tell whether a valid time lies in the period."""
        return bool((self.first is None or time >= self.first) and (self.last is None or time <= self.last))


@dataclass(frozen=True)
class Agenda:
    """What one experiment has to do; the store says what is done."""

    arrivals: Arrivals
    cold_starts: tuple[np.datetime64, ...] = ()
    period: Period | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.period is not None and not self._times():
            times = self.arrivals.setting.valid_times
            raise ConfigError(
                f"no cycle is valid in this period; cycles are valid from {iso_time(times[0])} to {iso_time(times[-1])}"
            )

    def previous_time(self, time: np.datetime64) -> np.datetime64 | None:
        """Time of the cycle before; None at the start and at a cold start."""
        return None if time in self.cold_starts else self.arrivals.setting.previous_time(time)

    def pending(self, store: Store) -> list[np.datetime64]:
        """Cycles that are not complete or whose final pass is due; with force all."""
        times = self._times()
        if self.force:
            return times
        finals = set(self._finals(store, times))
        return [time for time in times if time in finals or not store.is_complete(time)]

    def ready(self, store: Store) -> list[np.datetime64]:
        """Pending cycles up to the first one that waits."""
        ready = []
        for time in self.pending(store):
            if not self.arrivals.may_run(time, is_start=self.previous_time(time) is None):
                break
            ready.append(time)
        return ready

    def next_waiting(self, store: Store) -> np.datetime64 | None:
        """The first pending cycle that still waits; None when there is none."""
        waits = (
            time
            for time in self.pending(store)
            if not self.arrivals.may_run(time, is_start=self.previous_time(time) is None)
        )
        return next(waits, None)

    def is_final_pass(self, store: Store, time: np.datetime64) -> bool:
        """Tell whether a complete cycle must be made again now, because of what came after its early pass."""
        if self.delivery(store, time) != FINAL or is_final(store, time):
            return False
        return self.arrivals.differs(store, time, self.previous_time(time))

    def delivery(self, store: Store, time: np.datetime64) -> str:
        """Which pass a cycle made now belongs to: the final one only if the cycle before is final.

        What follows a cycle whose final pass failed, or is another run's just now, is early however late it is made:
        it is made again behind that pass.
        """
        return self.arrivals.delivery(time) if follows_final(store, self.previous_time(time)) else EARLY

    def _finals(self, store: Store, times: list[np.datetime64]) -> list[np.datetime64]:
        return self.arrivals.due_finals(store, previous={time: self.previous_time(time) for time in times})

    def _times(self) -> list[np.datetime64]:
        period = self.period or Period(first=max(self.cold_starts, default=None))
        return [time for time in self.arrivals.setting.valid_times if period.holds(time)]
