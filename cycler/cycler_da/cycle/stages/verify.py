"""Verify: background and analysis against nature, beside persistence, where there is a nature."""

from __future__ import annotations

from cycler_da.cycle.scoring import score_cycle
from cycler_da.cycle.work import CycleWork, Facts


def verify(work: CycleWork) -> Facts:
    """Score background and analysis against nature, beside persistence."""
    if work.nature is None:
        return {}
    return {"scores": score_cycle(work, work.nature)}
