"""Ensembles of a cycle under way are read once, and again when their file is another one."""

from __future__ import annotations

from collections import Counter
from threading import Event

import pytest
import torch

from cycler_da.cycle import work as cycle_work
from cycler_da.operations.serving import look
from cycler_da.products.dataset import write_ensemble


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """How often each file of a work folder was read."""
    found: Counter[str] = Counter()
    read = cycle_work.read_ensemble

    def counted(path, **named):
        found[path.name] += path.parent.parent.name == "work"
        return read(path, **named)

    monkeypatch.setattr(cycle_work, "read_ensemble", counted)
    return found


def test_a_cycle_reads_its_background_and_its_analysis_once(full_case, open_case, reads):
    experiment, _ = open_case(full_case.times[2])
    look(experiment, stop=Event())
    assert (reads["background.nc"], reads["analysis.nc"]) == (2, 3)  # once in each cycle; the start has no background


def test_a_file_that_was_exchanged_is_read_again(full_case, open_case, reads):
    experiment, clock = open_case(full_case.times[1])
    look(experiment, stop=Event())
    clock.time = full_case.times[2]
    with experiment.open_cycle("letkf", full_case.times[2]) as opened:
        opened.run_stage("background")
        before = opened.work.background()
        assert opened.work.background() is before
        path = opened.work.folder / "background.nc"
        path.unlink()
        write_ensemble(path, before.with_values(before.values + 1.0), facts=opened.work.facts("background"))
        torch.testing.assert_close(opened.work.background().values, before.values + 1.0)
