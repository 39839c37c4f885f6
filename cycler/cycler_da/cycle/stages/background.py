"""Background: the forecast of the previous analysis to the cycle's time. The start has none."""

from __future__ import annotations

import numpy as np

from cycler_da.cycle.calibrating import put_passport
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.products.dataset import write_ensemble


def background(work: CycleWork) -> Facts:
    """Forecast the previous analysis to the cycle's time."""
    if work.is_start or work.previous_time is None:
        return {}
    forecast = work.executor.forecast(
        work.chain.source,
        work.previous(),
        np.array([work.time]),
        noise=work.noise,
        batch=work.setting.config.ensemble.batch,
    )
    physical = work.setting.control.from_control(forecast)
    facts = work.facts("background", reference_time=work.previous_time)
    write_ensemble(work.folder / "background.nc", physical, facts=facts)
    put_passport(work, work.folder / "background.nc", "background")
    return {"n_members": forecast.n_members}
