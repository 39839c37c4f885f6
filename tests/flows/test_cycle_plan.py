"""The loop over cycles, without Prefect: order, resume, retries, failures."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_plan

from cycler_da.cycle_plan import (
    CycleEvent,
    ExperimentPlan,
    PlainShell,
    ServedPlan,
    StoppedOnRequest,
    is_temporary,
    run_plan,
)
from cycler_da.errors import CannotWrite, DataError, LockedCycle, LostLock


class Busy(DataError):
    exit_code = 75


def fail_at(place: str, error: Exception, *, times: int) -> Callable[[toy_plan.ToyCycle, str], None]:
    left = [times]

    def before_stage(cycle: toy_plan.ToyCycle, name: str) -> None:
        if f"{cycle.chain} {cycle.folder.name} {name}" == place and left[0] > 0:
            left[0] -= 1
            raise error

    return before_stage


PLACE = "letkf 20200102T0000Z assimilate"


def test_cycles_run_oldest_first_and_stages_in_order(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path, n_cycles=2)
    facts = run_plan(plan)
    assert plan.lines() == [
        f"{chain} {stamp} {stage}"
        for stamp in ("20200101T0000Z", "20200102T0000Z")
        for chain in ("letkf", "free_run")
        for stage in toy_plan.STAGES
    ]
    assert facts["cycles"] == 4 and facts["exit_code"] == 0 and plan.finished == 1


def test_the_toy_plan_is_a_plan() -> None:
    assert isinstance(toy_plan.ToyPlan(Path()), ExperimentPlan | ServedPlan)


def test_a_second_run_does_nothing_again(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path)
    run_plan(plan)
    before = plan.lines()
    assert run_plan(plan)["cycles"] == 0
    assert plan.lines() == before


def test_a_failed_chain_stops_and_the_others_go_on(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path, before_stage=fail_at(PLACE, DataError("damaged"), times=1))
    with pytest.raises(DataError, match="damaged"):
        run_plan(plan)
    stamps = {chain: [time.astype(str) for time in plan.pending(chain)] for chain in plan.chains}
    assert stamps == {"letkf": ["2020-01-02T00:00:00", "2020-01-03T00:00:00"], "free_run": []}
    assert plan.finished == 1


@pytest.mark.parametrize(
    ("finals", "left"),
    [
        (("20200102T0000Z",), ["2020-01-02T00:00:00"]),
        (("20200102T0000Z", "20200103T0000Z"), ["2020-01-02T00:00:00", "2020-01-03T00:00:00"]),
    ],
)
def test_a_failed_final_pass_holds_up_later_final_passes_and_nothing_else(
    tmp_path: Path, finals: tuple[str, ...], left: list[str]
) -> None:
    plan = toy_plan.ToyPlan(tmp_path, finals=finals, before_stage=fail_at(PLACE, DataError("damaged"), times=1))
    with pytest.raises(DataError, match="damaged"):
        run_plan(plan)
    assert [time.astype(str) for time in plan.pending("letkf")] == left


def test_a_cycle_that_fails_after_a_failed_final_pass_is_the_error_and_names_the_other(tmp_path: Path) -> None:
    errors = {"20200102T0000Z": DataError("late file"), "20200103T0000Z": DataError("no workers")}

    def fail(cycle: toy_plan.ToyCycle, name: str) -> None:
        if cycle.chain == "letkf" and cycle.folder.name in errors:
            raise errors[cycle.folder.name]

    plan = toy_plan.ToyPlan(tmp_path, finals=("20200102T0000Z",), before_stage=fail)
    with pytest.raises(DataError, match="no workers") as raised:
        run_plan(plan)
    assert raised.value.__notes__ == ["the final pass of an earlier cycle failed too: late file"]


def test_a_run_after_a_failure_continues_at_the_failed_stage(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path, before_stage=fail_at(PLACE, DataError("damaged"), times=1))
    with pytest.raises(DataError):
        run_plan(plan)
    run_plan(plan)
    assert len(plan.lines()) == len(set(plan.lines())) == 2 * 3 * len(toy_plan.STAGES)


def test_a_bug_in_one_chain_holds_up_no_other_one_and_is_raised_at_the_end(tmp_path: Path, caplog) -> None:
    events: list[CycleEvent] = []
    plan = toy_plan.ToyPlan(tmp_path, before_stage=fail_at(PLACE, ZeroDivisionError("by zero"), times=1))
    with pytest.raises(ZeroDivisionError):
        run_plan(plan, on_event=events.append)
    assert (len(plan.pending("letkf")), plan.pending("free_run")) == (2, [])
    assert [event.facts["exit_code"] for event in events if event.kind == "cycle_failed"] == [70]
    assert any(record.exc_info for record in caplog.records)  # with its traceback, when it happened


def test_a_bug_is_the_error_of_a_run_though_a_chain_has_failed_before_it(tmp_path: Path) -> None:
    errors = {"letkf": DataError("damaged"), "free_run": ZeroDivisionError("by zero")}

    def fail(cycle: toy_plan.ToyCycle, name: str) -> None:
        raise errors[cycle.chain]

    with pytest.raises(ZeroDivisionError) as raised:
        run_plan(toy_plan.ToyPlan(tmp_path, before_stage=fail))
    assert raised.value.__notes__ == ["chain letkf failed too: damaged"]


def test_what_is_temporary_is_tried_again(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path, before_stage=fail_at(PLACE, Busy("busy"), times=2))
    events: list[CycleEvent] = []
    assert run_plan(plan, shell=PlainShell((0.0, 0.0)), on_event=events.append)["cycles"] == 6
    assert [event.kind for event in events].count("stage_retried") == 2


def test_bad_data_is_not_tried_again(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path, before_stage=fail_at(PLACE, DataError("bad"), times=1))
    with pytest.raises(DataError):
        run_plan(plan, shell=PlainShell((0.0, 0.0)))


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (Busy("x"), True),
        (OSError(errno.EAGAIN, "x"), True),
        (OSError(errno.ESTALE, "x"), True),
        (ConnectionResetError(errno.ECONNRESET, "x"), True),
        (OSError(errno.ENOSPC, "x"), False),
        (FileNotFoundError(errno.ENOENT, "x"), False),
        (PermissionError(errno.EACCES, "x"), False),
        (CannotWrite("x"), False),
        (LockedCycle("x"), False),
        (LostLock("x"), False),
        (StoppedOnRequest("x"), False),
        (ValueError("x"), False),
    ],
)
def test_temporary_errors_are_those_that_pass(error: BaseException, temporary: bool) -> None:
    assert is_temporary(error) is temporary


def test_a_stop_request_takes_effect_between_two_stages(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path)
    with pytest.raises(StoppedOnRequest, match="before toy_default/letkf/20200101T0000Z/finish") as stop:
        run_plan(plan, stop_requested=lambda: len(plan.lines()) == 2)
    assert stop.value.exit_code == 75
    assert run_plan(plan)["cycles"] == 6
    assert len(plan.lines()) == len(set(plan.lines()))


def test_the_worst_cycle_gives_the_exit_code(tmp_path: Path) -> None:
    plan = toy_plan.ToyPlan(tmp_path, reports={"20200102T0000Z": {"exit_code": 4}})
    assert run_plan(plan)["exit_code"] == 4
