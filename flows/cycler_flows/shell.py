"""The Prefect shell: a cycle is a flow run, a stage is a task run.

    experiment (flow)  >  experiment/chain/20200102T0000Z (flow)  >  .../assimilate (task)

What Prefect knows is for people to look at. Nothing of it decides anything: whether a stage is done is known
to the store, results are not kept, and tasks exchange no data. So when Prefect itself fails (server gone, database
locked), the cycles go on without it and say so once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import TerminationSignal
from prefect.states import Completed
from prefect.tasks import Task

from cycler_da.cycle_plan import RETRY_DELAYS, Facts, PlainShell, StoppedOnRequest, is_temporary
from cycler_da.errors import EXIT_DEGRADED, EXIT_NO_OBSERVATIONS
from cycler_flows.artifacts import ArtifactWriter

log = logging.getLogger(__name__)

STATE_NAMES = {EXIT_DEGRADED: "Degraded", EXIT_NO_OBSERVATIONS: "NoObservations"}
STOPPED, NOTHING_TO_DO = "Stopped", "NothingToDo"


def may_retry(stage: Task, run: TaskRun, state: State) -> bool:
    """Tell Prefect to try a stage again after what is temporary, never after bad data."""
    return isinstance(state.data, BaseException) and is_temporary(state.data)


@task(
    name="stage",
    task_run_name="{name}",
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=list(RETRY_DELAYS),
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def stage_task(name: str, body: Callable[[], Facts]) -> Facts:
    """Run one stage."""
    return body()


class PrefectShell:
    """Wraps an experiment and its cycles in flow runs and the stages in task runs.

    `shield` protects a stage from signals: Prefect answers SIGTERM at once, in the middle of whatever runs.
    """

    def __init__(
        self, artifacts: ArtifactWriter, *, shield: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self._artifacts = artifacts
        self._shield = shield
        self._is_lost = False

    def experiment(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run a pass through all cycles as one flow run."""

        def in_prefect(kept: _Body) -> None:
            @flow(name="experiment", flow_run_name=name, persist_result=False)
            def experiment_flow() -> State:
                try:
                    return self.finished_experiment(name, kept())
                except StoppedOnRequest as stop:
                    return stopped_state(stop)

            experiment_flow()

        try:
            return self._guarded(body, in_prefect, plainly=_call)
        except TerminationSignal as termination:
            raise StoppedOnRequest(
                f"{name}: stopped on request between two stages; the same command continues"
            ) from termination

    def finished_experiment(self, name: str, facts: Facts) -> State:
        """Write the last artifacts of the flow run this is called in, and give its final state."""
        self._artifacts.experiment(name, facts)
        self._artifacts.flush()
        return final_state(facts)

    def cycle(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run one cycle as a flow run named after it; a degraded cycle is seen in the name of its state."""

        def in_prefect(kept: _Body) -> None:
            @flow(name="cycle", flow_run_name=name, persist_result=False)
            def cycle_flow(experiment: str, chain: str, time: str) -> State:
                try:
                    report = kept()
                except StoppedOnRequest as stop:
                    return stopped_state(stop)
                self._artifacts.cycle(name, report)
                return final_state(report)

            cycle_flow(*name.split("/"))

        return self._guarded(body, in_prefect, plainly=_call)

    def stage(self, name: str, body: Callable[[], Facts]) -> Facts:
        """Run one stage as a task run, again after a temporary error."""

        def plainly(body: Callable[[], Facts]) -> Facts:
            return PlainShell().stage(name, body)

        with self._shield():
            return self._guarded(body, lambda kept: stage_task(name, kept), plainly=plainly)

    def _guarded(
        self,
        body: Callable[[], Facts],
        in_prefect: Callable[[_Body], object],
        *,
        plainly: Callable[[Callable[[], Facts]], Facts],
    ) -> Facts:
        """Run a body in Prefect; without Prefect once that has failed by itself."""
        if self._is_lost:
            return plainly(body)
        kept = _Body(body)
        try:
            in_prefect(kept)
        except Exception as failure:
            if kept.error is None:
                self._lose(failure)
        if kept.error is not None:
            raise kept.error
        return plainly(body) if kept.facts is None else kept.facts

    def _lose(self, failure: Exception) -> None:
        if not self._is_lost:
            log.error("event=orchestrator_lost error=%r (the cycles go on without Prefect)", failure)
            self._artifacts.close()
        self._is_lost = True


class _Body:
    """A body that remembers how it ended, so that it can be told from a failure of Prefect around it."""

    def __init__(self, body: Callable[[], Facts]) -> None:
        self._body = body
        self.facts: Facts | None = None
        self.error: BaseException | None = None

    def __call__(self) -> Facts:
        self.error = None
        try:
            self.facts = self._body()
        except BaseException as error:
            self.error = error
            raise
        return self.facts


def final_state(facts: Facts) -> State:
    """Completed, with a name of its own for a degraded cycle and one without observations."""
    reasons = "; ".join(str(reason) for reason in facts.get("reasons", ())) or None
    return Completed(name=STATE_NAMES.get(int(facts.get("exit_code", 0)), "Completed"), message=reasons)


def stopped_state(stop: StoppedOnRequest) -> State:
    """The state of a run that was asked to stop."""
    return Completed(name=STOPPED, message=str(stop))


def _call(body: Callable[[], Facts]) -> Facts:
    return body()
