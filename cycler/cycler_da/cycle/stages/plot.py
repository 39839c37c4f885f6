"""Plot: the maps of a cycle; a figure that fails degrades the cycle and never stops it."""

from __future__ import annotations

import logging
import shutil

from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.plots.maps import plot_cycle
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)


def plot(work: CycleWork) -> Facts:
    """Draw the maps; a figure that fails degrades the cycle and never stops it."""
    if not work.setting.config.plots:
        return {}
    try:
        written = plot_cycle(work.folder, work.folder / "plots")
    except Exception as error:  # whatever a plotting library may raise, science products are published
        log.exception("cycle=%s stage=plot failed", time_stamp(work.time))
        shutil.rmtree(work.folder / "plots", ignore_errors=True)
        return {"degraded": [f"plots are missing: {type(error).__name__}: {error}"]}
    return {"images": [str(path.relative_to(work.folder)) for path in written if path.suffix == ".png"]}
