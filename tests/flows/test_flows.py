"""Prefect around the loop: the same work, seen on a page, and never in the way."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import toy_plan
from test_cycle_plan import PLACE, Busy, fail_at

from cycler_da.cycle_plan import CycleEvent, StoppedOnRequest, run_plan
from cycler_da.errors import ConfigError, DataError, LockedCycle
from cycler_da.experiment import load_served_plan
from cycler_flows.run import SERVED_LOADER, run_experiment

pytestmark = pytest.mark.usefixtures("prefect_server")
Runs = Callable[[str], list[Any]]


def plan_in(tmp_path: Path, name: str, **settings: Any) -> toy_plan.ToyPlan:
    return toy_plan.ToyPlan(tmp_path / name, name=name, **settings)


def test_prefect_does_exactly_what_the_plain_loop_does(tmp_path: Path) -> None:
    plain, flows = plan_in(tmp_path, "plain"), plan_in(tmp_path, "same")
    plain_events: list[CycleEvent] = []
    flow_events: list[CycleEvent] = []
    run_plan(plain, on_event=plain_events.append)
    facts = run_experiment(lambda: flows, on_event=flow_events.append)
    assert flows.lines() == plain.lines()
    assert facts["cycles"] == 6 and facts["exit_code"] == 0
    kinds = [event.kind for event in flow_events if not event.kind.startswith("orchestrator")]
    assert kinds == [event.kind for event in plain_events]


def test_runs_are_named_after_experiment_chain_time_and_stage(tmp_path: Path, runs: Runs) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter

    run_experiment(lambda: plan_in(tmp_path, "named", n_cycles=1))
    names = [run.name for run in runs("named")]
    assert names == ["named", "named/letkf/20200101T0000Z", "named/free_run/20200101T0000Z"]
    wanted = f"named/letkf/20200101T0000Z/{toy_plan.STAGES[1]}"
    with get_client(sync_client=True) as client:
        filtered = TaskRunFilter(name={"any_": [wanted]})
        found = []
        for _ in range(100):  # the server records tasks a moment later
            found = client.read_task_runs(task_run_filter=filtered)
            if found and found[0].state_name == "Completed":
                break
            threading.Event().wait(0.1)
    assert [run.state_name for run in found] == ["Completed"]


def test_a_degraded_cycle_is_seen_in_the_name_of_its_state(tmp_path: Path, runs: Runs) -> None:
    report = {"exit_code": 3, "reasons": ["radar file was unreadable"]}
    run_experiment(lambda: plan_in(tmp_path, "worn", n_cycles=2, reports={"20200102T0000Z": report}))
    states = {run.name: run.state for run in runs("worn")}
    assert states["worn/letkf/20200101T0000Z"].name == "Completed"
    assert states["worn/letkf/20200102T0000Z"].name == "Degraded"
    assert states["worn/letkf/20200102T0000Z"].is_completed()
    assert "radar file was unreadable" in states["worn/letkf/20200102T0000Z"].message
    assert states["worn"].name == "Degraded"


def test_a_failed_stage_raises_its_own_error_and_the_next_run_continues(tmp_path: Path, runs: Runs) -> None:
    plan = plan_in(tmp_path, "broken", before_stage=fail_at(PLACE, DataError("damaged file"), times=1))
    with pytest.raises(DataError, match="damaged file"):
        run_experiment(lambda: plan)
    assert len(plan.pending("letkf")) == 2 and plan.pending("free_run") == []
    assert {run.name: run.state_name for run in runs("broken")}["broken/letkf/20200102T0000Z"] == "Failed"
    run_experiment(lambda: plan)
    assert len(plan.lines()) == len(set(plan.lines())) == 2 * 3 * len(toy_plan.STAGES)


def test_only_what_is_temporary_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cycler_flows import shell

    monkeypatch.setattr(shell, "stage_task", shell.stage_task.with_options(retry_delay_seconds=[0.01, 0.01]))
    events: list[CycleEvent] = []
    busy = plan_in(tmp_path, "busy", before_stage=fail_at(PLACE, Busy("busy"), times=2))
    assert run_experiment(lambda: busy, on_event=events.append)["cycles"] == 6
    assert [event.kind for event in events].count("stage_retried") == 2
    bad = plan_in(tmp_path, "bad", before_stage=fail_at(PLACE, DataError("bad"), times=1))
    with pytest.raises(DataError):
        run_experiment(lambda: bad)


def test_two_runs_at_once_publish_each_cycle_once(tmp_path: Path) -> None:
    plans = [plan_in(tmp_path, "race", seconds=0.02) for _ in range(2)]
    failures: list[BaseException] = []

    def run(plan: toy_plan.ToyPlan) -> None:
        try:
            run_experiment(lambda: plan)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=copy_context().run, args=(run, plan)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, LockedCycle) for error in failures)
    if failures:  # the loser of a lock leaves the rest to the next run
        run_experiment(lambda: plans[0])
    lines = plans[0].lines()
    assert len(lines) == len(set(lines)) == 2 * 3 * len(toy_plan.STAGES)


def test_a_complete_experiment_does_not_start_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_in(tmp_path, "complete")
    run_plan(plan)
    monkeypatch.setitem(sys.modules, "cycler_flows.session", None)
    assert run_experiment(lambda: plan)["cycles"] == 0


def test_sigterm_ends_a_run_between_two_stages_and_the_next_one_continues(tmp_path: Path, runs: Runs) -> None:
    def terminate(cycle: toy_plan.ToyCycle, name: str) -> None:
        if name == "assimilate":
            os.kill(os.getpid(), signal.SIGTERM)

    plan = plan_in(tmp_path, "ended", n_cycles=1, before_stage=terminate)
    with pytest.raises(StoppedOnRequest, match="before ended/letkf/20200101T0000Z/finish"):
        run_experiment(lambda: plan)
    assert plan.lines() == ["letkf 20200101T0000Z make_background", "letkf 20200101T0000Z assimilate"]
    assert {run.state_name for run in runs("ended")} == {"Stopped"}
    plan.before_stage = lambda cycle, name: None
    assert run_experiment(lambda: plan)["cycles"] == 2
    assert len(plan.lines()) == len(set(plan.lines())) == 2 * len(toy_plan.STAGES)


def test_sigterm_between_two_stages_ends_a_run_too(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, "between", n_cycles=1)

    def terminate(event: CycleEvent) -> None:
        if event.kind == "stage_finished" and event.stage == "assimilate":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedOnRequest, match="the same command continues"):
        run_experiment(lambda: plan, on_event=terminate)
    assert plan.lines() == ["letkf 20200101T0000Z make_background", "letkf 20200101T0000Z assimilate"]
    assert run_experiment(lambda: plan)["cycles"] == 2


# ------------------------------------------------------------------ artifacts


def test_artifacts_show_counts_scores_map_and_table(tmp_path: Path) -> None:
    from prefect.artifacts import Artifact

    image = tmp_path / "map.png"
    image.write_bytes(b"\x89PNG")
    report = {"exit_code": 0, "counts": {"used": 7}, "scores": {"analysis": {"rmse": 0.123456}}, "images": [str(image)]}
    run_experiment(lambda: plan_in(tmp_path, "shown", n_cycles=1, reports={"20200101T0000Z": report}))
    markdown = Artifact.get("shown-letkf-cycle").data
    assert "| used | 7 |" in markdown and "| analysis | 0.1235 |" in markdown
    assert Artifact.get("shown-letkf-map").data == "data:image/png;base64,iVBORw=="
    assert "0.5" in Artifact.get("shown-scores").data
    assert "index.html" in Artifact.get("shown-page").data


def test_artifacts_that_fail_do_not_fail_a_cycle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, runs: Runs
) -> None:
    from prefect import artifacts

    def refuse(*arguments: object, **named: object) -> None:
        raise RuntimeError("database is locked")

    monkeypatch.setattr(artifacts, "create_markdown_artifact", refuse)
    assert run_experiment(lambda: plan_in(tmp_path, "bare", n_cycles=1))["cycles"] == 2
    assert {run.state_name for run in runs("bare")} == {"Completed"}
    assert caplog.text.count("event=artifact_failed") == 2


def test_artifacts_that_hang_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import artifacts

    from cycler_flows.artifacts import ArtifactWriter

    release = threading.Event()
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda *a, **k: release.wait())
    with ArtifactWriter() as writer:
        for _ in range(3):
            writer.cycle("e/c/t", {})
        writer.flush(timeout=0.1)
    release.set()


# ------------------------------------------------------------------ Prefect itself fails


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_cycles_go_on_when_prefect_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    from cycler_flows import shell

    def dead_server(name: str, body: Callable[[], object]) -> None:
        if moment == "after":
            body()
        raise RuntimeError("connection refused")

    plan = plan_in(tmp_path, f"lost_{moment}")
    monkeypatch.setattr(shell, "stage_task", dead_server)
    assert run_experiment(lambda: plan)["cycles"] == 6
    assert len(plan.lines()) == len(set(plan.lines())) == 2 * 3 * len(toy_plan.STAGES)
    assert caplog.text.count("event=orchestrator_lost") == 1


# ------------------------------------------------------------------ the scheduled look


def look_at(tmp_path: Path, name: str, **settings: Any) -> tuple[toy_plan.ToyPlan, Callable[[], Any]]:
    from cycler_flows.watch import look

    plan = plan_in(tmp_path, name, **settings)
    config = tmp_path / f"{name}.json"
    config.write_text(f'{{"folder": "{plan.folder}", "name": "{name}", "n_cycles": {plan.n_cycles}}}')

    def run() -> Any:
        return look(str(config), loader="toy_plan:load", return_state=True)

    return plan, run


def test_a_look_runs_what_is_ready_and_no_more(tmp_path: Path) -> None:
    plan, run = look_at(tmp_path, "watched")
    assert run().name == "NothingToDo"
    (plan.folder / "obs_20200101T0000Z").touch()
    (plan.folder / "obs_20200103T0000Z").touch()  # the second cycle still waits, so the third does too
    assert run().name == "Completed"
    assert {line.split()[1] for line in plan.lines()} == {"20200101T0000Z"}
    assert run().name == "NothingToDo"


def test_a_look_writes_its_cycles_into_a_journal_and_gives_signs_of_life(tmp_path: Path) -> None:
    plan, run = look_at(tmp_path, "journal")
    (plan.folder / "obs_20200101T0000Z").touch()
    assert run().name == "Completed"
    (journal,) = tmp_path.rglob("look.jsonl")
    events = [json.loads(line).get("event") for line in journal.read_text().splitlines()]
    assert "cycle_finished" in events
    assert (journal.parent / "look.alive").exists()


def test_a_look_without_a_usable_plan_fails_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = look_at(tmp_path, "unusable")
    monkeypatch.setattr(toy_plan, "load", lambda path, overrides: io.StringIO())
    state = run()
    assert state.is_failed() and "exit code 78" in state.message and "cycler run" in state.message


def test_sigterm_lets_the_stage_finish_and_ends_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = look_at(tmp_path, "drained", n_cycles=1)
    (plan.folder / "obs_20200101T0000Z").touch()

    def terminate(cycle: toy_plan.ToyCycle, name: str) -> None:
        if name == "assimilate":
            os.kill(os.getpid(), signal.SIGTERM)

    plan.before_stage = terminate
    monkeypatch.setattr(toy_plan, "load", lambda path, overrides: plan)
    before = signal.getsignal(signal.SIGTERM)
    state = run()
    assert state.name == "Stopped" and "20200101T0000Z/finish" in state.message
    assert plan.lines() == ["letkf 20200101T0000Z make_background", "letkf 20200101T0000Z assimilate"]
    assert signal.getsignal(signal.SIGTERM) is before
    plan.before_stage = lambda cycle, name: None
    assert run().name == "Completed"
    assert len(plan.lines()) == len(set(plan.lines())) == 2 * len(toy_plan.STAGES)


def test_the_schedule_is_anchored_whenever_the_service_starts(tmp_path: Path) -> None:
    from cycler_flows.serve import ANCHOR, look_deployment

    deployment = look_deployment(tmp_path / "e.yaml", timedelta(minutes=5), name="e")
    schedule = deployment.schedules[0].schedule
    assert (schedule.interval, schedule.anchor_date) == (timedelta(minutes=5), ANCHOR)
    assert datetime(2020, 1, 1, tzinfo=UTC) == ANCHOR
    assert deployment.entrypoint == "cycler_flows.watch.look"


def test_whatever_is_scheduled_loads_a_plan_that_does_not_close_the_experiment() -> None:
    from cycler_flows.deployments import deploy
    from cycler_flows.serve import look_deployment, serve
    from cycler_flows.watch import look

    assert pkgutil.resolve_name(SERVED_LOADER) is load_served_plan
    for scheduled in (look.fn, serve, look_deployment, deploy):
        assert inspect.signature(scheduled).parameters["loader"].default == SERVED_LOADER


def test_looking_too_often_is_refused(tmp_path: Path) -> None:
    from cycler_flows.serve import look_deployment

    with pytest.raises(ConfigError, match="at least 10 s"):
        look_deployment(tmp_path / "e.yaml", timedelta(seconds=1), name="e")


@pytest.mark.filterwarnings("ignore:Logger .* attempted to send logs:UserWarning")  # as if inside a run
def test_prefect_stays_off_the_terminal_except_for_warnings() -> None:
    from cycler_flows.session import quiet_terminal

    terminal = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(terminal)
    try:
        with quiet_terminal(), quiet_terminal():
            logging.getLogger("prefect.task_runs").error("traceback of an expected error")
            logging.getLogger("prefect.runner").warning("something to know")
            logging.getLogger("prefect.runner").info("chatter")
            logging.getLogger("httpx").info("POST 201")
        logging.getLogger("prefect.runner").warning("and loud again")
    finally:
        logging.getLogger().removeHandler(terminal)
    assert terminal.stream.getvalue().splitlines() == ["something to know", "and loud again"]
