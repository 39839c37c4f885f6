"""`cycler watch`: the monitor of a service, beside cycles that something else runs."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from cycler_da.cli.run import stop_on_sigterm
from cycler_da.cli.shell import ConfigPath, Overrides, expected_errors, set_up_logging
from cycler_da.errors import ConfigError, MissingInput

if TYPE_CHECKING:
    from cycler_da.experiment import Experiment
    from cycler_da.operations.monitor import Monitor

log = logging.getLogger(__name__)

#: No stage may take longer (s), or /healthz says that the service hangs.
SILENCE = 1800.0

Http = Annotated[str, typer.Option(help="HOST:PORT of /healthz, /readyz, /metrics and /status, or none.")]


def watch(
    config: ConfigPath,
    every: Annotated[str, typer.Option(help="How often looks are scheduled, as in the deployment.")] = "5min",
    overrides: Overrides = None,
    http: Http = "none",
) -> None:
    """Watch an experiment whose cycles something else runs: status, alerts, endpoint; runs no cycle, until stopped."""
    set_up_logging(verbose=True)
    with expected_errors():
        from cycler_da.experiment import Experiment
        from cycler_da.operations import watching
        from cycler_da.setting import load_setting

        seconds = looking_interval(every)
        setting = load_setting(config, overrides or [])
        if not setting.root.is_dir():
            raise MissingInput(
                f"root {setting.root} does not exist: nothing has run there, or its disk is not mounted; the config is "
                "read as by `cycler run`, relative paths from the folder of this command"
            )
        with (
            Experiment(setting, is_served=True) as plan,
            watching.only_watcher(plan.folder),
            watched(plan, http, seconds, journal="watch.jsonl") as monitor,
            stop_on_sigterm(signal.SIGINT) as stop,
        ):
            log.info("event=watching experiment=%s every_s=%g", plan.name, seconds)
            watching.watch(monitor, every=seconds, stop=stop)
            log.info("event=watching_ended experiment=%s", plan.name)


@contextmanager
def watched(plan: Experiment, http: str, every: float, *, journal: str) -> Iterator[Monitor]:
    """A monitor of the experiment, a journal of this process in `logs`, and the endpoint."""
    from cycler_da.operations.endpoint import endpoint
    from cycler_da.operations.journal import journal_to
    from cycler_da.operations.monitor import Monitor

    monitor = Monitor(lambda: plan.agenda, silence_limit=max(SILENCE, 3 * every))
    with journal_to(plan.folder / "logs" / journal), ExitStack() as stack:
        if http != "none":
            log.info("event=endpoint url=%s", stack.enter_context(endpoint(http, monitor.answers())))
        yield monitor


def looking_interval(every: str) -> float:
    """Seconds between looks; raises ConfigError unless it is a duration > 0."""
    from cycler_da.times import parse_duration

    seconds = float(parse_duration(every) / np.timedelta64(1, "s"))
    if seconds <= 0:
        raise ConfigError(f"--every {every}: expected a duration > 0, such as 5min")
    return seconds
