"""A reader in a process of its own gives its answer, or how it ended, and outlives nobody who waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cycler_da.apart import Outcome, ask_fresh, survives_fork


def length(path: Path, factor: int) -> int:
    return factor * len(path.read_bytes())


def die(path: Path, number: int) -> None:
    os.kill(os.getpid(), number)


def wait(path: Path, seconds: float) -> None:
    time.sleep(seconds)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of 5 bytes; the fresh interpreter finds the readers of this module."""
    here = Path(__file__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")]))
    for reader in (length, die, wait):
        monkeypatch.setattr(reader, "__module__", here.stem)
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    return path


def test_a_fresh_interpreter_takes_an_argument_and_answers(file: Path) -> None:
    assert ask_fresh(length, file, 3, seconds=60.0) == Outcome(answer=15)


def test_what_a_reader_raises_is_told_and_is_no_end(file: Path) -> None:
    outcome = ask_fresh(length, file.with_name("absent"), 3, seconds=60.0)
    assert outcome.raised.startswith("FileNotFoundError") and not outcome.end
    assert survives_fork(length, [file.with_name("absent")], 3, seconds=60.0)


def test_a_reader_that_dies_is_named_with_its_signal(file: Path) -> None:
    assert "(SIGSEGV)" in ask_fresh(die, file, int(signal.SIGSEGV), seconds=60.0).end
    assert not survives_fork(die, [file], int(signal.SIGSEGV), seconds=60.0)


def test_a_reader_that_never_ends_is_ended_when_its_time_is_up(file: Path) -> None:
    assert ask_fresh(wait, file, 60, seconds=0.1).end.startswith(
        "keeps the process that reads it for ever (ended after 0.1 s"
    )
    assert not survives_fork(wait, [file], 60, seconds=0.1)


def test_the_fresh_interpreter_ends_itself_where_nobody_waits(file: Path) -> None:
    command = [sys.executable, "-m", "cycler_da.apart", "0.1", f"{wait.__module__}:wait", str(file)]
    done = subprocess.run(command, input="60", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGALRM, ["started"])
