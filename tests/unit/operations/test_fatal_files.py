"""An observation file that ends the process that reads it costs its stream, once, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import sys
from threading import Event

import pytest

from cycler_da import apart
from cycler_da.bench.operations.soak_case import CHAIN, STREAMS
from cycler_da.errors import DataError, ObsFileError
from cycler_da.nature import read_frames
from cycler_da.operations.monitor import Monitor
from cycler_da.operations.serving import look
from cycler_da.plots.page import write_page

MARK = b"FATAL"
stream, other = STREAMS


@pytest.fixture
def fatal_files(monkeypatch):
    """Files that end with the mark end the process that reads them, here too, were they read here."""
    call, end = apart.call, signal.SIGSEGV

    def read(reader, path, argument):
        if path.read_bytes().endswith(MARK):
            os.kill(os.getpid(), end)
        return call(reader, path, argument)

    code = f"open(sys.argv[3], 'rb').read().endswith({MARK!r}) and os.kill(os.getpid(), {int(end)})"
    monkeypatch.setattr(apart, "call", read)
    monkeypatch.setattr(
        apart,
        "COMMAND",
        (sys.executable, "-c", f"import os, sys; print('started', flush=True); {code}; print('ended {{}}')"),
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


def test_a_nature_file_that_ends_its_reader_stops_a_cycle_with_one_line_until_it_is_whole_again(
    case, open_case, monkeypatch
):
    before, time = case.times[:2]
    experiment, _ = open_case(before)
    assert look(experiment, stop=Event()).exit_code == 0
    for name in STREAMS:
        case.deliver(name, time)
    with monkeypatch.context() as patch:
        call, kill = apart.call, f"os.kill(os.getpid(), {int(signal.SIGSEGV)})"
        patch.setattr(apart, "call", lambda reader, *how: os.abort() if reader is read_frames else call(reader, *how))
        code = f"'read_frames' in sys.argv[2] and {kill}; print('ended {{}}')"
        code = f"import os, sys; print('started', flush=True); {code}"
        patch.setattr(apart, "COMMAND", (sys.executable, "-c", code))
        experiment, _ = open_case(time)
        assert look(experiment, stop=Event()).exit_code == DataError.exit_code
        failure = json.loads((experiment.folder / CHAIN / "failure.json").read_text())
        assert failure["cause"].startswith(f"nature file {case.folder / 'nature.nc'} ends the process that reads it")
    assert case.store.latest() == before
    experiment, _ = open_case(time)
    assert look(experiment, stop=Event()).exit_code == 0
    assert case.store.latest() == time and case.store.verify() == []
