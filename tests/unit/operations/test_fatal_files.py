"""An observation file that ends the process that reads it costs its stream, once, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import sys
from threading import Event

import pytest

from cycler_da import trial_read
from cycler_da.bench.operations.soak_case import CHAIN, STREAMS
from cycler_da.errors import ObsFileError
from cycler_da.operations.monitor import Monitor
from cycler_da.operations.serving import look
from cycler_da.plots.page import write_page

MARK = b"FATAL"
stream, other = STREAMS


@pytest.fixture
def fatal_files(monkeypatch):
    """Files that end with the mark end the process that reads them, here too, were they read here."""
    ways, end = dict(trial_read.WAYS), signal.SIGSEGV

    def read(path):
        if path.read_bytes().endswith(MARK):
            os.kill(os.getpid(), end)
        ways["bytes"](path)

    code = f"open(sys.argv[2], 'rb').read().endswith({MARK!r}) and os.kill(os.getpid(), {int(end)})"
    monkeypatch.setattr(trial_read, "WAYS", {**ways, "bytes": read})
    monkeypatch.setattr(
        trial_read, "COMMAND", (sys.executable, "-c", f"import os, sys; print('started', flush=True); {code}")
    )


def test_a_file_that_ends_its_reader_is_set_aside_and_named_everywhere(case, open_case, fatal_files, caplog):
    time = case.times[1]
    case.deliver(other, time)
    case.deliver(stream, time, case.pooled(stream, time).read_bytes() + MARK)
    experiment, _ = open_case(time)
    done = look(experiment, stop=Event())
    store = experiment.store(CHAIN)
    assert done.exit_code == 3 and store.latest() == time  # the cycle is published, and this process lives
    summary = json.loads((store.cycle_folder(time) / "diag" / "summary.json").read_text())
    (reason,) = summary["degraded"]
    assert reason.startswith(f"stream {stream} is missing: observation file {case.delivered(stream, time)} ")
    assert "ends the process that reads it (SIGSEGV)" in reason
    assert not (store.cycle_folder(time) / "obs" / f"in.{stream}.nc").exists()
    assert list(store.manifest(time)["inputs"]["observations"]) == [other]
    assert any("SIGSEGV" in record.getMessage() and record.levelname == "WARNING" for record in caplog.records)
    Monitor(lambda: experiment.agenda, silence_limit=60.0).refresh()
    alerts = json.loads((experiment.folder / "status.json").read_text())["alerts"]
    assert [a["kind"] for a in alerts if str(case.delivered(stream, time)) in a["cause"]] == ["degraded"]
    write_page(experiment.folder)
    assert "SIGSEGV" in (experiment.folder / "index.html").read_text()
    assert store.verify() == []


def test_a_required_file_that_ends_its_reader_stops_the_chain_with_one_line(case, open_case, fatal_files):
    time = case.times[1]
    case.deliver(other, time)
    case.deliver(stream, time, case.pooled(stream, time).read_bytes() + MARK)
    experiment, _ = open_case(time, f"observations.{stream}.required=true")
    done = look(experiment, stop=Event())
    assert done.exit_code == ObsFileError.exit_code
    assert experiment.store(CHAIN).latest() == case.times[0]


def test_a_whole_file_with_more_bytes_behind_it_is_used(case, open_case):
    """The mark alone does no harm: what the tests above see is the death of the reader."""
    time = case.times[1]
    for name in STREAMS:
        case.deliver(name, time, case.pooled(name, time).read_bytes() + MARK)
    experiment, _ = open_case(time)
    assert look(experiment, stop=Event()).exit_code == 0
    assert sorted(experiment.store(CHAIN).manifest(time)["inputs"]["observations"]) == sorted(STREAMS)
