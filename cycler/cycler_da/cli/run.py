"""`cycler run` and `cycler serve`: cycles until there are none left, or for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cycler_da.cli.shell import ConfigPath, Overrides, console, expected_errors, set_up_logging
from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from cycler_da.config import VerificationBlock
    from cycler_da.cycle_plan import CycleEvent, ExperimentPlan

#: What an orchestrator offers: run this plan, tell these events, return the experiment's facts.
Orchestrator = Callable[..., dict[str, Any]]


def run(
    config: ConfigPath,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Make a revision of cycles that are complete.")] = False,
    orchestrator: Annotated[str, typer.Option(help="prefect, or none for a plain loop.")] = "prefect",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every stage.")] = False,
) -> None:
    """Run all cycles of an experiment that are not complete, then write its table and page."""
    set_up_logging(verbose=verbose)
    with expected_errors():
        from cycler_da.cli.progress import CycleProgress
        from cycler_da.experiment import open_experiment, table_of
        from cycler_da.tables.closing import closing_table

        with (
            CycleProgress(console) as progress,
            open_experiment(config, overrides or [], force=force, say=progress.say) as plan,
        ):
            facts = _runner(orchestrator)(lambda: plan, on_event=progress.show)
        rows = table_of(facts)
        if rows:
            console.print(closing_table(rows, title=_caption(plan.setting.config.verification)))
        console.print(
            f"{facts['cycles']} cycles in {facts['seconds']:.0f} s. Page: {facts['page'] or 'none, see above'}"
        )
        if facts["exit_code"]:
            console.print(
                f"not everything was complete (exit code {facts['exit_code']}); see the page or `cycler status`"
            )
        raise typer.Exit(facts["exit_code"])


def serve(
    config: ConfigPath,
    every: Annotated[str, typer.Option(help="How often to look for observation files, such as 5min.")] = "5min",
    overrides: Overrides = None,
) -> None:
    """Run cycles as their observation files arrive, oldest first, until stopped; needs Prefect."""
    set_up_logging(verbose=True)
    with expected_errors():
        from datetime import timedelta

        import numpy as np

        from cycler_da.times import parse_duration

        server = _entry_point("cycler_da.servers", "prefect")
        seconds = float(parse_duration(every) / np.timedelta64(1, "s"))
        server(config, timedelta(seconds=seconds), overrides=overrides or [])


def _runner(name: str) -> Orchestrator:
    if name == "none":
        return _plain
    return _entry_point("cycler_da.orchestrators", name)


def _plain(plan_source: Callable[[], ExperimentPlan], *, on_event: Callable[[CycleEvent], None]) -> dict[str, Any]:
    from cycler_da.cycle_plan import run_plan

    with _stop_on_sigterm() as stop_requested:
        return run_plan(plan_source(), on_event=on_event, stop_requested=stop_requested)


@contextmanager
def _stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM end the run between two stages, its lock given back, instead of in the middle of one."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _entry_point(group: str, name: str) -> Callable[..., Any]:
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        raise ConfigError(f"no {group.split('.')[-1].rstrip('s')} {name!r}; valid: {', '.join([*found, 'none'])}")
    loaded: Callable[..., Any] = found[name].load()
    return loaded


def _caption(verification: VerificationBlock) -> str:
    is_pooled = verification.headline == "all"
    what = "all variables, in climatological standard deviations" if is_pooled else verification.headline
    return f"{what}; cycles after the first {verification.spin_up}"
