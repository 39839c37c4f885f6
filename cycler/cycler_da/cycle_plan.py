"""The plan of an experiment as the shell around it sees it, and the one loop over its cycles.

A plan has chains (one for each scheme), a chain has cycles, a cycle has stages. What a stage does is the
business of `cycle.py`; here is only the order of things:

    for each pending (time, chain), oldest time first:
        open the cycle (its lock), run its stages in order, take its report
    finish the experiment (scores, page)

A shell wraps each cycle and each stage. `PlainShell` retries what is temporary and does nothing else; the Prefect
flows bring a shell that turns a cycle into a flow run and a stage into a task run. So both do the same by
construction. Whether a cycle or stage is done is known to the store alone: a stage that is done returns its facts.

A chain whose cycle fails is left where it is; the other chains go on, and the first error is raised at the
end. A final pass that fails holds up the later final passes of its chain alone: what it would have replaced is
published, and new cycles follow that. A bug in one chain is no reason to hold up the others either: it is logged with
its traceback at once, and is the error that is raised at the end.
"""

from __future__ import annotations

import errno
import logging
import time as clock
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cycler_da.errors import (
    EXIT_COMPLETE,
    EXIT_DEGRADED,
    EXIT_NO_OBSERVATIONS,
    EXIT_TEMPORARY,
    CyclerError,
    LockedCycle,
    exit_code_of,
)
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)

#: Waits before the second and third try of a stage after a temporary error (s).
RETRY_DELAYS = (2.0, 10.0)

#: Errors of the operating system that another try does not cure.
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST}
_LASTING |= {errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EMFILE}

Facts = Mapping[str, Any]


class StoppedOnRequest(CyclerError):
    """The run was asked to stop and did so between two stages; the same command continues it."""

    exit_code = EXIT_TEMPORARY


@runtime_checkable
class OpenCycle(Protocol):
    """One cycle of one chain, with its lock held."""

    def run_stage(self, name: str) -> Facts:
        """Run a stage, or do nothing when the store says that it is done; returns its facts (JSON-ready)."""
        ...

    def report(self) -> Facts:
        """Say how the cycle went, after its last stage (JSON-ready).

        Keys that shells read, all but the first optional: `exit_code` (0 complete, 3 degraded, 4 no
        observations), `reasons` (list of texts: why degraded), `counts` ({name: number}: observations by
        outcome), `scores` ({kind: {metric: number}}, kind being background, analysis, ...), `images` (paths of maps),
        `page` (path of the page).
        """
        ...


@runtime_checkable
class ExperimentPlan(Protocol):
    """What there is to do for one experiment."""

    name: str
    folder: Path  # of the experiment; a shell may keep files of its own in hidden folders beside it
    chains: Sequence[str]
    stages: tuple[str, ...]

    def pending(self, chain: str) -> list[np.datetime64]:
        """Valid times of the cycles that are not complete, oldest first."""
        ...

    def is_final_pass(self, chain: str, time: np.datetime64) -> bool:
        """Tell whether a pending cycle is published already, and good to go on from while it is made again."""
        ...

    def open_cycle(self, chain: str, time: np.datetime64) -> AbstractContextManager[OpenCycle]:
        """Take the lock of a cycle; raises LockedCycle when another run has it."""
        ...

    def finish_experiment(self) -> Facts:
        """Write what belongs to all chains together: the table of scores and the page (JSON-ready facts).

        Keys that shells read, all optional: `table` (list of rows, each {column: text or number}) and `page`.
        """
        ...

    def close(self) -> None:
        """Give workers back; may be called twice."""
        ...


@runtime_checkable
class ServedPlan(ExperimentPlan, Protocol):
    """A plan that can wait for observations."""

    def ready(self, chain: str) -> list[np.datetime64]:
        """Pending cycles that may run now, oldest first: up to the first one that still waits for observations."""
        ...


@dataclass(frozen=True)
class CycleEvent:
    """Something that happened, for the progress display.

    `kind` is one of experiment_started (facts: `pending`, cycles by chain), cycle_started, stage_started,
    stage_retried, stage_finished, cycle_finished (facts: the report), cycle_failed (facts: `error`, `exit_code`) and
    experiment_finished (facts: what `run_plan` returns). An orchestrator adds orchestrator_starting and
    orchestrator_ready (facts: `page`, its address).
    """

    kind: str
    chain: str = ""
    time: np.datetime64 | None = None
    stage: str = ""
    facts: Facts = field(default_factory=dict)
    seconds: float = 0.0


class Shell(Protocol):
    """What surrounds a cycle and a stage. Names read `experiment/chain/20200102T0000Z[/stage]`."""

    def cycle(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run a whole cycle and return its report."""
        ...

    def stage(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run one stage, again after a temporary error, and return its facts."""
        ...


class PlainShell:
    """No orchestration: a stage is tried again after a temporary error, nothing else."""

    def __init__(self, delays: Sequence[float] = RETRY_DELAYS) -> None:
        self._delays = tuple(delays)

    def cycle(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run a whole cycle."""
        return body()

    def stage(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run one stage."""
        for delay in self._delays:
            try:
                return body()
            except (CyclerError, OSError) as error:
                if not is_temporary(error):
                    raise
                log.warning("event=stage_retry stage=%s delay_s=%g error=%s", name, delay, error)
                clock.sleep(delay)
        return body()


def is_temporary(error: BaseException) -> bool:
    """Tell whether another try may succeed: exit code 75, or an OSError that passes.

    A lost or foreign lock and a request to stop have that exit code too, but are for the next run.
    """
    if isinstance(error, LockedCycle | StoppedOnRequest):
        return False
    if isinstance(error, CyclerError):
        return error.exit_code == EXIT_TEMPORARY
    return isinstance(error, OSError) and error.errno not in _LASTING


def run_plan(
    plan: ExperimentPlan,
    *,
    on_event: Callable[[CycleEvent], None] | None = None,
    shell: Shell | None = None,
    pending: Callable[[str], list[np.datetime64]] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run the pending cycles of all chains, oldest first, then finish the experiment.

    `pending` replaces `plan.pending` (a served plan runs what is ready). Returns the facts of
    `finish_experiment` with `cycles` (how many were run), `exit_code` and `seconds`.
    Raises the first error of a chain after the other chains were run, and StoppedOnRequest.
    """
    run = _Run(plan, on_event or (lambda event: None), shell or PlainShell(), stop_requested)
    return run.all(pending or plan.pending)


class _Run:
    """The state of one pass through a plan."""

    def __init__(
        self,
        plan: ExperimentPlan,
        emit: Callable[[CycleEvent], None],
        shell: Shell,
        stop_requested: Callable[[], bool],
    ) -> None:
        self._plan, self._emit, self._shell, self._stop_requested = plan, emit, shell, stop_requested
        self._failed: dict[str, Exception] = {}
        self._left: set[str] = set()  # chains of which no cycle is tried any more
        self._codes: list[int] = []

    def all(self, pending: Callable[[str], list[np.datetime64]]) -> dict[str, Any]:
        started = clock.perf_counter()
        waiting = {chain: pending(chain) for chain in self._plan.chains}
        self._emit(CycleEvent("experiment_started", facts={"pending": {c: len(times) for c, times in waiting.items()}}))
        order = [(time, place, chain) for place, chain in enumerate(waiting) for time in waiting[chain]]
        for time, _, chain in sorted(order):
            if chain not in self._left:
                self._try_cycle(chain, time)
        try:
            return self._finish(started)
        finally:
            self._raise_first_failure()

    def _try_cycle(self, chain: str, time: np.datetime64) -> None:
        started, is_final_pass = clock.perf_counter(), self._plan.is_final_pass(chain, time)
        if is_final_pass and chain in self._failed:
            return  # it would be made from the early pass of a cycle whose final one is still to come
        self._emit(CycleEvent("cycle_started", chain, time))
        try:
            report = self._shell.cycle(self._name(chain, time), lambda: self._cycle(chain, time))
        except StoppedOnRequest:
            raise
        except Exception as error:
            if _is_bug(error):
                log.exception("event=bug cycle=%s", self._name(chain, time))
            self._note(chain, error, is_final_pass=is_final_pass)
            facts = {"error": str(error), "exit_code": exit_code_of(error)}
            self._emit(CycleEvent("cycle_failed", chain, time, facts=facts, seconds=clock.perf_counter() - started))
            return
        self._codes.append(int(report.get("exit_code", EXIT_COMPLETE)))
        self._emit(CycleEvent("cycle_finished", chain, time, facts=report, seconds=clock.perf_counter() - started))

    def _note(self, chain: str, error: Exception, *, is_final_pass: bool) -> None:
        if chain in self._failed:
            error.add_note(f"the final pass of an earlier cycle failed too: {self._failed[chain]}")
        self._failed[chain] = error
        if not is_final_pass:
            self._left.add(chain)

    def _cycle(self, chain: str, time: np.datetime64) -> Facts:
        with self._plan.open_cycle(chain, time) as cycle:
            for stage in self._plan.stages:
                self._stage(cycle, chain, time, stage)
            return cycle.report()

    def _stage(self, cycle: OpenCycle, chain: str, time: np.datetime64, stage: str) -> None:
        name = f"{self._name(chain, time)}/{stage}"
        if self._stop_requested():
            raise StoppedOnRequest(f"stopped on request before {name}; the same command continues there")
        kinds = iter(["stage_started"])

        def body() -> Facts:
            self._emit(CycleEvent(next(kinds, "stage_retried"), chain, time, stage))
            return cycle.run_stage(stage)

        started = clock.perf_counter()
        facts = self._shell.stage(name, body)
        self._emit(CycleEvent("stage_finished", chain, time, stage, facts, clock.perf_counter() - started))

    def _finish(self, started: float) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "cycles": len(self._codes),
            "failed": {chain: str(error) for chain, error in self._failed.items()},
            "exit_code": _worst(self._codes),
        }
        facts |= self._shell.stage(f"{self._plan.name}/finish_experiment", self._plan.finish_experiment)
        facts["seconds"] = clock.perf_counter() - started
        self._emit(CycleEvent("experiment_finished", facts=facts, seconds=facts["seconds"]))
        return facts

    def _raise_first_failure(self) -> None:
        failures = sorted(self._failed.items(), key=lambda item: not _is_bug(item[1]))
        if failures:
            (_, first), *others = failures
            for chain, error in others:
                first.add_note(f"chain {chain} failed too: {error}")
            raise first

    def _name(self, chain: str, time: np.datetime64) -> str:
        return f"{self._plan.name}/{chain}/{time_stamp(time)}"


def _is_bug(error: Exception) -> bool:
    """Tell whether an error is neither an expected one nor of the operating system."""
    return not isinstance(error, CyclerError | OSError)


def _worst(codes: list[int]) -> int:
    """The exit code of several complete cycles: degraded before no observations before complete."""
    return next((code for code in (EXIT_DEGRADED, EXIT_NO_OBSERVATIONS) if code in codes), EXIT_COMPLETE)
