"""The scheduled flow: look for cycles whose observations have come, run them, oldest first.

Every look reads the store anew, so looks may be late, missing or doubled: what is complete is not run again, and
a cycle another run is busy with is locked. On SIGTERM the current stage is finished and the run ends; the next
look continues behind that stage.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Failed

from cycler_da.cycle_plan import CycleEvent, ExperimentPlan, ServedPlan, StoppedOnRequest, run_plan
from cycler_da.errors import ConfigError, CyclerError, exit_code_of
from cycler_da.operations.journal import LOGGERS, journal_to, lines_sent_to
from cycler_da.operations.serving import journal
from cycler_da.operations.signs import give_sign_of_life
from cycler_da.priority import first_priority
from cycler_flows.artifacts import ArtifactWriter
from cycler_flows.run import SERVED_LOADER, load_plan
from cycler_flows.session import quiet_terminal, server_log
from cycler_flows.shell import NOTHING_TO_DO, PrefectShell, stopped_state
from cycler_flows.stopping import StopRequest

log = logging.getLogger(__name__)


def run_name() -> str:
    """Name of a look: the experiment and the time for which it was scheduled."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    return f"{Path(parameters['config_path']).stem} look {runtime.flow_run.scheduled_start_time:%Y%m%dT%H%MZ}"


@flow(name="cycler-look", flow_run_name=run_name, persist_result=False)
def look(config_path: str, overrides: list[str] | None = None, loader: str = SERVED_LOADER) -> State:
    """Run the cycles that are ready; the name of the final state says what there was to do."""
    with quiet_terminal(), log_lines_to_stderr(), lines_sent_to(server_log()), ExitStack() as stack:
        try:
            plan = stack.enter_context(closing(load_plan(config_path, overrides or (), loader=loader)))
            if isinstance(plan, ServedPlan):
                stack.enter_context(journal_to(plan.folder / "logs" / "look.jsonl"))
            return run_ready(plan)
        except StoppedOnRequest as stop:
            log.info("event=look_stopped text=%s", stop)
            return stopped_state(stop)
        except (CyclerError, OSError) as error:
            code = exit_code_of(error)
            log.error("event=look_failed exit_code=%d text=%s", code, error)
            return Failed(message=f"exit code {code}: {error}")


def run_ready(plan: ExperimentPlan) -> State:
    """Run what is ready inside the current flow run; raises what `run_plan` raises."""
    if not isinstance(plan, ServedPlan):
        raise ConfigError("this experiment cannot tell which observations have come; use `cycler run`")

    def show(event: CycleEvent) -> None:
        journal(event)
        give_sign_of_life(plan.folder)

    give_sign_of_life(plan.folder)
    if not any(plan.ready(chain) for chain in plan.chains):
        return Completed(name=NOTHING_TO_DO)
    stop = StopRequest()
    with first_priority(plan.folder), stop.shield(), ArtifactWriter() as artifacts:
        shell = PrefectShell(artifacts, shield=stop.shield)
        try:
            facts = run_plan(plan, on_event=show, shell=shell, pending=plan.ready, stop_requested=stop.is_set)
        except TerminationSignal as termination:
            raise StoppedOnRequest("stopped on request between two stages; the next look continues") from termination
        give_sign_of_life(plan.folder)
        return shell.finished_experiment(plan.name, facts)


@contextmanager
def log_lines_to_stderr() -> Iterator[None]:
    """Write Cycler's log lines where the service's journal reads them."""
    handler, loggers = logging.StreamHandler(sys.stderr), [logging.getLogger(name) for name in LOGGERS]
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        with lines_sent_to(handler):
            yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
