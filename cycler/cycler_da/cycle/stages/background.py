"""Background: the forecast of the previous analysis to the cycle's time. The start has none."""

from __future__ import annotations

from cycler_da.cycle.calibrating import put_passport
from cycler_da.cycle.fallback import forecast, level
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.times import parse_time


def background(work: CycleWork) -> Facts:
    """Forecast the previous analysis to the cycle's time, or what the fallback ladder puts in its place."""
    if work.is_start:
        return {}
    made = forecast(work)
    reasons = [f"background by fallback {made.rung}: {cause}" for cause in made.causes]
    reasons += [damage for damage in (work.trailing_window[1],) if damage]
    physical = work.setting.control.from_control(made.ensemble)
    facts = work.facts(
        "background",
        reference_time=parse_time(made.start),
        fallback=made.rung if level(made.rung) else None,
        comment="; ".join(reasons) or None,
    )
    work.write_frames("background", physical, facts)
    put_passport(work, work.folder / "background.nc", "background")
    return {
        "n_members": made.ensemble.n_members,
        "start": made.start,
        "rung": made.rung,
        "degraded": reasons,
    }
