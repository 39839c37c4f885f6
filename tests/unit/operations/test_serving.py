"""The serving loop, clocks and priority, without waiting."""

from __future__ import annotations

import threading
from threading import Event

import numpy as np
import pytest

from cycler_da import experiment as experiment_module
from cycler_da.bench.operations.soak_case import STREAMS
from cycler_da.clock import FileClock, HandClock, ReplayClock, WallClock, make_clock
from cycler_da.errors import ConfigError, MissingProduct
from cycler_da.experiment import Experiment, load_served_plan
from cycler_da.operations.serving import look, serve_plainly
from cycler_da.priority import first_priority, give_way
from cycler_da.products.failure import clear_failure, read_failure
from cycler_da.products.store import Store
from cycler_da.setting import load_setting
from cycler_da.times import parse_time

START = parse_time("2020-01-01T00:00Z")


def test_catching_up_goes_oldest_first_and_as_far_as_the_clock(case, open_case):
    for stream in STREAMS:
        for time in case.times[1:]:
            case.deliver(stream, time)
    experiment, _ = open_case(case.times[3])
    seen = []
    look(experiment, stop=Event(), on_event=lambda e: seen.append(e.time) if e.kind == "cycle_finished" else None)
    assert seen == [*case.times[:4]]


def test_a_request_to_stop_ends_the_service_between_two_stages_and_the_next_one_goes_on_there(case, open_case):
    experiment, _ = open_case(case.times[0])
    stop, ended = Event(), []

    def ask(event):
        if event.kind == "stage_finished" and event.stage == "assimilate":
            stop.set()

    assert serve_plainly(experiment, every=0.01, stop=stop, on_event=ask, after_look=ended.append) == 1
    assert ended[0].exit_code == 75 and case.store.latest() is None
    assert case.store.stage_facts(case.times[0], "assimilate")["n_members"] == 3
    assert case.store.lock_holder(case.times[0]) is None  # drained: the lock is given back
    look(experiment, stop=Event())
    assert case.store.latest() == case.times[0]


def test_a_look_that_cannot_be_prepared_is_a_failure_of_its_chains_until_it_can(full_case, open_case):
    experiment, _ = open_case(full_case.times[0])
    look(experiment, stop=Event())
    with pytest.raises(ConfigError, match="another config"):
        load_served_plan(str(full_case.config), ["chains.letkf.scheme.inflation=1.3"])
    failure = read_failure(full_case.store.chain_folder)
    assert (failure["stage"], failure["exit_code"]) == ("prepare", ConfigError.exit_code)
    assert "another config" in failure["cause"]
    load_served_plan(str(full_case.config)).close()
    assert read_failure(full_case.store.chain_folder) is None


def test_a_disk_that_fails_while_a_look_is_prepared_is_a_failure_of_its_chains(full_case, open_case, monkeypatch):
    experiment, _ = open_case(full_case.times[0])
    look(experiment, stop=Event())

    def fail(*args, **named):
        raise OSError(5, "input/output error")

    monkeypatch.setattr("cycler_da.experiment.open_or_make_nature", fail)
    with pytest.raises(OSError, match="input/output"):
        load_served_plan(str(full_case.config))
    failure = read_failure(full_case.store.chain_folder)
    assert (failure["stage"], failure["exit_code"], failure["cause"]) == ("prepare", 75, "[Errno 5] input/output error")


def test_what_goes_wrong_before_the_first_stage_is_a_failure_of_the_chain(full_case, open_case, monkeypatch):
    experiment, _ = open_case(full_case.times[1])
    whole = Store.is_complete

    def refuse(store, time):
        if time == full_case.times[1] and store.lock_holder(time) is not None:
            raise MissingProduct("its manifest cannot be read")
        return whole(store, time)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "is_complete", refuse)
        assert look(experiment, stop=Event()).exit_code == MissingProduct.exit_code
    failure = read_failure(full_case.store.chain_folder)
    assert (failure["stage"], failure["cycle"], failure["is_final_pass"]) == ("open", "20200101T0600Z", False)
    look(experiment, stop=Event())
    assert read_failure(full_case.store.chain_folder) is None
    assert full_case.store.latest() == full_case.times[1]


def test_a_final_pass_that_cannot_be_opened_stays_a_failure_when_later_cycles_are_made(
    full_case, open_case, monkeypatch
):
    experiment, _ = open_case(full_case.times[1])
    look(experiment, stop=Event())

    def refuse(*args):
        raise MissingProduct("its manifest cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "_opened", refuse)
        with pytest.raises(MissingProduct), experiment.open_cycle("letkf", full_case.times[1]):
            pass
    clear_failure(full_case.store.chain_folder, done=full_case.times[2])
    assert read_failure(full_case.store.chain_folder)["is_final_pass"]
    clear_failure(full_case.store.chain_folder, done=full_case.times[1])
    assert read_failure(full_case.store.chain_folder) is None


def test_a_look_that_fails_does_not_end_the_service(case, open_case):
    case.deliver("buoys", case.times[1])
    experiment, _ = open_case(case.times[2], "observations.drifters.required=true")
    stop, ended = Event(), []

    def after(done):
        ended.append(done)
        if len(ended) == 1:
            case.deliver("drifters", case.times[1])
        if len(ended) == 2:
            stop.set()

    serve_plainly(experiment, every=0.01, stop=stop, after_look=after)
    assert ended[0].exit_code == 69
    assert case.store.latest() == case.times[1]


def test_what_a_scheduled_look_loads_does_not_close_the_experiment(full_case):
    with load_served_plan(str(full_case.config)) as plan:
        assert plan.finish_experiment()["table"] == []
    assert not (full_case.store.experiment_folder / "scores.md").exists()


def test_a_service_starts_where_cycles_years_ahead_would_not_fit(case, monkeypatch):
    wanted = []
    monkeypatch.setattr(experiment_module, "require_space", lambda path, n_bytes: wanted.append(n_bytes))
    for clock, how in ((HandClock(case.times[1]), {"is_served": True}), (HandClock(case.times[1]), {})):
        Experiment(load_setting(case.config), clock=clock, **how).prepare()
    served, run = wanted
    assert 0 < served == run * 2 / len(case.times)  # two cycles are due; a plain run makes all of them


def test_a_service_that_catches_up_asks_for_space_for_some_cycles_only(case, monkeypatch):
    wanted = []
    monkeypatch.setattr(experiment_module, "require_space", lambda path, n_bytes: wanted.append(n_bytes))
    monkeypatch.setattr(experiment_module, "SERVED_AHEAD", 3)
    for how in ({"is_served": True}, {}):
        Experiment(load_setting(case.config), clock=HandClock(case.times[-1]), **how).prepare()
    served, run = wanted
    assert 0 < served == run * 3 / len(case.times)


def test_a_backfill_waits_while_the_service_runs_cycles_and_no_longer(tmp_path):
    waits = []
    assert give_way(tmp_path) == 0
    with first_priority(tmp_path):
        holder = threading.Event()

        def sleep(seconds):
            waits.append(seconds)
            if len(waits) == 3:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            give_way(tmp_path, sleep=sleep)
        assert not holder.is_set()
    assert len(waits) == 3
    assert give_way(tmp_path) == 0


def test_a_replay_lets_data_time_pass_at_its_speed():
    passed = [0.0]
    clock = ReplayClock(START, 60.0, seconds=lambda: passed[0], began=0.0)
    assert clock.now() == START
    passed[0] = 30.5
    assert clock.now() == START + np.timedelta64(1830, "s")


def test_a_clock_file_never_goes_back_and_survives_damage(tmp_path):
    path = tmp_path / "clock"
    path.write_text("2020-01-01T06:00Z\n")
    clock = FileClock(path)
    path.write_text("2020-01-01T03:00Z\n")
    assert clock.now() == parse_time("2020-01-01T06:00Z")
    path.write_text("not a time")
    assert clock.now() == parse_time("2020-01-01T06:00Z")
    path.write_text("2020-01-01T07:00Z")
    assert clock.now() == parse_time("2020-01-01T07:00Z")


def test_the_clock_on_the_wall_is_utc_now():
    before = np.datetime64("now", "s")
    assert before <= WallClock().now() <= np.datetime64("now", "s")


@pytest.mark.parametrize("text", ["", "wal", "replay:", "replay:-1", "replay:x", "file:", "file:/does/not/exist"])
def test_a_clock_that_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigError, match="clock"):
        make_clock(text, start=START)
