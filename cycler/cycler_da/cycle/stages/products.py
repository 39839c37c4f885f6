"""Products: increment, feedback and statistics of the analysis, and the forecasts that the config asks for."""

from __future__ import annotations

import torch

from cycler_da.cycle.error_factors import in_words
from cycler_da.cycle.forecasting import make_forecasts
from cycler_da.cycle.work import CycleWork, Facts, nonzero
from cycler_da.obs.qc import flag_counts
from cycler_da.products.dataset import write_field
from cycler_da.products.feedback import write_feedback
from cycler_da.schemes.window.hx import window_hx


def products(work: CycleWork) -> Facts:
    """Write increment, feedback and statistics, then forecasts."""
    if work.is_start:
        return {}
    control, layout = work.setting.control, work.setting.layout
    before, after = control.from_control(work.background()), control.from_control(work.analysis())
    increment = (after.at_latest().mean() - before.at_latest().mean()).to(torch.float32)
    write_field(work.folder / "increment.nc", increment, after.valid_times[-1:], layout, facts=work.facts("increment"))
    checked = work.checked()
    write_feedback(
        work.folder / "feedback",
        checked,
        background_hx=window_hx(before, checked),
        analysis_hx=window_hx(after, checked),
        facts=work.facts("feedback", observation_error_factors=in_words(work.error_factors)),
        reported=work.reported(),
    )
    done = work.done_facts("assimilate")
    work.write_json("diag/stats.json", {"counts": nonzero(flag_counts(checked)), "scheme": done.get("diagnostics", {})})
    make_forecasts(work)
    return {}
