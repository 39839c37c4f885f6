"""A cycle that is open: its lock is held, its stages are run one by one, what goes wrong is noted for who watches.

With every cycle that is published, the page of the experiment is made anew.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cycler_da.cycle import CycleWork
from cycler_da.cycle.running import LAST_STAGE, run_stage
from cycler_da.errors import EXIT_DEGRADED, CyclerError, LockedCycle
from cycler_da.plots.page import write_page
from cycler_da.priority import give_way
from cycler_da.products.failure import clear_failure, write_failure
from cycler_da.products.manifest import SUCCESS

log = logging.getLogger(__name__)

#: Files of an experiment's folder.
CONFIG, PAGE = "experiment.yaml", "index.html"


@dataclass
class OpenedCycle:
    """One cycle with its lock held; implements `cycle_plan.OpenCycle`."""

    work: CycleWork
    was_complete: bool
    is_backfill: bool = False  # the service of the experiment goes first

    def run_stage(self, name: str) -> dict[str, Any]:
        """Run a stage, or nothing when the store says that the cycle or the stage is done."""
        if self.was_complete:
            return {}
        if self.is_backfill:
            give_way(self.work.store.experiment_folder)
        store = self.work.store
        try:
            facts = run_stage(self.work, name)
        except LockedCycle:
            raise  # another run is at work, which is no failure
        except Exception as error:
            write_failure(store.chain_folder, self.work.time, name, error, is_final_pass=self.work.is_final_pass)
            raise
        if name == LAST_STAGE:
            self.was_complete = True
            clear_failure(store.chain_folder, done=self.work.time)
            refresh_page(self.work.store.experiment_folder)
        return facts

    def report(self) -> dict[str, Any]:
        """How the cycle went, from its published summary."""
        folder = self.work.store.cycle_folder(self.work.time)
        summary = json.loads((folder / "diag" / "summary.json").read_text())
        return {
            "exit_code": summary["exit_code"],
            "reasons": summary["degraded"],
            "counts": summary["counts"],
            "scores": {kind: scores.get("all", {}) for kind, scores in summary["scores"].items()},
            "images": [str(folder / image) for image in summary["images"]],
            "page": str(self.work.store.experiment_folder / PAGE),
        }


def refresh_page(folder: Path) -> dict[str, Any]:
    """Write the page of an experiment when anything it shows is younger than it; returns facts for the shell.

    Like a map, a page that fails degrades the run and never stops it. Raises CannotWrite.
    """
    page = folder / PAGE
    shown = [folder / CONFIG, *folder.glob(f"*/cycles/*/{SUCCESS}")]
    if page.is_file() and all(path.stat().st_mtime_ns < page.stat().st_mtime_ns for path in shown):
        return {"page": str(page)}
    try:
        return {"page": str(write_page(folder))}
    except CyclerError:
        raise
    except Exception as error:  # whatever a template or a plotting library may raise
        log.exception("experiment=%s the page failed: %s", folder.name, error)
        return {"page": "", "exit_code": EXIT_DEGRADED}
