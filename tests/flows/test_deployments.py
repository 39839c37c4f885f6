"""Deployments to a work pool, against the test server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cycler_flows.deployments import AUTOMATION, crash_silent_runs, deploy, main
from cycler_flows.serve import ANCHOR

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "deployed.json"
    path.write_text(json.dumps({"folder": str(tmp_path / "deployed"), "name": "deployed"}))
    return path


def client() -> Any:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def test_a_deployment_is_anchored_and_runs_in_its_pool(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    with client() as server:
        server.create_work_pool(WorkPoolCreate(name="pool", type="process"))
    arguments = [str(config), "--every", "5min", "--pool", "pool", "--loader", "toy_plan:load", "--set", "n_cycles=2"]
    assert main(arguments) == 0
    assert main(arguments) == 0  # again: the same deployment, the same single schedule
    assert "cycler-look/deployed" in capsys.readouterr().out
    with client() as server:
        found = server.read_deployment_by_name("cycler-look/deployed")
    (schedule,) = found.schedules
    assert (schedule.schedule.interval.total_seconds(), schedule.schedule.anchor_date) == (300, ANCHOR)
    assert (found.work_pool_name, found.entrypoint) == ("pool", "cycler_flows.watch.look")
    assert found.parameters == {"config_path": str(config), "overrides": ["n_cycles=2"], "loader": "toy_plan:load"}


def test_a_missing_pool_is_a_config_error_that_says_how_to_make_one(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), "--every", "5min", "--pool", "none", "--loader", "toy_plan:load"]) == 78
    assert "prefect work-pool create none --type process" in capsys.readouterr().err


def test_silent_runs_are_crashed_by_one_automation_that_knows_every_end() -> None:
    from cycler_flows.shell import NOTHING_TO_DO, STATE_NAMES, STOPPED

    crash_silent_runs()
    crash_silent_runs()
    with client() as server:
        found = server.request("POST", "/automations/filter").json()
    (automation,) = [one for one in found if one["name"] == AUTOMATION]
    expected = set(automation["trigger"]["expect"])
    ends = {"Completed", "Failed", "Crashed", "Cancelled", STOPPED, NOTHING_TO_DO, *STATE_NAMES.values()}
    assert {f"prefect.flow-run.{end}" for end in ends} <= expected
    assert automation["trigger"]["within"] == 90


def test_without_a_server_a_deployment_is_refused(config: Path) -> None:
    from datetime import timedelta

    from prefect.settings import temporary_settings

    from cycler_da.errors import ConfigError

    with (
        temporary_settings(updates={"api.url": None}),
        pytest.raises(ConfigError, match="no Prefect server is configured"),
    ):
        deploy(config, timedelta(minutes=5), "pool", loader="toy_plan:load")
