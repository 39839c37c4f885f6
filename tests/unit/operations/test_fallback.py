"""The fallback ladder: every rung gives what it says, and every product says on which rung it stands."""

from __future__ import annotations

import gzip
import json
from threading import Event

import netCDF4
import pytest
import torch

from cycler_da.bench.operations.soak_case import CHAIN
from cycler_da.cold_starts import add_cold_start
from cycler_da.cycle.trailing_window import WINDOW
from cycler_da.errors import AnalysisFailed, ConfigError, MissingProduct
from cycler_da.executor import SerialExecutor
from cycler_da.executor.base import ExecutorFailed, SchedulerLost
from cycler_da.operations.serving import look
from cycler_da.products.dataset import read_ensemble
from cycler_da.schemes.enkf import Enkf

ENKF = "chains=[{name: letkf, scheme: {kind: enkf}}]"
LADDER = "on_failed_analysis=ladder"
OPTIONS = "fallback.letkf={localization_radius_cells: 4, inflation: 1.05}"


NO_SPREAD = AnalysisFailed("the ensemble has no spread")


def broken(monkeypatch, *, limit=0, error=NO_SPREAD):
    """Let the EnKF fail with more members than `limit`."""
    whole = Enkf.analyse

    def analyse(self, prior, observations, **how):
        if prior.background.n_members > limit:
            raise error
        return whole(self, prior, observations, **how)

    monkeypatch.setattr(Enkf, "analyse", analyse)


def broken_forecast(monkeypatch, error):
    def forecast(*args, **named):
        raise error

    monkeypatch.setattr(SerialExecutor, "forecast", forecast)


@pytest.fixture
def run(full_case, open_case):
    """Run up to a cycle; returns the look's end."""

    def run_to(number, *overrides):
        experiment, _ = open_case(full_case.times[number], ENKF, *overrides)
        return look(experiment, stop=Event())

    return run_to


def ensemble(case, number, name):
    return read_ensemble(case.store.cycle_folder(case.times[number]) / name)


def require_rung(case, number, rung, level):
    """The rung stands in summary, manifest, title and attribute, and its cause is told."""
    time = case.times[number]
    summary = json.loads((case.store.cycle_folder(time) / "diag" / "summary.json").read_text())
    assert summary["fallback"] == {"rung": rung, "level": level} and summary["exit_code"] == 3
    assert case.store.manifest(time)["facts"]["fallback"] == rung
    with netCDF4.Dataset(case.store.cycle_folder(time) / "analysis.nc") as file:
        assert file.cycler_fallback == rung and file.cycler_degraded
        assert "FALLBACK" in file.title or "FAILED" in file.title
        assert file.comment == "; ".join(summary["degraded"])
    return summary["degraded"]


def test_fewer_members_are_analysed_and_the_others_follow_their_mean(full_case, run, monkeypatch):
    broken(monkeypatch, limit=2)
    assert run(1, LADDER).exit_code == 3
    (reason,) = require_rung(full_case, 1, "fewer_members", 1)
    assert "the ensemble has no spread" in reason
    before, after = (ensemble(full_case, 1, name).latest for name in ("background.nc", "analysis.nc"))
    assert not torch.equal(before[:2], after[:2])
    increment = after[:2].mean(dim=0) - before[:2].mean(dim=0)
    torch.testing.assert_close(after[2], before[2] + increment, rtol=0, atol=4e-6)  # float32 of values up to 10


def test_the_letkf_that_stands_in_is_the_letkf(full_case, run, open_case, monkeypatch, tmp_path):
    broken(monkeypatch)
    assert run(1, LADDER, OPTIONS).exit_code == 3
    assert len(require_rung(full_case, 1, "letkf", 2)) == 2  # why the full scheme failed, and fewer members
    other, _ = open_case(full_case.times[1], f"root={tmp_path}/other")  # the chain of this config is a LETKF
    look(other, stop=Event())
    hashes = [store.manifest(full_case.times[1])["arrays"] for store in (full_case.store, other.store(CHAIN))]
    assert hashes[0]["analysis.nc"] == hashes[1]["analysis.nc"]


def test_a_bug_in_a_scheme_leads_down_the_ladder_and_keeps_its_traceback_in_the_log(
    full_case, run, monkeypatch, caplog
):
    broken(monkeypatch, error=ZeroDivisionError("division by zero"))
    run(1, LADDER, "fallback.rungs=[unguided]")
    (reason,) = require_rung(full_case, 1, "unguided", 3)
    assert reason.startswith("analysis failed, the background stands in: ZeroDivisionError")
    assert any(record.exc_info for record in caplog.records if "event=fallback" in record.message)
    hashes = full_case.store.manifest(full_case.times[1])["arrays"]
    assert hashes["analysis.nc"] == hashes["background.nc"]


def test_without_workers_the_background_is_persistence_and_observations_still_count(full_case, run, monkeypatch):
    run(0, LADDER)
    broken_forecast(monkeypatch, ExecutorFailed("workers died over the same batch"))
    assert run(1, LADDER).exit_code == 3
    (reason,) = require_rung(full_case, 1, "persistence", 5)
    assert "workers died over the same batch" in reason
    values = {name: ensemble(full_case, *name).latest for name in ((0, "analysis.nc"), (1, "background.nc"))}
    assert torch.equal(values[(0, "analysis.nc")], values[(1, "background.nc")])
    assert not torch.equal(ensemble(full_case, 1, "analysis.nc").latest, values[(1, "background.nc")])


def test_a_damaged_analysis_is_passed_over_for_the_last_good_one(full_case, run):
    run(1, LADDER)
    path = full_case.store.cycle_folder(full_case.times[1]) / "analysis.nc"
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    assert run(2, LADDER).exit_code == 3
    (reason,) = require_rung(full_case, 2, "last_good", 6)
    assert "is not what was published" in reason
    with netCDF4.Dataset(full_case.store.cycle_folder(full_case.times[2]) / "background.nc") as file:
        assert file["forecast_reference_time"][...] == full_case.times[0].astype(int)  # two cycles old


@pytest.mark.parametrize(("name", "rung"), [("MANIFEST.json", "last_good"), ("diag/window.json.gz", "full")])
def test_one_damaged_byte_of_the_cycle_before_does_not_stop_a_service(full_case, run, open_case, name, rung):
    run(2, LADDER)
    path = full_case.store.cycle_folder(full_case.times[2]) / name
    path.write_bytes(b"?" + path.read_bytes()[1:])
    experiment, _ = open_case(full_case.times[3], ENKF, LADDER, is_served=True)
    assert look(experiment, stop=Event()).exit_code == 3
    assert full_case.store.latest() == full_case.times[3]
    summary = json.loads((full_case.store.cycle_folder(full_case.times[3]) / "diag" / "summary.json").read_text())
    assert summary["fallback"]["rung"] == rung
    said = "the statistics of the cycle before cannot be used, those of 20200101T0600Z stand in"
    assert any(reason.startswith(said) and str(path) in reason for reason in summary["degraded"])
    window = json.loads(
        gzip.decompress((path.parents[name.count("/")].parent / "20200101T1800Z" / WINDOW).read_bytes())
    )
    assert [cycle["stamp"] for cycle in window["cycles"]] == ["20200101T0600Z", "20200101T1800Z"]


def test_without_the_ladder_damaged_statistics_stop_the_chain(full_case, run):
    run(1)
    path = full_case.store.cycle_folder(full_case.times[1]) / WINDOW
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert run(2).exit_code == MissingProduct.exit_code
    assert full_case.store.latest() == full_case.times[1]


def test_a_damaged_manifest_is_not_passed_over_to_before_a_cold_start(full_case, run, open_case, cold_ensemble):
    run(0, LADDER)
    time = full_case.times[1]
    cold_ensemble(full_case, time)
    experiment, _ = open_case(time, ENKF, LADDER)
    add_cold_start(experiment.folder, time, valid_times=experiment.setting.valid_times)
    run(1, LADDER)
    (full_case.store.cycle_folder(time) / "MANIFEST.json").write_text("?")
    assert run(2, LADDER).exit_code == MissingProduct.exit_code
    assert full_case.store.latest() == time


def test_the_last_good_analysis_is_never_one_from_before_a_cold_start(full_case, run, open_case, cold_ensemble):
    run(0, LADDER)
    time = full_case.times[1]
    cold_ensemble(full_case, time)
    experiment, _ = open_case(time, ENKF, LADDER)
    add_cold_start(experiment.folder, time, valid_times=experiment.setting.valid_times)
    assert run(1, LADDER).exit_code == 3
    path = full_case.store.cycle_folder(time) / "analysis.nc"
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    ended = run(2, LADDER)
    assert (ended.exit_code, full_case.store.latest()) == (MissingProduct.exit_code, time)
    assert "is not what was published" in ended.text


def test_what_another_try_may_cure_does_not_lead_down(full_case, run, monkeypatch):
    run(0, LADDER)
    broken_forecast(monkeypatch, SchedulerLost("no answer"))
    monkeypatch.setattr("cycler_da.cycle_plan.RETRY_DELAYS", ())
    monkeypatch.setattr("cycler_da.cycle_plan.clock.sleep", lambda seconds: None)
    assert run(1, LADDER).exit_code == 75
    assert full_case.store.latest() == full_case.times[0]


def test_without_a_ladder_a_failed_analysis_stops_the_chain(full_case, run, monkeypatch):
    broken(monkeypatch)
    assert run(1).exit_code == AnalysisFailed.exit_code
    assert full_case.store.latest() == full_case.times[0]


def test_when_no_rung_is_left_the_first_failure_is_told(full_case, run, monkeypatch):
    broken(monkeypatch)
    ended = run(1, LADDER, "fallback.rungs=[fewer_members]")
    assert (ended.exit_code, ended.text) == (AnalysisFailed.exit_code, "the ensemble has no spread")


def test_a_cycle_on_the_full_scheme_has_no_label(full_case, run):
    assert run(1, LADDER).exit_code == 0
    with netCDF4.Dataset(full_case.store.cycle_folder(full_case.times[1]) / "analysis.nc") as file:
        assert "cycler_fallback" not in file.ncattrs()
    assert full_case.store.manifest(full_case.times[1])["facts"]["fallback"] == "full"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("fallback.rungs=[letkff]", "fallback.rungs.0"),
        ("fallback.letkf={radius: 3}", "fallback.letkf"),
        ("on_failed_analysis=ladders", "on_failed_analysis"),
    ],
)
def test_a_ladder_that_cannot_be_built_is_refused_with_its_key(run, setting, said):
    with pytest.raises(ConfigError, match=said):
        run(0, LADDER, setting)
