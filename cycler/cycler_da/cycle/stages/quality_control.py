"""Quality control: every observation gets a flag, a function of the copied files and the background."""

from __future__ import annotations

import logging

from cycler_da.cycle.work import CycleWork, Facts, nonzero
from cycler_da.obs.qc import flag_counts
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)


def quality_control(work: CycleWork) -> Facts:
    """Flag every observation; the flags are a function of the copied files and the background."""
    if work.is_start:
        return {}
    checked = work.checked()
    reasons = [f"stream {stream}: {reason}" for stream, reason in sorted(work.set_aside(checked).items())]
    for reason in reasons:
        log.warning("cycle=%s %s", time_stamp(work.time), reason)
    return {"counts": nonzero(flag_counts(checked)), "degraded": reasons}
