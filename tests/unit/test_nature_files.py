"""Frames of a nature file are tried, block after block, in another process before they are read here."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da import apart, nature
from cycler_da.errors import DataError, MissingInput
from cycler_da.nature import NatureFileSpec
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_frames
from cycler_da.systems.lorenz96 import Lorenz96Spec

LAYOUT = Lorenz96Spec().layout()
TIMES = np.datetime64("2020-01-01T00:00:00", "s") + LAYOUT.step * np.arange(7)
BYTES = 8 * LAYOUT.state_shape[0] * LAYOUT.state_shape[1]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven frames, of which three are tried at once."""
    monkeypatch.setattr(nature, "BLOCK", 3 * BYTES)
    made = tmp_path / "nature.nc"
    frames = (torch.full(LAYOUT.state_shape, float(k)) for k in range(len(TIMES)))
    write_frames(made, LAYOUT, TIMES, frames, facts=FileFacts("nature", TIMES[0]))
    return made


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[list[int] | None]:
    """The blocks of frames that were tried; None is the head."""
    seen, require = [], nature.require_harmless

    def note(path, *, argument=None, **how) -> None:
        seen.append(argument)
        require(path, argument=argument, **how)

    monkeypatch.setattr(nature, "require_harmless", note)
    return seen


def test_every_block_is_tried_once_and_values_are_those_of_the_file(path: Path, tried) -> None:
    opened = NatureFileSpec(path=str(path)).build()
    assert opened.states(TIMES[[1]])[0, 0, 0] == 1.0 and tried == [None, [0, 3]]
    assert opened.states(TIMES[[2, 6]])[:, 0, 0].tolist() == [2.0, 6.0] and tried == [None, [0, 3], [6, 9]]
    opened.states(TIMES)
    assert tried == [None, [0, 3], [6, 9], [3, 6]]


def test_a_time_that_is_not_there_is_told_as_ever(path: Path) -> None:
    with pytest.raises(MissingInput, match="2021"):
        NatureFileSpec(path=str(path)).build().states(np.array([np.datetime64("2021-01-01")]))


def test_frames_that_end_their_reader_are_an_error_and_the_others_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, call = NatureFileSpec(path=str(path)).build(), apart.call

    def read(reader, path, argument):
        return os.abort() if argument == [3, 6] else call(reader, path, argument)

    monkeypatch.setattr(apart, "call", read)
    code = f"sys.stdin.read() == '[3, 6]' and os.kill(os.getpid(), {int(signal.SIGSEGV)}); print('ended {{}}')"
    code = f"import os, sys; print('started', flush=True); {code}"
    monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", code))
    for _ in range(2):  # with every restart, and in the same process
        with pytest.raises(DataError, match=rf"nature file {path} ends the process that reads it \(SIGSEGV\)"):
            opened.states(TIMES[[4]])
    assert opened.states(TIMES[[0, 6]])[:, 0, 0].tolist() == [0.0, 6.0]
