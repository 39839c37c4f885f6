"""`cycler serve`: cycles as data time advances, until stopped."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from cycler_da.cli.run import entry_point, stop_on_sigterm
from cycler_da.cli.shell import ConfigPath, Overrides, expected_errors, set_up_logging
from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from cycler_da.experiment import Experiment
    from cycler_da.operations.monitor import Monitor

log = logging.getLogger(__name__)

#: No stage may take longer (s), or /healthz says that the service hangs.
SILENCE = 1800.0


def serve(
    config: ConfigPath,
    every: Annotated[str, typer.Option(help="How often to look for observation files, such as 5min.")] = "5min",
    overrides: Overrides = None,
    orchestrator: Annotated[str, typer.Option(help="prefect, or none for a plain loop.")] = "prefect",
    cold_start: Annotated[
        str | None, typer.Option(help="Begin anew at this valid time; earlier cycles are not caught up.")
    ] = None,
    clock: Annotated[str, typer.Option(help="Data time: wall, replay:SPEED or file:PATH.")] = "wall",
    http: Annotated[str, typer.Option(help="HOST:PORT of /healthz, /readyz, /metrics and /status, or none.")] = "none",
) -> None:
    """Run cycles as their observations arrive or their cut-off passes, oldest first, until stopped."""
    set_up_logging(verbose=True)
    with expected_errors():
        from cycler_da.times import parse_duration

        seconds = float(parse_duration(every) / np.timedelta64(1, "s"))
        if seconds <= 0:
            raise ConfigError(f"--every {every}: expected a duration > 0, such as 5min")
        if orchestrator != "none" and clock != "wall":
            raise ConfigError(f"--clock {clock}: only the plain loop can have another clock; add --orchestrator none")
        with (
            _open(config, overrides or [], clock=clock, cold_start=cold_start) as plan,
            _watched(plan, http, seconds) as monitor,
        ):
            if orchestrator == "none":
                _serve_plainly(plan, monitor, seconds)
            else:
                _serve_with(orchestrator, config, overrides or [], monitor, seconds)


def _serve_plainly(plan: Experiment, monitor: Monitor, every: float) -> None:
    from cycler_da.operations.serving import serve_plainly

    def after_look() -> None:
        monitor.beat()
        monitor.refresh()

    with stop_on_sigterm(signal.SIGINT) as stop:
        serve_plainly(
            plan,
            every=every,
            stop=stop,
            on_event=lambda event: monitor.beat(),
            after_look=lambda look: after_look(),
        )


def _serve_with(orchestrator: str, config: Path, overrides: list[str], monitor: Monitor, every: float) -> None:
    """Serve with an orchestrator, whose looks are other processes; a thread watches the store meanwhile."""
    server, stop = entry_point("cycler_da.servers", orchestrator), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            monitor.follow()
            monitor.refresh()
            stop.wait(min(every, 60.0))

    thread = threading.Thread(target=watch, name="monitor", daemon=True)
    thread.start()
    try:
        server(config, timedelta(seconds=every), overrides=overrides)
    finally:
        stop.set()
        thread.join(timeout=10.0)


@contextmanager
def _watched(plan: Experiment, http: str, every: float) -> Iterator[Monitor]:
    """A monitor of the experiment, its journal and its endpoint."""
    from cycler_da.operations.endpoint import endpoint
    from cycler_da.operations.journal import journal_to
    from cycler_da.operations.monitor import Monitor

    monitor = Monitor(lambda: plan.agenda, silence_limit=max(SILENCE, 3 * every))
    with journal_to(plan.folder / "logs" / "serve.jsonl"), ExitStack() as stack:
        if http != "none":
            log.info("event=endpoint url=%s", stack.enter_context(endpoint(http, monitor.answers())))
        yield monitor


def _open(config: Path, overrides: list[str], *, clock: str, cold_start: str | None) -> Experiment:
    """The experiment on its clock, its cold start written down."""
    from cycler_da.clock import make_clock
    from cycler_da.cold_starts import add_cold_start
    from cycler_da.experiment import Experiment
    from cycler_da.setting import load_setting
    from cycler_da.times import parse_time

    setting = load_setting(config, overrides)
    experiment = Experiment(setting, clock=make_clock(clock, start=setting.valid_times[0]), is_served=True)
    if cold_start is not None:
        stores = [experiment.store(chain) for chain in experiment.chains]
        add_cold_start(experiment.folder, parse_time(cold_start), valid_times=setting.valid_times, stores=stores)
    experiment.prepare()
    return experiment
