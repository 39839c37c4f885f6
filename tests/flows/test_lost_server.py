"""A service whose embedded server has died ends, so that it is started anew, instead of living on without looks."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from cycler_flows import serve as serving
from cycler_flows.server import EmbeddedServer, OrchestratorFailed


class FakeRunner:
    """Prefect's runner as far as the service knows it."""

    def __init__(self, **options: Any) -> None:
        self._end = asyncio.Event()

    async def aadd_deployment(self, deployment: Any) -> None:
        """Nothing is scheduled."""

    async def start(self) -> None:
        await self._end.wait()

    async def astop(self) -> None:
        self._end.set()


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.runner.Runner", FakeRunner)
    monkeypatch.setattr(serving, "POLL", 0.05)


def test_a_service_ends_when_its_server_has_died() -> None:
    asked: list[int] = []
    with pytest.raises(OrchestratorFailed, match="start the service again") as raised:
        serving._run(None, is_lost=lambda: asked.append(1) or len(asked) > 3)
    assert raised.value.exit_code == 69
    assert not any(thread.name == "runner" for thread in threading.enumerate())


def test_a_runner_that_hangs_without_its_server_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: FakeRunner) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(FakeRunner, "astop", never)
    monkeypatch.setattr(serving, "PATIENCE", 0.1)
    with pytest.raises(OrchestratorFailed):
        serving._run(None, is_lost=lambda: True)


def test_a_service_that_is_asked_to_stop_ends_without_an_error() -> None:
    stopped = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped.start()
    serving._run(None, is_lost=lambda: False)
    stopped.join()


def test_the_death_of_the_server_process_is_seen(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "home")
    try:
        assert not server.has_ended()
        os.kill(int((tmp_path / "home" / "server.pid").read_text()), signal.SIGKILL)
        server._process.wait(30)
        assert server.has_ended()
    finally:
        server.stop()
