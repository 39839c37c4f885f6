"""A Prefect server for drills: a process of its own that can be killed and started anew, and asked over HTTP.

Runs are led to it by their environment, as to a server that an operator keeps. Nothing of Prefect is imported here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time as clock
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
START = 400.0  # s; the longest that the server may take to start on a busy machine; 10 to 20 are usual
TIMEOUT = 30.0  # s; of one request
_QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "ERROR"}


@dataclass
class Orchestrator:
    """A server with its folder; the port and the database stay when it is started anew."""

    home: Path
    port: int
    process: subprocess.Popen | None = field(default=None)

    @property
    def environment(self) -> dict[str, str]:
        """What leads a command to this server."""
        return {"PREFECT_API_URL": self._api, "PREFECT_HOME": str(self.home), **_QUIET}

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.begin()
        self._wait()

    def _wait(self) -> None:
        deadline = clock.monotonic() + START
        while not self.answers():
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the Prefect server of the drill ended; its log is {self._log}")
            if clock.monotonic() > deadline:
                raise TimeoutError(f"the Prefect server of the drill does not answer after {START:.0f} s")
            clock.sleep(0.2)

    def begin(self) -> None:
        """Start it and do not wait."""
        self.home.mkdir(parents=True, exist_ok=True)
        # A page of its own, else it writes into its installation.
        places = {"PREFECT_UI_STATIC_DIRECTORY": str(self.home / "page")}
        words = ["server", "start", "--host", HOST, "--port", str(self.port), "--no-scheduler", "--no-late-runs"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *words],
                env={**os.environ, **self.environment, **places},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart_if_gone(self) -> None:
        """Wait for a start that was begun, or start it where nothing was."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        else:
            self._wait()

    def answers(self) -> bool:
        """Tell whether it can be used."""
        try:
            with urllib.request.urlopen(f"{self._api}/health", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def running(self, mark: str = "") -> list[str]:
        """Flow runs that are running now, of those whose name begins with `mark`."""
        asked = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        return [run["id"] for run in self._post("flow_runs/filter", asked) if run["name"].startswith(mark)]

    def call_crashed(self, run: str) -> None:
        """Give a run the state that a lost heartbeat would give it."""
        state = {"type": "CRASHED", "name": "Crashed", "message": "no heartbeat"}
        self._post(f"flow_runs/{run}/set_state", {"state": state, "force": True})

    @property
    def _api(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    @property
    def _log(self) -> Path:
        return self.home / "server.log"

    def _post(self, what: str, content: Any) -> Any:
        header = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._api}/{what}", json.dumps(content).encode(), header)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.loads(answer.read())


def make_orchestrator(home: Path) -> Orchestrator:
    """A server on a free port of this machine, not started."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return Orchestrator(home, int(probe.getsockname()[1]))
