"""Background without a model: the last analysis, moved on as its echo has moved (rung `advection`).

    u = block_flow(mean over members of the last analyses),     x_b(t + n) = advect(x_a(t), u, n)

One motion for all members, found in the control variable from the analyses that the model reads, two at least
(`advection.py`). For fields that are carried by a wind, on a limited area: radar echo. Waves and turbulence on a
periodic domain are not carried as a whole; there this rung is left out.

Limits: no growth, no decay, and the spread stays what it was.
"""

from __future__ import annotations

import numpy as np
import torch

from cycler_da.advection import advect, block_flow
from cycler_da.cycle.work import CycleWork
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import AnalysisFailed
from cycler_da.layout import Layout
from cycler_da.times import time_stamp


def is_carried(layout: Layout) -> bool:
    """Tell whether fields of a layout may be moved along by block motion: a plane with edges."""
    axes = layout.grid.axes
    return len(axes) == 2 and not any(axis.periodic for axis in axes)


def advected(work: CycleWork, start: Ensemble) -> Ensemble:
    """Move the last analysis to the times of the window; `start` holds it, with or without frames before it.

    Raises AnalysisFailed when there is one frame only, or frames are not equally spaced: then nothing tells the motion.
    """
    frames = _frames(work, start)
    spacings = np.unique(np.diff(frames.valid_times))
    if len(spacings) != 1:
        raise AnalysisFailed(f"no motion from analyses at {', '.join(map(time_stamp, frames.valid_times))}")
    flow = block_flow(frames.values[:, :, 0].mean(dim=0, keepdim=True)).expand(frames.n_members, -1, -1, -1)
    steps = (work.times() - frames.valid_time) / spacings[0]
    values = torch.stack([advect(frames.latest, flow, steps=float(n)) for n in steps], dim=1)
    return Ensemble(values, work.times(), frames.members, frames.layout)


def _frames(work: CycleWork, start: Ensemble) -> Ensemble:
    """The analysis with at least one before it."""
    if len(start.valid_times) > 1:
        return start
    before = work.before(start.valid_time)
    if before is None:
        raise AnalysisFailed(f"no motion: the analysis of {time_stamp(start.valid_time)} has none before it")
    return append_times(work.frames_until(before).at_latest(), start)
