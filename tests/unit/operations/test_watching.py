"""`cycler watch`: the monitor beside cycles that something else runs."""

from __future__ import annotations

import json
import os
import signal
import threading
import time as clock
from threading import Event

import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.bench.operations.soak_case import CHAIN, STREAMS
from cycler_da.cli.main import app
from cycler_da.operations.monitor import Monitor
from cycler_da.operations.serving import look
from cycler_da.operations.signs import give_sign_of_life
from cycler_da.operations.watching import Watched, only_watcher, watch

HOUR = np.timedelta64(3600, "s")


def run(*arguments: str):
    return CliRunner().invoke(app, ["watch", *arguments])


def stop_when(condition) -> None:
    """Send this process SIGTERM, as systemd does, when something has come about."""

    def wait() -> None:
        deadline = clock.monotonic() + 60
        while not condition() and clock.monotonic() < deadline:
            clock.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def alerts_in(folder) -> list[str]:
    return [f"{a['kind']}: {a['cause']}" for a in json.loads((folder / "status.json").read_text())["alerts"]]


def test_the_command_watches_what_another_process_runs_until_sigterm(full_case, open_case):
    experiment, _ = open_case(full_case.times[2])
    look(experiment, stop=Event())
    assert not (experiment.folder / "status.json").exists()
    stop_when((experiment.folder / "status.json").exists)
    result = run(str(full_case.config), "--every", "10s", "--http", "127.0.0.1:0")
    assert result.exit_code == 0, result.output
    status = json.loads((experiment.folder / "status.json").read_text())
    assert status["chains"][CHAIN]["n_complete"] == 3
    (text,) = alerts_in(experiment.folder)
    assert text.startswith("stale: data are ")  # they are of 2020, by the clock of today
    assert text.endswith("cycles that are due and that no run has made: 2, the first of 2020-01-01T18:00:00Z")
    lines = [json.loads(line) for line in (experiment.folder / "logs" / "watch.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if "watching" in line.get("event", "")] == ["watching", "watching_ended"]
    assert experiment.store(CHAIN).latest() == full_case.times[2]  # no cycle was run, though more are due


def test_a_chain_that_never_begins_is_an_alert(case, open_case):
    experiment, data_time = open_case(case.times[0])
    monitor = Monitor(lambda: experiment.agenda, silence_limit=60.0)
    monitor.refresh()
    assert alerts_in(experiment.folder) == []
    data_time.time = case.times[0] + 19 * HOUR
    monitor.refresh()
    (text,) = alerts_in(experiment.folder)
    assert text.startswith("stale: no cycle is complete; the first is due since 2020-01-01T00:00")
    look(experiment, stop=Event())
    monitor.refresh()
    assert not any("no cycle is complete" in text for text in alerts_in(experiment.folder))


def test_an_alert_of_no_observations_says_which_files_were_missing(case, open_case):
    experiment, _ = open_case(case.times[1] + HOUR)  # the cut-off: none has come
    assert look(experiment, stop=Event()).exit_code == 4
    Monitor(lambda: experiment.agenda, silence_limit=60.0).refresh()
    (text,) = alerts_in(experiment.folder)
    assert text.startswith("no_observations: ")
    assert all(f"stream {stream} is missing: no file {stream}_20200101T0600Z.nc" in text for stream in STREAMS)


def test_looks_elsewhere_are_signs_of_life_and_watching_alone_is_none(case, open_case):
    experiment, _ = open_case(case.times[0])
    monitor, stop = Monitor(lambda: experiment.agenda, silence_limit=0.3), Event()
    thread = threading.Thread(target=watch, args=(monitor,), kwargs={"every": 0.05, "stop": stop})
    thread.start()
    try:
        clock.sleep(0.5)
        assert monitor.answers()["/healthz"]()[0] == 503
        give_sign_of_life(experiment.folder)
        deadline = clock.monotonic() + 20
        while monitor.answers()["/healthz"]()[0] != 200:
            assert clock.monotonic() < deadline
    finally:
        stop.set()
        thread.join()


def test_a_second_watcher_is_refused_and_told_who_watches(case):
    folder = case.store.experiment_folder
    with only_watcher(folder):
        result = run(str(case.config))
        assert result.exit_code == 75
        assert f"is watched already, by process {os.getpid()}" in result.output
        with pytest.raises(Watched), only_watcher(folder):
            pass
    with only_watcher(folder):
        pass


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("CONFIG", "--every", "0min"), 78, "expected a duration > 0"),
        (("CONFIG", "--every", "soon"), 78, "soon"),
        (("CONFIG", "--http", "nowhere"), 78, "give HOST:PORT of a free port"),
        (("CONFIG", "--set", "root=/nowhere/at/all"), 69, "root /nowhere/at/all does not exist"),
        (("/nowhere.yaml",), 78, "/nowhere.yaml"),
        ((), 64, "CONFIG"),
    ],
)
def test_what_cannot_be_watched_is_said_in_one_line(case, arguments, code, said):
    case.store.experiment_folder.mkdir(parents=True, exist_ok=True)
    result = run(*[str(case.config) if word == "CONFIG" else word for word in arguments])
    assert result.exit_code == code, result.output
    assert said in result.output and "Traceback" not in result.output
