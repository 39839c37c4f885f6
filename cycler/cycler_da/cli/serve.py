"""`cycler serve`: cycles as data time advances, until stopped."""

from __future__ import annotations

import signal
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


def serve(
    config: ConfigPath,
    every: Annotated[str, typer.Option(help="How often to look for observation files, such as 5min.")] = "5min",
    overrides: Overrides = None,
    orchestrator: Annotated[str, typer.Option(help="prefect, or none for a plain loop.")] = "prefect",
    cold_start: Annotated[
        str | None, typer.Option(help="Begin anew at this valid time; earlier cycles are not caught up.")
    ] = None,
    clock: Annotated[str, typer.Option(help="Data time: wall, replay:SPEED or file:PATH.")] = "wall",
) -> None:
    """Run cycles as their observations arrive or their cut-off passes, oldest first, until stopped."""
    set_up_logging(verbose=True)
    with expected_errors():
        from cycler_da.times import parse_duration

        seconds = float(parse_duration(every) / np.timedelta64(1, "s"))
        if seconds <= 0:
            raise ConfigError(f"--every {every}: expected a duration > 0, such as 5min")
        if orchestrator == "none":
            _serve_plainly(config, overrides or [], seconds, clock=clock, cold_start=cold_start)
            return
        if clock != "wall":
            raise ConfigError(f"--clock {clock}: only the plain loop can have another clock; add --orchestrator none")
        if cold_start is not None:
            _open(config, overrides or [], clock=clock, cold_start=cold_start).close()
        server = entry_point("cycler_da.servers", orchestrator)
        server(config, timedelta(seconds=seconds), overrides=overrides or [])


def _serve_plainly(config: Path, overrides: list[str], every: float, *, clock: str, cold_start: str | None) -> None:
    from cycler_da.operations.serving import serve_plainly

    with stop_on_sigterm(signal.SIGINT) as stop, _open(config, overrides, clock=clock, cold_start=cold_start) as plan:
        serve_plainly(plan, every=every, stop=stop)


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
        add_cold_start(experiment.folder, parse_time(cold_start), valid_times=setting.valid_times)
    experiment.prepare()
    return experiment
