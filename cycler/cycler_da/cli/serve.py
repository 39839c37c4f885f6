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

import typer

from cycler_da.cli.run import entry_point, stop_on_sigterm
from cycler_da.cli.shell import ConfigPath, Overrides, expected_errors, set_up_logging
from cycler_da.cli.watch import Http, looking_interval, watched
from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from cycler_da.experiment import Experiment
    from cycler_da.operations.monitor import Monitor

log = logging.getLogger(__name__)


def serve(
    config: ConfigPath,
    every: Annotated[str, typer.Option(help="How often to look for observation files, such as 5min.")] = "5min",
    overrides: Overrides = None,
    orchestrator: Annotated[str, typer.Option(help="prefect, or none for a plain loop.")] = "prefect",
    cold_start: Annotated[
        str | None, typer.Option(help="Begin anew at this valid time; earlier cycles are not caught up.")
    ] = None,
    clock: Annotated[str, typer.Option(help="Data time: wall, replay:SPEED or file:PATH.")] = "wall",
    http: Http = "none",
) -> None:
    """Run cycles as their observations arrive or their cut-off passes, oldest first, until stopped."""
    set_up_logging(verbose=True)
    with expected_errors():
        seconds = looking_interval(every)
        if orchestrator != "none" and clock != "wall":
            raise ConfigError(f"--clock {clock}: only the plain loop can have another clock; add --orchestrator none")
        with (
            _open(config, overrides or [], clock=clock, cold_start=cold_start) as plan,
            _as_watcher(plan.folder),
            watched(plan, http, seconds, journal="serve.jsonl") as monitor,
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
    from cycler_da.operations.watching import watch

    server, stop = entry_point("cycler_da.servers", orchestrator), threading.Event()
    options = {"every": every, "stop": stop}
    thread = threading.Thread(target=watch, args=(monitor,), kwargs=options, name="monitor", daemon=True)
    thread.start()
    try:
        server(config, timedelta(seconds=every), overrides=overrides)
    finally:
        stop.set()
        thread.join(timeout=10.0)


@contextmanager
def _as_watcher(folder: Path) -> Iterator[None]:
    """Keep others from watching too; where another one does, serve all the same: cycles come first."""
    from cycler_da.operations.watching import Watched, only_watcher

    with ExitStack() as stack:
        try:
            stack.enter_context(only_watcher(folder))
        except Watched as error:
            log.warning("event=watched_twice text=%s", error)
        yield


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
