"""A session with Prefect: which server, which settings, and a terminal that stays readable.

A server that the user has configured (PREFECT_API_URL, a profile) is used as it is. Without one, an embedded server
runs for as long as the session; its folder is `.prefect` beside the experiments. Prefect's own messages go to
its server, where its page shows them; the terminal belongs to Cycler, except for warnings.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from cycler_da.operations.journal import lines_sent_to
from cycler_flows.server import QUIET_ENVIRONMENT, EmbeddedServer, OrchestratorFailed, is_healthy

log = logging.getLogger(__name__)

#: Seconds that the last messages to the server may take at the end of a session.
DRAIN_TIMEOUT = 15.0
HOMES = 8  # sessions at one time beside each other, each with its own database
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


@dataclass(frozen=True)
class Session:
    """An open session: the API, the page that shows its runs, and whether the server is our own."""

    api_url: str
    page: str
    is_embedded: bool
    is_lost: Callable[[], bool] = lambda: False  # whether the embedded server has ended meanwhile


@contextmanager
def prefect_server(root: Path, *, schedules: bool = False, port: int | None = None) -> Iterator[Session]:
    """Find the configured server, or run an embedded one in `root/.prefect`, and point Prefect's settings at it.

    Raises OrchestratorFailed when the configured server does not answer or the embedded one does not start.
    """
    with ExitStack() as stack:
        home = stack.enter_context(own_home(root))
        configured = configured_api(home)
        if configured is None:
            server = EmbeddedServer(home, port=port, schedules=schedules)
            stack.callback(server.stop)
            server.wait()
            session = Session(server.api_url, server.url, is_embedded=True, is_lost=server.has_ended)
        elif is_healthy(configured, timeout=10.0):
            session = Session(configured, configured.removesuffix("/api"), is_embedded=False)
        else:
            raise OrchestratorFailed(
                f"no Prefect server answers at {configured}, the configured PREFECT_API_URL; start it, or unset "
                "PREFECT_API_URL to use the embedded server, or add `--orchestrator none`"
            )
        stack.enter_context(_settings(session, home))
        if session.is_embedded:
            _tidy()
        log.info("event=orchestrator_ready kind=prefect embedded=%s page=%s", session.is_embedded, session.page)
        yield session


@contextmanager
def prefect_session(root: Path) -> Iterator[Session]:
    """Run flows in this process: a server, the log lines sent to it, and a terminal left to the caller.

    At the end the server gets what is still in the queues, and only then an embedded one is stopped.
    """
    with prefect_server(root) as session, ExitStack() as stack:
        stack.enter_context(quiet_terminal())
        stack.callback(_drain, session)
        stack.enter_context(lines_sent_to(server_log()))
        yield session


def configured_api(home: Path) -> str | None:
    """Address of the server the user has configured anywhere Prefect looks, if any.

    Imports Prefect; with `home` as its folder unless the user has one, so that nothing is written elsewhere.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    hasown_home = "PREFECT_HOME" in os.environ or Path("~/.prefect").expanduser().exists()
    if not hasown_home:
        os.environ["PREFECT_HOME"] = str(home)
    try:
        from prefect.settings import get_current_settings
    finally:
        if not hasown_home:
            del os.environ["PREFECT_HOME"]
    return get_current_settings().api.url or None


@contextmanager
def quiet_terminal() -> Iterator[None]:
    """Keep Prefect's account of its runs off the terminal; its other warnings stay.

    The errors of a run are raised to the caller, who shows them. Sessions in several threads share the silence.
    """
    import prefect.main  # sets its logging up, once  # noqa: F401

    global _silences
    logger, requests = logging.getLogger("prefect"), logging.getLogger("httpx")
    with _silence:
        _silences += 1
        logger.propagate = False
        if _FORWARD not in logger.handlers:
            logger.addHandler(_FORWARD)
        requests.addFilter(_is_warning)  # else one line for every request to the server
    try:
        yield
    finally:
        with _silence:
            _silences -= 1
            if _silences == 0:
                logger.removeHandler(_FORWARD)
                logger.propagate = True
                requests.removeFilter(_is_warning)


class _Forward(logging.Handler):
    """Passes Prefect's warnings on, except those about the runs themselves."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_RUN_LOGGERS):
            log.handle(record)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


_FORWARD = _Forward(logging.WARNING)
_silence, _silences = threading.Lock(), 0


@contextmanager
def own_home(root: Path) -> Iterator[Path]:
    """Take a Prefect folder in `root` that no other live session uses; SQLite is for one server."""
    with ExitStack() as stack:
        for number in range(1, HOMES + 1):
            home = root / (".prefect" if number == 1 else f".prefect.{number}")
            try:
                home.mkdir(parents=True, exist_ok=True)
                lock: IO[bytes] = stack.enter_context((home / "in_use.lock").open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError as error:
                raise OrchestratorFailed(
                    f"Prefect cannot be used: no folder for it in {root} ({error}). The cycles run without it: "
                    "add `--orchestrator none`"
                ) from error
            yield home
            return
        raise OrchestratorFailed(
            f"{HOMES} runs use Prefect in {root} already; wait for one, or add `--orchestrator none`"
        )


@contextmanager
def _settings(session: Session, home: Path) -> Iterator[None]:
    from prefect.settings import temporary_settings

    updates: dict[str, Any] = {"logging.to_api.when_missing_flow": "ignore"}
    if session.is_embedded:
        updates |= {
            "api.url": session.api_url,
            "home": home,
            # Nobody watches heartbeats here, and the end of every flow run waits up to 1 s for their thread.
            "flows.heartbeat_frequency": None,
            # A server on this machine that refuses twice is dead; five tries (the default) are a minute each time.
            "client.max_retries": 2,
        }
    with temporary_settings(updates=updates):
        yield


def server_log() -> logging.Handler:
    """Sends log lines to the runs they belong to."""
    from prefect.logging.handlers import APILogHandler

    return APILogHandler()


def _tidy() -> None:
    """Mark runs that an earlier process left behind as crashed, and drop looks that are long due.

    Only for an embedded server: it has just started and its folder is ours, so nothing can be running.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    alive = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    waiting = {
        "state": {"type": {"any_": [StateType.SCHEDULED]}},
        "expected_start_time": {"before_": datetime.now(UTC)},
    }
    try:
        with quiet_terminal(), get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state={"type": {"any_": alive}})):
                client.set_flow_run_state(run.id, Crashed(message="its process ended without a word"), force=True)
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(**waiting)):
                client.delete_flow_run(run.id)
    except Exception as error:  # for the display only
        log.warning("event=orchestrator_tidy_failed error=%r", error)


def _drain(session: Session) -> None:
    """Hand the server what is still in the queues: logs and the states of tasks."""
    if not is_healthy(session.api_url):
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    try:
        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=DRAIN_TIMEOUT, at_exit=False)
    except Exception as error:  # what is lost here is only a part of the display
        log.warning("event=orchestrator_drain_failed error=%r", error)
