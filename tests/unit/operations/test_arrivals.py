"""Cut-offs, late files and final passes, with a clock that is moved by hand."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import netCDF4
import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.bench.operations.soak_case import CHAIN, STREAMS
from cycler_da.cli import app
from cycler_da.cold_starts import add_cold_start, read_cold_starts
from cycler_da.cycle import STAGES
from cycler_da.cycle_plan import run_plan
from cycler_da.errors import AnalysisFailed, ConfigError, MissingInput
from cycler_da.operations import serving
from cycler_da.operations.serving import look
from cycler_da.operations.status import experiment_status
from cycler_da.products.failure import read_failure

HOUR = np.timedelta64(3600, "s")
NEVER = Event()


def facts(case, time):
    return case.store.manifest(time)["facts"]


def arrays(case, time):
    return case.store.manifest(time)["arrays"]


def test_a_cycle_never_runs_before_its_valid_time_even_when_its_files_are_there(case, open_case):
    time = case.times[1]
    for stream in STREAMS:
        case.deliver(stream, time)
    experiment, clock = open_case(time - np.timedelta64(1, "s"))
    assert experiment.ready(CHAIN) == [case.times[0]]
    clock.time = time
    assert experiment.ready(CHAIN) == [case.times[0], time]


def test_a_missing_file_is_waited_for_until_the_cut_off_and_no_longer(case, open_case):
    case.deliver("buoys", case.times[1])
    experiment, clock = open_case(case.times[1])
    assert look(experiment, stop=NEVER).cycles == 1  # the start alone
    clock.time = case.times[1] + HOUR - np.timedelta64(1, "s")
    assert experiment.ready(CHAIN) == []
    assert experiment.agenda.next_waiting(case.store) == case.times[1]
    clock.time = case.times[1] + HOUR
    assert look(experiment, stop=NEVER).exit_code == 3
    assert "stream drifters is missing" in facts(case, case.times[1])["degraded"][0]


def test_a_folder_that_disappears_under_a_service_is_missing_files_and_no_end(full_case, open_case):
    time = full_case.times[1]
    experiment, clock = open_case(full_case.times[0], is_served=True)
    look(experiment, stop=NEVER)
    incoming = Path(experiment.setting.streams[0].folder)
    incoming.rename(incoming.with_name("elsewhere"))
    clock.time = time
    assert look(experiment, stop=NEVER).exit_code == 0  # it waits
    assert experiment_status(experiment.agenda)["chains"][CHAIN]["waiting"]["streams"] == list(STREAMS)
    restarted, _ = open_case(time + HOUR, is_served=True)
    assert look(restarted, stop=NEVER).cycles == 1
    reasons = "; ".join(facts(full_case, time)["degraded"])
    assert "stream buoys is missing" in reasons and "stream drifters is missing" in reasons
    with pytest.raises(MissingInput, match="does not exist"):
        open_case(time + HOUR)  # by hand it is taken for a wrong path


def test_a_required_file_that_is_missing_at_the_cut_off_ends_the_look_with_one_clear_line(case, open_case):
    case.deliver("buoys", case.times[1])
    experiment, _ = open_case(case.times[1] + HOUR, "observations.drifters.required=true")
    ended = look(experiment, stop=NEVER)
    assert ended.exit_code == MissingInput.exit_code
    assert "drifters_20200101T0600Z.nc" in ended.text and "\n" not in ended.text
    case.deliver("drifters", case.times[1])
    assert look(experiment, stop=NEVER).exit_code == 0


def test_the_final_pass_takes_late_files_in_as_a_revision_and_the_next_cycle_follows_it(case, open_case):
    first, second = case.times[1:3]
    case.deliver("buoys", first)
    experiment, clock = open_case(first + HOUR)
    look(experiment, stop=NEVER)
    early = arrays(case, first)
    case.deliver("drifters", first)
    assert experiment.ready(CHAIN) == []  # it is early still
    for stream in STREAMS:
        case.deliver(stream, second)
    clock.time = second
    look(experiment, stop=NEVER)
    early_second = arrays(case, second)

    clock.time = first + 12 * HOUR
    assert look(experiment, stop=NEVER).cycles == 1
    assert arrays(case, first) != early
    assert facts(case, first)["delivery"] == "final" and facts(case, first)["degraded"] == []
    assert [folder.name for folder in case.store.revisions(first)] == ["20200101T0600Z.r001"]
    assert case.store.verify() == []  # the second cycle follows an early pass that was replaced: that is meant

    clock.time = second + 12 * HOUR
    look(experiment, stop=NEVER)
    assert arrays(case, second) != early_second  # made again from the final first cycle
    link = case.store.manifest(second)["inputs"]["previous_manifest"]["sha256"]
    assert link == case.store.link_to(first).manifest_sha256
    assert case.store.verify() == []


def test_the_final_pass_is_the_cycle_that_would_have_been_made_with_all_files_in_time(case, open_case, made, tmp_path):
    time = case.times[1]
    experiment, clock = open_case(time + HOUR)
    look(experiment, stop=NEVER)
    for stream in STREAMS:
        case.deliver(stream, time)
    clock.time = time + 12 * HOUR
    look(experiment, stop=NEVER)
    late = arrays(case, time)

    other, _ = open_case(time + 12 * HOUR, f"root={tmp_path}/other")
    look(other, stop=NEVER)
    assert other.store(CHAIN).manifest(time)["arrays"] == late


def test_a_cycle_to_which_nothing_came_late_is_declared_final_and_not_made_again(case, open_case):
    time = case.times[1]
    for stream in STREAMS:
        case.deliver(stream, time)
    experiment, clock = open_case(time)
    look(experiment, stop=NEVER)
    assert facts(case, time)["delivery"] == "early"
    before = case.store.link_to(time)
    clock.time = time + 12 * HOUR
    look(experiment, stop=NEVER)
    assert case.store.link_to(time) == before
    assert case.store.revisions(time) == []
    case.deliver("buoys", time, case.pooled("buoys", case.times[2]).read_bytes())
    assert time not in experiment.ready(CHAIN)  # after the final pass nothing is taken in


def test_a_cycle_that_another_process_replaces_just_now_is_left_to_that_process(case, open_case, monkeypatch):
    experiment, clock = open_case(case.times[1])
    look(experiment, stop=NEVER)
    clock.time = case.times[1] + 100 * HOUR
    seen = case.store.complete_cycles()
    marker = case.store.cycle_folder(case.times[0]) / "_SUCCESS"
    marker.unlink()  # as between the two renames of a revision
    monkeypatch.setattr(type(case.store), "complete_cycles", lambda self: seen)
    finals = experiment.agenda.arrivals.due_finals(case.store, previous={case.times[0]: None})
    assert finals == []
    assert not case.store.is_declared_final(case.times[0])


def test_after_an_outage_the_final_passes_of_a_chain_are_made_in_one_look(case, open_case):
    for time in case.times[1:3]:
        case.deliver("buoys", time)
    experiment, clock = open_case(case.times[2] + HOUR)
    look(experiment, stop=NEVER)
    case.deliver("drifters", case.times[1])
    clock.time = case.times[2] + 12 * HOUR
    done = experiment.ready(CHAIN)
    assert done[:2] == [*case.times[1:3]]
    look(experiment, stop=NEVER)
    assert [facts(case, time)["delivery"] for time in case.times[1:3]] == ["final", "final"]


def test_a_final_pass_that_fails_does_not_hold_up_new_cycles_and_stays_noted_until_it_is_made(
    case, open_case, monkeypatch
):
    first, second, third = case.times[1:4]
    for time in (first, second):
        case.deliver("buoys", time)
    experiment, clock = open_case(second + HOUR)
    look(experiment, stop=NEVER)
    for time in (first, second, third):
        for stream in STREAMS:
            case.deliver(stream, time)
    clock.time = second + 12 * HOUR
    with monkeypatch.context() as patch:
        fail_at(patch, first)
        assert look(experiment, stop=NEVER).exit_code == 70
    assert case.store.is_complete(third)
    assert [facts(case, time)["delivery"] for time in (first, second)] == ["early", "early"]
    assert read_failure(case.store.chain_folder)["cycle"] == "20200101T0600Z"
    look(experiment, stop=NEVER)
    assert [facts(case, time)["delivery"] for time in (first, second)] == ["final", "final"]
    assert read_failure(case.store.chain_folder) is None
    assert case.store.verify() == []


def test_what_is_made_behind_a_failed_final_pass_is_early_however_late_and_is_made_again(case, open_case, monkeypatch):
    first, second, third = case.times[1:4]
    case.deliver("buoys", first)
    experiment, clock = open_case(first + HOUR)
    look(experiment, stop=NEVER)
    for time in (first, second, third):
        for stream in STREAMS:
            case.deliver(stream, time)
    clock.time = third + 13 * HOUR  # an outage: first passes come when the final ones are due
    with monkeypatch.context() as patch:
        fail_at(patch, first)
        assert look(experiment, stop=NEVER).exit_code == 70
    assert [facts(case, time)["delivery"] for time in (second, third)] == ["early", "early"]
    look(experiment, stop=NEVER)
    assert [facts(case, time)["delivery"] for time in (first, second, third)] == ["final"] * 3
    for time, before in ((second, first), (third, second)):
        link = case.store.manifest(time)["inputs"]["previous_manifest"]["sha256"]
        assert link == case.store.link_to(before).manifest_sha256
    assert case.store.verify() == []


def test_a_cycle_behind_one_that_is_not_final_is_not_declared_final(case, open_case):
    first, second = case.times[1:3]
    experiment, clock = open_case(case.times[0])
    for time in (first, second):
        for stream in STREAMS:
            case.deliver(stream, time)
        clock.time = time
        look(experiment, stop=NEVER)
    clock.time = second + 12 * HOUR
    arrivals, before = experiment.agenda.arrivals, {second: first}  # a period that begins with the second
    assert arrivals.due_finals(case.store, previous=before) == []
    assert not case.store.is_declared_final(second)
    assert arrivals.due_finals(case.store, previous={case.times[0]: None, first: case.times[0], **before}) == []
    assert case.store.is_declared_final(second)


def test_a_failed_final_pass_is_forgotten_when_its_early_pass_is_declared_final(case, open_case, monkeypatch):
    time = case.times[1]
    case.deliver("buoys", time)
    experiment, clock = open_case(time + HOUR)
    look(experiment, stop=NEVER)
    case.deliver("drifters", time)
    clock.time = time + 12 * HOUR
    with monkeypatch.context() as patch:
        fail_at(patch, time)
        look(experiment, stop=NEVER)
    assert read_failure(case.store.chain_folder)["cycle"] == "20200101T0600Z"
    case.delivered("drifters", time).unlink()  # what led to the failure is taken away
    look(experiment, stop=NEVER)
    assert case.store.is_declared_final(time)
    assert read_failure(case.store.chain_folder) is None


def test_a_backfill_does_not_forget_that_the_service_failed(case, open_case, cold_ensemble, monkeypatch):
    from cycler_da.agenda import Period

    begin, failed = case.times[2:4]
    cold_ensemble(case, begin)
    experiment, _ = open_case(failed + HOUR)
    add_cold_start(experiment.folder, begin, valid_times=experiment.setting.valid_times)
    with monkeypatch.context() as patch:
        fail_at(patch, failed)
        look(experiment, stop=NEVER)
        backfill, _ = open_case(failed + HOUR, period=Period(case.times[0], case.times[1]))
        run_plan(backfill)
    assert read_failure(case.store.chain_folder)["cycle"] == "20200101T1800Z"
    look(experiment, stop=NEVER)
    assert read_failure(case.store.chain_folder) is None


def fail_at(patch, time):
    """Let the analysis of one cycle fail."""
    analyse = STAGES["assimilate"]

    def assimilate(work):
        if work.time == time:
            raise AnalysisFailed("the ensemble has no spread")
        return analyse(work)

    patch.setitem(STAGES, "assimilate", assimilate)


def test_a_file_that_is_damaged_by_the_final_pass_does_not_undo_the_early_one(case, open_case):
    time = case.times[1]
    case.deliver("buoys", time)
    experiment, clock = open_case(time + HOUR)
    look(experiment, stop=NEVER)
    used = case.store.manifest(time)["inputs"]["observations"]["buoys"]
    case.deliver("buoys", time, b"not NetCDF")
    case.deliver("drifters", time)
    clock.time = time + 12 * HOUR
    assert look(experiment, stop=NEVER).exit_code == 3
    observations = case.store.manifest(time)["inputs"]["observations"]
    assert observations["buoys"] == used and set(observations) == set(STREAMS)
    assert "the copy of the early pass is used" in facts(case, time)["degraded"][0]


def test_products_say_that_they_are_early(case, open_case):
    time = case.times[1]
    for stream in STREAMS:
        case.deliver(stream, time)
    experiment, _ = open_case(time)
    look(experiment, stop=NEVER)
    with netCDF4.Dataset(case.store.cycle_folder(time) / "analysis.nc") as file:
        assert file.cycler_delivery == "early"


def test_a_stream_whose_final_pass_comes_before_its_cut_off_is_refused(case, open_case):
    with pytest.raises(ConfigError, match=r"observations.buoys.final: got 10min, earlier than the cut-off of 1h"):
        open_case(case.times[0], "observations.buoys.final=10min")


def test_a_cut_off_that_is_no_duration_is_refused_with_its_key(case, open_case):
    with pytest.raises(ConfigError, match=r"observations.0.cutoff: .*duration 'soon' is not understood"):
        open_case(case.times[0], "observations.buoys.cutoff=soon")


def test_cut_offs_are_no_part_of_the_digest_of_a_config(case, open_case):
    one, _ = open_case(case.times[0])
    other, _ = open_case(case.times[0], "observations.buoys.cutoff=2h", "operations.max_age=3h")
    assert one.setting.config.digest == other.setting.config.digest


def test_a_cold_start_begins_anew_and_does_not_catch_up_and_says_so(case, open_case, cold_ensemble):
    time = case.times[2]
    cold_ensemble(case, time)
    experiment, _ = open_case(time + HOUR)
    add_cold_start(experiment.folder, time, valid_times=experiment.setting.valid_times)
    assert experiment.ready(CHAIN) == [time]
    assert look(experiment, stop=NEVER).exit_code == 3
    assert "cold start" in facts(case, time)["degraded"][0]
    assert case.store.manifest(time)["inputs"]["previous_manifest"] is None
    with netCDF4.Dataset(case.store.cycle_folder(time) / "analysis.nc") as file:
        assert "COLD START" in file.title
    assert case.store.verify() == []


def test_a_cold_start_holds_for_later_commands_without_the_switch_and_is_written_down_once(case, open_case):
    time = case.times[2]
    experiment, _ = open_case(time)
    for _ in range(2):
        add_cold_start(experiment.folder, time, valid_times=experiment.setting.valid_times)
    assert json.loads((experiment.folder / "cold_starts.json").read_text()) == ["2020-01-01T12:00:00Z"]
    again, _ = open_case(time)
    assert again.ready(CHAIN) == [time]


def test_a_cold_start_at_a_time_without_a_cycle_names_the_nearest_one(case, open_case):
    experiment, _ = open_case(case.times[0])
    with pytest.raises(ConfigError, match="nearest is 2020-01-01T06:00:00Z"):
        add_cold_start(experiment.folder, case.times[1] + HOUR, valid_times=experiment.setting.valid_times)


def test_a_cold_start_at_a_cycle_that_is_complete_is_refused_with_the_first_time_that_can_be_taken(
    case, open_case, monkeypatch
):
    monkeypatch.setattr(serving, "serve_plainly", lambda *plan, **how: 0)
    experiment, _ = open_case(case.times[1] + HOUR)
    look(experiment, stop=NEVER)
    command = ["serve", str(case.config), "--orchestrator", "none", "--clock", f"file:{case.clock}", "--cold-start"]
    refused = CliRunner().invoke(app, [*command, "2020-01-01T00:00Z"])
    assert refused.exit_code == 78
    assert "chain letkf has made the cycle of 2020-01-01T00:00:00Z" in " ".join(refused.output.split())
    assert "2020-01-01T12:00:00Z" in refused.output  # the first that is not made
    assert read_cold_starts(experiment.folder) == []


def test_a_service_that_is_started_again_with_its_cold_start_made_goes_on(case, open_case, cold_ensemble, monkeypatch):
    monkeypatch.setattr(serving, "serve_plainly", lambda *plan, **how: 0)
    time = case.times[2]
    cold_ensemble(case, time)
    command = ["serve", str(case.config), "--orchestrator", "none", "--clock", f"file:{case.clock}", "--cold-start"]
    assert CliRunner().invoke(app, [*command, "2020-01-01T12:00Z"]).exit_code == 0
    experiment, _ = open_case(time + HOUR)
    look(experiment, stop=NEVER)
    assert case.store.is_complete(time)
    assert CliRunner().invoke(app, [*command, "2020-01-01T12:00Z"]).exit_code == 0


def test_a_backfill_makes_the_cycles_of_its_period_that_lie_before_a_cold_start(case, open_case, cold_ensemble):
    from cycler_da.agenda import Period

    cold_ensemble(case, case.times[2])
    experiment, clock = open_case(case.times[2])
    add_cold_start(experiment.folder, case.times[2], valid_times=experiment.setting.valid_times)
    look(experiment, stop=NEVER)
    backfill, _ = open_case(case.times[2], period=Period(case.times[0], case.times[1]))
    assert backfill.pending(CHAIN) == [*case.times[:2]]
    run_plan(backfill)
    assert case.store.complete_cycles() == [*case.times[:3]]
    assert clock.now() == case.times[2]


def test_a_period_without_cycles_is_refused(case, open_case):
    from cycler_da.agenda import Period

    with pytest.raises(ConfigError, match="no cycle is valid in this period"):
        open_case(case.times[0], period=Period(case.times[-1] + HOUR, None))
