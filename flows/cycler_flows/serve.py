"""Serve an experiment: look every few minutes whether observations have come, and run what is ready.

The schedule is anchored in absolute time: looks happen at anchor + k * every, whenever the service was started.
(A plain Prefect interval starts anew at every restart, and its phase moves.) One look at a time; a look that was
due while another one ran comes after it and finds little to do.

On SIGTERM no further look is started, the running one finishes its stage (it has 30 s, then it is killed; the
store makes the restart exact either way), and the embedded server stops last. The schedule is not paused.
A service whose embedded server has died ends, too (exit code 69): without it no look would ever start.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from cycler_da.errors import ConfigError
from cycler_flows.run import SERVED_LOADER, load_plan
from cycler_flows.server import OrchestratorFailed

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

log = logging.getLogger(__name__)

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
SHORTEST = timedelta(seconds=10)

POLL, PATIENCE = 2.0, 60.0  # s


def serve(
    config_path: str | Path,
    every: timedelta,
    *,
    overrides: Sequence[str] = (),
    anchor: datetime = ANCHOR,
    port: int | None = None,
    loader: str = SERVED_LOADER,
) -> None:
    """Serve an experiment until SIGTERM or Ctrl-C.

    `port` is that of the embedded server's page; by default a free one. Raises ConfigError for a config that cannot be
    used, before anything is started.
    """
    path = Path(config_path).resolve()
    plan = load_plan(str(path), overrides, loader=loader)
    plan.close()  # every look makes its own

    from cycler_flows.session import prefect_server, quiet_terminal

    with prefect_server(plan.folder.parent, schedules=True, port=port) as session, quiet_terminal():
        deployment = look_deployment(path, every, name=plan.name, overrides=overrides, anchor=anchor, loader=loader)
        log.info("event=serving experiment=%s every=%s page=%s", plan.name, every, session.page)
        _run(deployment, is_lost=session.is_lost)
    log.info("event=serving_ended experiment=%s", plan.name)


def look_deployment(
    config_path: Path,
    every: timedelta,
    *,
    name: str,
    overrides: Sequence[str] = (),
    anchor: datetime = ANCHOR,
    loader: str = SERVED_LOADER,
) -> RunnerDeployment:
    """Describe the scheduled flow of an experiment; its code is found by module name, so it must be installed."""
    if every < SHORTEST:
        raise ConfigError(f"serve: every is {every}; looking costs seconds, use at least {SHORTEST.seconds} s")

    from prefect.deployments.runner import EntrypointType
    from prefect.schedules import Interval

    from cycler_flows.watch import look

    deployment = look.to_deployment(
        name=name,
        schedule=Interval(every, anchor_date=anchor, timezone="UTC"),
        parameters={"config_path": str(config_path), "overrides": list(overrides), "loader": loader},
        entrypoint_type=EntrypointType.MODULE_PATH,
        description=f"Runs the cycles of {name} whose observations have come.",
    )
    return cast("RunnerDeployment", deployment)  # a coroutine only inside a running event loop


def _run(deployment: RunnerDeployment, *, is_lost: Callable[[], bool]) -> None:
    """Run the schedule until SIGTERM or Ctrl-C; raises OrchestratorFailed when the embedded server has ended.

    Prefect's runner lives in a thread of its own: in the main thread it would answer SIGTERM itself, by raising
    SystemExit in the middle of its event loop.
    """
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            asyncio.run(_runner(deployment, stop))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=copy_context().run, args=(work,), name="runner", daemon=True)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        thread.start()
        while thread.is_alive() and not is_lost():
            thread.join(POLL)
        if is_lost() and not stop.is_set():
            _give_up(thread, stop)
        thread.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]


def _give_up(thread: threading.Thread, stop: threading.Event) -> NoReturn:
    """End: without its server the runner starts no look any more, and whoever watches the service starts it anew."""
    stop.set()
    thread.join(PATIENCE)  # a running look finishes its stage
    raise OrchestratorFailed(
        "the embedded Prefect server has ended while the service ran (its log: ROOT/.prefect/server.log); start the "
        "service again, as systemd does by itself: cycles go on where they were. Or add `--orchestrator none`"
    )


async def _runner(deployment: RunnerDeployment, stop: threading.Event) -> None:
    from prefect.runner import Runner

    runner = Runner(name="cycler", limit=1, pause_on_shutdown=False)
    await runner.aadd_deployment(deployment)
    running = asyncio.create_task(runner.start())
    asked = asyncio.create_task(asyncio.to_thread(stop.wait))
    try:
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            log.info("event=serving_stops reason=signal")
            await runner.astop()  # lets the running look finish its stage
        await running
    finally:
        stop.set()
