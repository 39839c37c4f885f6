"""The forecast that holds now: one link for each chain, and no link when there is none.

    <chain>/forecast -> cycles/<stamp>       the newest cycle with a forecast whose last valid time is not past

A forecast is superseded by the next one and expires with its last valid time. Both retire it: the link moves, or goes.
Its files stay in the cycle, which is never changed, and in the archive. A service does this with every look, by data
time; when it has ended nobody does, and the valid times in the files, and the page, say that a forecast is over.

Limit: forecasts are looked for in the newest cycles alone (`LOOK_BACK`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cycler_da.products.publication import point_link
from cycler_da.products.store import Store
from cycler_da.times import iso_time, parse_time

LINK = "forecast"
LOOK_BACK = 20


@dataclass(frozen=True)
class PublishedForecast:
    """A forecast in the store: of which cycle, and its last valid time."""

    cycle: np.datetime64
    until: np.datetime64

    def is_expired(self, now: np.datetime64) -> bool:
        """True from the moment after its last valid time."""
        return bool(now > self.until)


def newest_forecast(store: Store) -> PublishedForecast | None:
    """The forecast of the newest cycle that has one; None when no recent cycle has."""
    for time in store.complete_cycles()[: -LOOK_BACK - 1 : -1]:
        until = store.manifest(time)["facts"].get("forecast_until")
        if until is not None:
            return PublishedForecast(time, parse_time(until))
    return None


def forecast_facts(store: Store, now: np.datetime64) -> dict[str, Any] | None:
    """What a status says of the newest forecast; None without any."""
    found = newest_forecast(store)
    if found is None:
        return None
    seconds_left = int((found.until - now) / np.timedelta64(1, "s"))
    return {"cycle": iso_time(found.cycle), "until": iso_time(found.until), "seconds_left": seconds_left}


def retire_forecasts(store: Store, now: np.datetime64) -> None:
    """Let the link lead to the forecast that holds, or remove it; raises CannotWrite."""
    found = newest_forecast(store)
    holds = found is not None and not found.is_expired(now)
    if store.chain_folder.is_dir():
        point_link(store.chain_folder, LINK, store.cycle_folder(found.cycle) if found and holds else None)
