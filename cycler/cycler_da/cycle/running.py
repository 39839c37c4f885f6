"""The list of stages, and how one is run: its marker, its lock, what an earlier attempt left of it.

Each stage reads the store and the work folder, and writes the work folder:

    background       forecast the previous analysis (the start: nothing)
    observations     copy the window's files, quarantine what cannot be read
    quality_control  flag every observation
    assimilate       correct the background -> analysis (the start: the first ensemble)
    products         increment, feedback, statistics
    verify           scores against nature, where there is one
    plot             maps
    finish           summary, manifest, publication

A stage returns plain facts; `degraded` among them lists reasons, which end in the manifest, the files and the page.
"""

from __future__ import annotations

import logging
import os
import time as clock
from collections.abc import Callable
from pathlib import Path

from cycler_da.cycle.stages.assimilate import assimilate
from cycler_da.cycle.stages.background import background
from cycler_da.cycle.stages.finish import finish
from cycler_da.cycle.stages.observations import observations
from cycler_da.cycle.stages.plot import plot
from cycler_da.cycle.stages.products import products
from cycler_da.cycle.stages.quality_control import quality_control
from cycler_da.cycle.stages.verify import verify
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import refusals_explained
from cycler_da.products.stages import SUFFIX, stage_files
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)

STAGES: dict[str, Callable[[CycleWork], Facts]] = {
    "background": background,
    "observations": observations,
    "quality_control": quality_control,
    "assimilate": assimilate,
    "products": products,
    "verify": verify,
    "plot": plot,
    "finish": finish,
}

#: The stage that publishes; it leaves no marker.
LAST_STAGE = "finish"


def run_stage(work: CycleWork, name: str) -> Facts:
    """Run a stage unless its marker says that it is done, and leave its marker; `finish` publishes instead.

    Raises LostLock in place of whatever failed when another run has taken the cycle meanwhile: it clears what this one
    reads.
    """
    try:
        return _run_stage(work, name)
    except Exception:
        work.lock.require_held()
        raise


def _run_stage(work: CycleWork, name: str) -> Facts:
    if work.store.stage_is_done(work.time, name, key=work.key):
        return work.store.stage_facts(work.time, name)
    work.lock.require_held()
    reach(f"{name}.start")
    before = _clear(work, name)
    began, worked = clock.perf_counter(), processor_seconds()
    with refusals_explained(work.folder, within=work.folder):
        facts = STAGES[name](work)
    if name == LAST_STAGE:
        return facts
    facts["seconds"] = round(clock.perf_counter() - began, 4)
    facts["cpu_seconds"] = round(processor_seconds() - worked, 4)
    reach(f"{name}.written")
    written = sorted(_files(work.folder) - before)
    work.store.mark_stage(work.time, name, written, facts=facts, key=work.key, lock=work.lock)
    reach(f"{name}.done")
    log.info("cycle=%s chain=%s stage=%s seconds=%.2f", time_stamp(work.time), work.chain.name, name, facts["seconds"])
    return facts


def processor_seconds() -> float:
    """Seconds of processors that this process has used, all its threads, and its children that have ended.

    Workers that go on living (executors `processes` and `dask`) are not in it.
    """
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _clear(work: CycleWork, name: str) -> set[str]:
    """Remove what an earlier attempt left of a stage and of the stages after it; return the files that stay.

    Without this a copy of observations from an attempt that was killed would be used although the file has
    gone since, and a stage would count as done that was made from what its predecessor is about to replace.
    """
    order = list(STAGES)
    earlier = order[: order.index(name)]
    kept = {file for stage in earlier for file in (*stage_files(work.folder, stage), f"{stage}{SUFFIX}")}
    for file in _files(work.folder) - kept:
        (work.folder / file).unlink()
    return kept


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
