"""Verify: background and analysis against what they have not seen, and against nature where there is one."""

from __future__ import annotations

from cycler_da.cycle.calibrating import calibrate_cycle
from cycler_da.cycle.forecasting import score_forecasts
from cycler_da.cycle.scoring import score_cycle
from cycler_da.cycle.work import CycleWork, Facts


def verify(work: CycleWork) -> Facts:
    """Calibrate on observations; score background and analysis against nature, beside persistence."""
    facts = calibrate_cycle(work)
    if work.nature is None:
        return facts
    return {**facts, "scores": score_cycle(work, work.nature), **score_forecasts(work, work.nature)}
