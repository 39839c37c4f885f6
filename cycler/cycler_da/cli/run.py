"""`cycler run`: cycles until there are none left."""

from __future__ import annotations

import os
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
    from cycler_da.agenda import Period
    from cycler_da.config import VerificationBlock
    from cycler_da.cycle_plan import CycleEvent, ExperimentPlan

#: What an orchestrator offers: run this plan, tell these events, return the experiment's facts.
Orchestrator = Callable[..., dict[str, Any]]


def run(
    config: ConfigPath,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Make a revision of cycles that are complete.")] = False,
    first: Annotated[str | None, typer.Option("--from", help="First valid time of a backfill.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last valid time of a backfill.")] = None,
    orchestrator: Annotated[str, typer.Option(help="prefect, or none for a plain loop.")] = "prefect",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every stage.")] = False,
) -> None:
    """Run all cycles of an experiment that are not complete, then write its table and page.

    With --from or --to only the cycles of that period, giving way to a service of the same experiment.
    """
    set_up_logging(verbose=verbose)
    with expected_errors():
        from cycler_da.cli.progress import CycleProgress
        from cycler_da.experiment import open_experiment, table_of
        from cycler_da.tables.closing import closing_table

        with (
            CycleProgress(console) as progress,
            open_experiment(
                config, overrides or [], force=force, period=_backfill(first, last), say=progress.say
            ) as plan,
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


def _runner(name: str) -> Orchestrator:
    if name == "none":
        return _plain
    return entry_point("cycler_da.orchestrators", name)


def _backfill(first: str | None, last: str | None) -> Period | None:
    """The period of a backfill, and a low priority of this process for it; None when there is none."""
    if first is None and last is None:
        return None
    from cycler_da.agenda import Period
    from cycler_da.times import parse_time

    period = Period(*(None if text is None else parse_time(text) for text in (first, last)))
    os.nice(10)
    return period


def _plain(plan_source: Callable[[], ExperimentPlan], *, on_event: Callable[[CycleEvent], None]) -> dict[str, Any]:
    from cycler_da.cycle_plan import run_plan

    with stop_on_sigterm() as asked:
        return run_plan(plan_source(), on_event=on_event, stop_requested=asked.is_set)


@contextmanager
def stop_on_sigterm(*also: signal.Signals) -> Iterator[threading.Event]:
    """Let SIGTERM end the run between two stages, its lock given back, instead of in the middle of one."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, *also)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def entry_point(group: str, name: str) -> Callable[..., Any]:
    """Load what an orchestrator announces; raises ConfigError that lists the valid names."""
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        raise ConfigError(f"no {group.split('.')[-1].rstrip('s')} {name!r}; valid: {', '.join([*found, 'none'])}")
    loaded: Callable[..., Any] = found[name].load()
    return loaded


def _caption(verification: VerificationBlock) -> str:
    is_pooled = verification.headline == "all"
    what = "all variables, in climatological standard deviations" if is_pooled else verification.headline
    return f"{what}; cycles after the first {verification.spin_up}"
