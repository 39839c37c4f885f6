"""The embedded Prefect server: a private one on the loopback interface, for as long as one command runs.

Needs no configuration and no network. Everything it writes (database, log, page) is in one folder, so the
history of an experiment can be looked at later:

    PREFECT_HOME=<that folder> prefect server start

Settings, and why:
- analytics off, DO_NOT_TRACK: the server does not look for its maker's host;
- task run recorder in batches: one write per task makes SQLite stall the next request for about 2 s after a burst;
- runs that ended long ago are deleted (history.py): else the database grows for as long as a service lives;
- no heartbeats inside `run`: at the end of a flow run Prefect waits up to 1 s for its heartbeat thread;
- the server dies with the command that started it (Linux), even when that is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cycler_da.errors import CyclerError
from cycler_flows.history import database_of, history_settings, shrink

LOOPBACK = "127.0.0.1"
STARTUP_TIMEOUT = 120.0  # s; 7 to 20 s are usual, a first start on a busy machine takes longest

#: Given to the server and to every process of ours, unless the user says otherwise.
QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(STARTUP_TIMEOUT)),
}
_SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
_PR_SET_PDEATHSIG = 1
LARGEST_LOG = 10_000_000  # bytes


class OrchestratorFailed(CyclerError):
    """Prefect cannot be used; the cycles themselves do not need it."""

    exit_code = 69


class EmbeddedServer:
    """A Prefect server process of our own; starts at once, is ready after `wait`."""

    def __init__(self, home: Path, *, port: int | None = None, schedules: bool = False) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._log_path = home / "server.log"
        try:
            home.mkdir(parents=True, exist_ok=True)
            turn_over(self._log_path)
            self._log = self._log_path.open("ab")
        except OSError as error:
            raise OrchestratorFailed(_advice(f"cannot write to {home}: {error}")) from error
        shrink(database_of(home))
        self._process = subprocess.Popen(
            _command(self.port, schedules=schedules),
            env={**os.environ, **QUIET_ENVIRONMENT, **_SERVER_ENVIRONMENT, **self._of_its_folder()},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            start_new_session=True,  # Ctrl-C ends the command, and the command ends its server
        )
        (home / "server.pid").write_text(str(self._process.pid))

    @property
    def api_url(self) -> str:
        """Address of the API."""
        return f"{self.url}/api"

    def wait(self, timeout: float = STARTUP_TIMEOUT) -> None:
        """Wait until the server answers; raises OrchestratorFailed when it ends or is too slow."""
        deadline = time.monotonic() + timeout
        while not is_healthy(self.api_url):
            if self._process.poll() is not None:
                self._fail(f"its server ended with code {self._process.returncode}")
            if time.monotonic() > deadline:
                self._fail(f"its server did not answer within {timeout:.0f} s")
            time.sleep(0.1)

    def has_ended(self) -> bool:
        """Tell whether the process of the server has ended, by itself or by someone else."""
        return self._process.poll() is not None

    def stop(self, patience: float = 15.0) -> None:
        """End the server; it first writes what it still holds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def _of_its_folder(self) -> dict[str, str]:
        return {**history_settings(self.home, os.environ), **_places(self.home, self.api_url)}

    def _fail(self, what: str) -> None:
        self.stop(patience=1.0)
        raise OrchestratorFailed(_advice(f"{what} (log: {self._log_path})"))


def is_healthy(api_url: str, *, timeout: float = 2.0) -> bool:
    """Tell whether a Prefect server answers at an address."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def turn_over(path: Path) -> None:
    """Keep a log that is large as `<name>.1`, in place of the one kept before, so that a new one begins."""
    if path.is_file() and path.stat().st_size > LARGEST_LOG:
        path.replace(path.with_name(f"{path.name}.1"))


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _command(port: int, *, schedules: bool) -> list[str]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    return [*command, "--log-level", "ERROR", *([] if schedules else ["--no-scheduler", "--no-late-runs"])]


def _places(home: Path, api_url: str) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "page"),  # else it writes into its own installation
        "PREFECT_UI_API_URL": api_url,  # else its page asks at port 4200
    }


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _advice(what: str) -> str:
    return f"Prefect cannot be used: {what}. The cycles run without it: add `--orchestrator none`"
