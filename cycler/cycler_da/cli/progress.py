"""Progress of a run in the terminal: one bar for all cycles, one line for what is worth reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cycler_da.times import time_stamp

if TYPE_CHECKING:
    from cycler_da.cycle_plan import CycleEvent


class CycleProgress:
    """Context manager that draws events; `show` is the event handler."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("preparing", total=None)

    def __enter__(self) -> CycleProgress:
        self._bar.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text)

    def show(self, event: CycleEvent) -> None:
        """Draw one event."""
        if event.kind == "experiment_started":
            total = sum(event.facts["pending"].values())
            self._bar.reset(self._task, total=total, description="cycles")
            if total == 0:
                self._console.print("every cycle is complete; nothing to do")
        elif event.kind == "stage_started" and event.time is not None:
            self._bar.update(self._task, description=f"{event.chain} {time_stamp(event.time)} {event.stage}")
        elif event.kind == "cycle_finished":
            self._finished(event)
        elif event.kind == "cycle_failed" and event.time is not None:
            self._console.print(f"FAILED {event.chain} {time_stamp(event.time)}: {event.facts['error']}", markup=False)

    def _finished(self, event: CycleEvent) -> None:
        self._bar.advance(self._task)
        if event.time is None:
            return
        scores = event.facts.get("scores", {}).get("analysis", {})
        shown = f" rmse {scores['rmse']:.4f}" if "rmse" in scores else ""
        used = event.facts.get("counts", {}).get("USED", 0)
        self._console.print(
            f"{time_stamp(event.time)} {event.chain:<20} used {used:>5}{shown}  {event.seconds:.1f} s", markup=False
        )
        for reason in event.facts.get("reasons", []):
            self._console.print(f"WARNING: {event.chain} {time_stamp(event.time)}: {reason}", markup=False)
