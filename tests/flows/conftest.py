"""One Prefect test server for all flow tests: starting one costs more than all of them together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))  # runs in processes of their own find the toy plan by name, too


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.settings import temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    recorder = "server.services.task_run_recorder"
    updates = {"flows.heartbeat_frequency": None, f"{recorder}.batch_size": 50, f"{recorder}.read_batch_size": 50}
    with temporary_settings(updates=updates), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def runs(prefect_server: None) -> Callable[[str], list[Any]]:
    """Flow runs whose name starts with something, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    def read(start: str) -> list[Any]:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name={"like_": start}))
        return sorted((run for run in found if run.name.startswith(start)), key=lambda run: run.start_time)

    return read
