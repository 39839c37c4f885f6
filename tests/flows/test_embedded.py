"""The embedded server and the service, in processes of their own, with nothing configured."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_plan

from cycler_flows.server import LARGEST_LOG, EmbeddedServer, OrchestratorFailed, free_port, turn_over

RUN = """
import logging, os, signal, sys
from pathlib import Path
import toy_plan
from cycler_flows.run import run_experiment

def before_stage(cycle, name):
    if "{kill}" and cycle.folder.name == "20200102T0000Z" and name == "assimilate":
        pid = Path("{root}/.prefect/server.pid")
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)
            pid.unlink()

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    plan = toy_plan.ToyPlan(Path("{root}/toy_default"), n_cycles=3, before_stage=before_stage)
    facts = run_experiment(lambda: plan)
    print("cycles", facts["cycles"])
"""

SERVE = """
import logging
from datetime import timedelta
from cycler_flows.serve import serve

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    serve("{config}", timedelta(seconds=10), loader="toy_plan:load")
    print("served")
"""


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "DO_NOT"))}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parent)}


def start(code: str, folder: Path, name: str) -> subprocess.Popen[str]:
    script = folder / f"{name}.py"
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


def rows(root: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{root}/.prefect/prefect.db?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_an_experiment_runs_on_an_embedded_server_with_nothing_configured(tmp_path: Path) -> None:
    run = start(RUN.format(root=tmp_path, kill=""), tmp_path, "run")
    output, _ = run.communicate(timeout=180)
    assert (run.returncode, output) == (0, "cycles 6\n")  # nothing of Prefect on the terminal
    assert rows(tmp_path, "select state_name, count(*) from flow_run group by 1") == [("Completed", 7)]
    expected = 6 * len(toy_plan.STAGES) + 1 + 6  # stages, the finish of the experiment, and one for each inner flow
    assert rows(tmp_path, "select state_name, count(*) from task_run group by 1") == [("Completed", expected)]
    pid = int((tmp_path / ".prefect" / "server.pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert not (tmp_path / "toy_default" / ".prefect").exists()


@pytest.mark.slow
@pytest.mark.faults
def test_the_cycles_are_completed_when_the_server_is_killed(tmp_path: Path) -> None:
    run = start(RUN.format(root=tmp_path, kill="yes"), tmp_path, "run")
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0 and "cycles 6" in output
    assert output.count("event=orchestrator_lost") == 1
    plan = toy_plan.ToyPlan(tmp_path / "toy_default")
    assert len(plan.lines()) == len(set(plan.lines())) == 6 * len(toy_plan.STAGES)


@pytest.mark.slow
@pytest.mark.faults
def test_a_service_waits_for_observations_drains_on_sigterm_and_continues(tmp_path: Path) -> None:
    folder = tmp_path / "toy_default"
    config = tmp_path / "toy_default.json"
    config.write_text(json.dumps({"folder": str(folder), "seconds": 1.0}))
    plan = toy_plan.ToyPlan(folder)
    (folder / "obs_20200101T0000Z").touch()
    first = start(SERVE.format(config=config), tmp_path, "serve")
    wait_until(lambda: len(plan.lines()) == 6, seconds=180)
    (folder / "obs_20200102T0000Z").touch()
    wait_until(lambda: len(plan.lines()) == 7, seconds=120)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 0 and "event=look_stopped" in output and "Traceback" not in output
    assert 7 <= len(plan.lines()) < 12
    second = start(SERVE.format(config=config), tmp_path, "serve")
    try:
        wait_until(lambda: len(plan.lines()) == 12, seconds=180)
    finally:
        second.kill()  # its server ends with it, a running look by itself
        second.communicate(timeout=60)
    assert len(set(plan.lines())) == 12
    anchored = rows(tmp_path, "select expected_start_time from flow_run where auto_scheduled")
    assert {float(text[-9:]) % 10 for (text,) in anchored} == {0.0}


@pytest.mark.slow
@pytest.mark.faults
def test_a_service_whose_server_is_killed_ends_and_its_next_start_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "toy_default"
    config = tmp_path / "toy_default.json"
    config.write_text(json.dumps({"folder": str(folder), "seconds": 0.1}))
    plan = toy_plan.ToyPlan(folder)
    (folder / "obs_20200101T0000Z").touch()
    service = start(SERVE.format(config=config), tmp_path, "serve")
    try:
        wait_until(lambda: len(plan.lines()) == 6, seconds=240)
        os.kill(int((tmp_path / ".prefect" / "server.pid").read_text()), signal.SIGKILL)
        output, _ = service.communicate(timeout=150)
    finally:
        service.kill()
    assert service.returncode == 1 and "has ended while the service ran" in output
    (folder / "obs_20200102T0000Z").touch()
    again = start(SERVE.format(config=config), tmp_path, "serve")
    try:
        wait_until(lambda: len(plan.lines()) == 12, seconds=240)
    finally:
        again.kill()
        again.communicate(timeout=60)


def test_a_server_that_cannot_start_names_the_way_without_it(tmp_path: Path) -> None:
    import socket

    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        server = EmbeddedServer(tmp_path / "home", port=port)
        with pytest.raises(OrchestratorFailed, match=r"server ended with code .*--orchestrator none"):
            server.wait(60)


def test_a_server_that_is_too_slow_names_the_way_without_it(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "home")
    with pytest.raises(OrchestratorFailed, match=r"did not answer within 0 s .*--orchestrator none"):
        server.wait(0.2)
    assert server._process.poll() is not None


def test_a_folder_that_cannot_be_written_names_the_way_without_it(tmp_path: Path) -> None:
    from cycler_flows.session import prefect_session

    (tmp_path / "file").touch()
    with pytest.raises(OrchestratorFailed, match="--orchestrator none"), prefect_session(tmp_path / "file"):
        pass


def test_a_configured_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    from prefect.settings import temporary_settings

    from cycler_flows.session import prefect_session

    address = f"http://127.0.0.1:{free_port()}/api"
    with (
        temporary_settings(updates={"api.url": address}),
        pytest.raises(OrchestratorFailed, match=f"no Prefect server answers at {address}"),
        prefect_session(tmp_path),
    ):
        pass


def test_two_sessions_never_share_a_database(tmp_path: Path) -> None:
    from cycler_flows.session import own_home

    with own_home(tmp_path) as first, own_home(tmp_path) as second:
        assert (first.name, second.name) == (".prefect", ".prefect.2")
    with own_home(tmp_path) as again:
        assert again == first


def test_a_large_log_of_the_server_is_turned_over_and_a_small_one_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    turn_over(log)
    log.write_bytes(b"small")
    turn_over(log)
    assert log.read_bytes() == b"small"
    log.write_bytes(bytes(LARGEST_LOG + 1))
    turn_over(log)
    assert not log.exists() and (tmp_path / "server.log.1").stat().st_size == LARGEST_LOG + 1
