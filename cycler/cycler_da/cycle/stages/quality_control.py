"""Quality control: every observation gets a flag, a function of the copied files and the background."""

from __future__ import annotations

from cycler_da.cycle.work import CycleWork, Facts, nonzero
from cycler_da.obs.qc import flag_counts


def quality_control(work: CycleWork) -> Facts:
    """Flag every observation; the flags are a function of the copied files and the background."""
    if work.is_start:
        return {}
    return {"counts": nonzero(flag_counts(work.checked()))}
