"""Serving without an orchestrator: look, run what is ready, wait, look again.

A look reads the store anew, so that it may come late, twice or after a restart. A look that fails is logged and the
next one tries again: an expected error never ends the service, a bug does (with its traceback and exit code 70, for
whoever restarts it). A request to stop is answered between two stages.

Looks happen at multiples of `every` since 1970-01-01T00:00Z by the clock of the host, whenever the service was started.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

from cycler_da.cycle_plan import CycleEvent, ServedPlan, StoppedOnRequest, run_plan
from cycler_da.errors import EXIT_COMPLETE, CyclerError, exit_code_of
from cycler_da.priority import first_priority

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """How a look ended."""

    cycles: int = 0
    exit_code: int = EXIT_COMPLETE
    text: str = ""


def serve_plainly(
    plan: ServedPlan,
    *,
    every: float,
    stop: Event,
    on_event: Callable[[CycleEvent], None] = lambda event: None,
    after_look: Callable[[Look], None] = lambda done: None,
) -> int:
    """Look every `every` seconds until `stop` is set; returns the number of looks."""
    looks = 0
    log.info("event=serving experiment=%s every_s=%g", plan.name, every)
    while not stop.is_set():
        after_look(look(plan, stop=stop, on_event=on_event))
        looks += 1
        stop.wait(every - clock.time() % every)
    log.info("event=serving_ended experiment=%s looks=%d", plan.name, looks)
    return looks


def look(plan: ServedPlan, *, stop: Event, on_event: Callable[[CycleEvent], None] = lambda event: None) -> Look:
    """Run the cycles that are ready, oldest first."""
    try:
        if not any(plan.ready(chain) for chain in plan.chains):
            return Look()
        with first_priority(plan.folder):
            facts: dict[str, Any] = run_plan(
                plan, on_event=_both(journal, on_event), pending=plan.ready, stop_requested=stop.is_set
            )
    except StoppedOnRequest as request:
        log.info("event=look_stopped text=%s", request)
        return Look(exit_code=request.exit_code, text=str(request))
    except (CyclerError, OSError) as error:
        code = exit_code_of(error)
        log.error("event=look_failed exit_code=%d text=%s", code, error)
        return Look(exit_code=code, text=str(error))
    return Look(facts["cycles"], facts["exit_code"])


def journal(event: CycleEvent) -> None:
    """One log line for each cycle that ended."""
    if event.kind == "cycle_finished":
        code = event.facts.get("exit_code", EXIT_COMPLETE)
        log.info(
            "event=cycle_finished chain=%s time=%sZ exit_code=%d s=%.1f", event.chain, event.time, code, event.seconds
        )
    elif event.kind == "cycle_failed":
        log.error("event=cycle_failed chain=%s time=%sZ text=%s", event.chain, event.time, event.facts["error"])


def _both(first: Callable[[CycleEvent], None], second: Callable[[CycleEvent], None]) -> Callable[[CycleEvent], None]:
    def show(event: CycleEvent) -> None:
        first(event)
        second(event)

    return show
