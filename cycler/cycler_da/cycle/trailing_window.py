"""The trailing window of calibration, which every cycle hands to the next in `diag/window.json.gz`.

Quality control, the gate of analyses and tuned errors ask what was usual in the cycles before. Where the file of the
cycle before is damaged and the config allows the rung `last_good`, the window of the newest older cycle that is whole
stands in, or none at all, and the cycle says so: statistics are no reason to publish nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.errors import DataError, MissingProduct
from cycler_da.products.store import Store
from cycler_da.times import time_stamp
from cycler_da.verification.window import CycleCalibration, unpack

if TYPE_CHECKING:
    from cycler_da.cycle.work import CycleWork

log = logging.getLogger(__name__)

WINDOW = "diag/window.json.gz"


def trailing_window(work: CycleWork) -> tuple[tuple[CycleCalibration, ...], str]:
    """The window up to the cycle before, empty where there is none yet, and what is wrong with it in words.

    Raises MissingProduct or DataError for a damaged one that nothing may stand in for.
    """
    before = work.previous_time
    if before is None:
        return (), ""
    try:
        return _window_of(work.store, before), ""
    except (MissingProduct, DataError) as damage:
        config = work.setting.config
        if config.on_failed_analysis != "ladder" or "last_good" not in config.fallback.rungs:
            raise
        window, whose = _older_window(work, before)
        reason = f"the statistics of the cycle before cannot be used, {whose}: {damage}"
        log.error("event=window_damaged cycle=%s chain=%s text=%s", time_stamp(work.time), work.chain.name, reason)
        return window, reason


def _older_window(work: CycleWork, before: np.datetime64) -> tuple[tuple[CycleCalibration, ...], str]:
    for time in reversed([time for time in work.store.complete_cycles() if time < before]):
        try:
            window = _window_of(work.store, time)
        except (MissingProduct, DataError):
            continue
        return window, f"those of {time_stamp(time)} stand in" if window else "they begin anew"
    return (), "they begin anew"


def _window_of(store: Store, time: np.datetime64) -> tuple[CycleCalibration, ...]:
    if WINDOW not in store.manifest(time)["files"]:
        return ()
    return unpack(store.product(time, WINDOW).read_bytes())
