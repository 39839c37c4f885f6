"""Forecasts are retired: the link of a chain leads to the one that holds; status and alert say when none does."""

from __future__ import annotations

import json
from threading import Event

import numpy as np

from cycler_da.operations.current_forecast import forecast_facts, newest_forecast, retire_forecasts
from cycler_da.operations.monitor import Monitor
from cycler_da.operations.serving import look
from cycler_da.times import iso_time

HOUR = np.timedelta64(3600, "s")
FORECASTS = "forecasts={lead: 12h}"


def served(case, open_case, number):
    """The experiment after a look at the time of a cycle, and its clock."""
    experiment, clock = open_case(case.times[number], FORECASTS)
    assert look(experiment, stop=Event()).exit_code == 0
    return experiment, clock


def test_the_link_leads_to_the_newest_forecast_and_goes_when_it_has_expired(full_case, open_case):
    link = full_case.store.chain_folder / "forecast"
    served(full_case, open_case, 1)
    until = full_case.times[1] + 12 * HOUR
    retire_forecasts(full_case.store, full_case.times[1])
    assert link.resolve() == full_case.store.cycle_folder(full_case.times[1])
    assert (link / "forecast.nc").is_file()
    retire_forecasts(full_case.store, until)
    assert link.is_symlink()
    retire_forecasts(full_case.store, until + np.timedelta64(1, "s"))
    assert not link.is_symlink()
    served(full_case, open_case, 3)
    retire_forecasts(full_case.store, full_case.times[3])
    assert link.resolve() == full_case.store.cycle_folder(full_case.times[3])  # the one before is superseded


def test_a_chain_without_forecasts_has_no_link_and_no_facts(full_case, open_case):
    experiment, _ = open_case(full_case.times[1])
    look(experiment, stop=Event())
    retire_forecasts(full_case.store, full_case.times[1])
    assert newest_forecast(full_case.store) is None
    assert forecast_facts(full_case.store, full_case.times[1]) is None
    assert not (full_case.store.chain_folder / "forecast").is_symlink()


def test_a_service_tells_of_an_expired_forecast_in_status_readiness_metrics_and_alerts(full_case, open_case):
    experiment, clock = served(full_case, open_case, 1)
    clock.time = full_case.times[1] + 13 * HOUR
    monitor = Monitor(lambda: experiment.agenda, silence_limit=1e9)
    monitor.refresh()
    until = iso_time(full_case.times[1] + 12 * HOUR)
    status = json.loads((full_case.store.experiment_folder / "status.json").read_text())
    assert status["chains"]["letkf"]["forecast"] == {
        "cycle": iso_time(full_case.times[1]), "until": until, "seconds_left": -3600,
    }  # fmt: skip
    assert [one["cause"] for one in status["alerts"] if one["kind"] == "forecast_expired"] == [
        f"the newest forecast, of {iso_time(full_case.times[1])}, ended at {until}"
    ]
    code, _, text = monitor.answers()["/readyz"]()
    assert code == 503 and f"chain letkf: its forecast ended at {until}" in json.loads(text)["reasons"]
    assert 'cycler_forecast_seconds_left{chain="letkf"} -3600\n' in monitor.answers()["/metrics"]()[2]
    assert not (full_case.store.chain_folder / "forecast").is_symlink()
