"""A file that ends, or keeps, the process that reads it is found by a process of its own; all others are left alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time as clock
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from cycler_da import apart, trial_read
from cycler_da.apart import Reader
from cycler_da.errors import DataError, MissingInput, ObsFileError
from cycler_da.nature import NatureFileSpec, SimulatedNatureSpec
from cycler_da.plots.archive import _attributes
from cycler_da.products.covariance_file import read_background_error
from cycler_da.single import SingleAnalysis, analyse_files
from cycler_da.systems.radar_netcdf import read_frames
from cycler_da.systems.radar_pairs import read_sequence, source_files
from cycler_da.systems.sevir import SevirNatureSpec
from cycler_da.trial_read import (
    fatal_ends,
    read_attributes,
    read_bytes,
    read_file,
    read_head,
    require_harmless,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.nc"
    with netCDF4.Dataset(path, "w") as made:
        made.createDimension("x", 4)
        made.createGroup("inner").createVariable("q", "f8", ("x",))[:] = np.arange(4.0)
    return path


def die(number: int):
    return lambda path: os.kill(os.getpid(), number)


READERS = (read_bytes, read_file, read_head, read_attributes)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Replace how files are read: in the fork, and what the fresh interpreter runs after its start."""

    def put(in_fork, fresh: str) -> None:
        monkeypatch.setattr(apart, "call", lambda reader, path, argument: in_fork(path))
        code = f"import os, sys, signal, time; print('started', flush=True); {fresh}; print('ended {{}}')"
        monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", code))

    return put


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_file_passes_and_no_fresh_interpreter_is_started(
    file: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "COMMAND", ("/nowhere",))
    assert fatal_ends([file, file], reader) == {}
    require_harmless(file, what="file", reader=reader)


def test_every_variable_of_every_group_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(trial_read, "_read_attributes", lambda holder: seen.append(holder.name))
    read_bytes(file)
    assert seen == ["/", "inner", "q"]


@pytest.mark.parametrize("how", ["absent", "cut", "a folder", "no NetCDF"])
def test_what_merely_cannot_be_read_is_left_to_the_one_that_reads(file: Path, how: str) -> None:
    if how == "cut":
        file.write_bytes(file.read_bytes()[:300])
    elif how == "no NetCDF":
        file.write_text("station,value\n")
    else:
        file.unlink()
        if how == "a folder":
            file.mkdir()
    assert all(fatal_ends([file], reader) == {} for reader in READERS)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_file_that_ends_its_reader_is_named_with_the_signal(file: Path, broken, number: signal.Signals) -> None:
    broken(die(number), f"os.kill(os.getpid(), {int(number)})")
    assert number.name in fatal_ends([file], read_bytes)[file]
    with pytest.raises(DataError, match=rf"B file {file} ends the process that reads it \({number.name}\).*send it"):
        require_harmless(file, what="B file")


def test_a_reader_that_never_ends_is_ended(file: Path, broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_read, "FORK_SECONDS", 0.1)
    broken(lambda path: clock.sleep(60), "signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(60)")
    assert fatal_ends([file], read_bytes)[file].startswith("keeps the process that reads it for ever")


def test_a_fork_that_hangs_for_reasons_of_its_own_costs_no_file(file: Path, broken) -> None:
    broken(die(signal.SIGSEGV), "pass")
    assert fatal_ends([file], read_bytes) == {}


def test_one_file_of_many_is_found(file: Path, broken) -> None:
    other = file.with_name("other.nc")
    broken(lambda path: path == other and os.abort(), "sys.argv[3].endswith('other.nc') and os.abort()")
    assert list(fatal_ends([file, other, file], read_bytes)) == [other]


def test_a_reader_that_cannot_start_condemns_no_file(file: Path, broken, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(die(signal.SIGSEGV), "pass")
    monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", "import nothing_of_this_name"))
    with pytest.raises(OSError, match=r"cannot be tried.*nothing_of_this_name"):
        fatal_ends([file], read_bytes)


def test_a_signal_to_all_processes_of_a_run_condemns_no_file(file: Path, broken) -> None:
    broken(die(signal.SIGTERM), "os.abort()")  # a stop that was sent to the whole group; it is ignored
    assert fatal_ends([file], read_bytes) == {}


def test_a_trial_works_beside_other_threads_and_says_nothing(file: Path, broken, capfd) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert fatal_ends([file], read_bytes) == {}
    stop.set()
    thread.join()
    broken(lambda path: os.write(2, b"noise") and os.abort(), "os.abort()")
    assert fatal_ends([file], read_bytes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "read",
    [
        lambda path: NatureFileSpec(path=str(path)).build(),
        lambda path: SimulatedNatureSpec(path=str(path), seed=1, start="2020-01-01", steps=1).build(),
        lambda path: SevirNatureSpec(path=str(path)).build(),
        lambda path: SevirNatureSpec(path=str(path), catalog="CATALOG.csv").layout(),
        read_background_error,
        lambda path: read_frames(path, "vil"),
        read_sequence,
        lambda path: source_files(path.parent),
        lambda path: analyse_files(SingleAnalysis(path, path, path.with_name("out.nc"))),
    ],
    ids=[
        "nature",
        "nature run",
        "radar event",
        "its place",
        "B",
        "radar sequence",
        "sequence of a training",
        "folder of a training",
        "assimilate",
    ],
)
def test_other_files_from_outside_are_tried_too(file: Path, broken, read) -> None:
    broken(die(signal.SIGSEGV), "os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises((DataError, MissingInput, ObsFileError), match="SIGSEGV"):
        read(file)


def test_the_page_does_without_what_a_damaged_file_says(file: Path, broken, caplog) -> None:
    with netCDF4.Dataset(file, "a") as made:
        made.cycler_scheme = "letkf"
    assert _attributes(file) == {"scheme": "letkf"}
    broken(die(signal.SIGSEGV), "os.abort()")
    assert _attributes(file) == {}
    assert "ends the process that reads it (SIGABRT)" in caplog.text
