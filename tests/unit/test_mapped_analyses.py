"""The tiles of an analysis on workers: the same bytes whoever moves them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.executor import LocalExecutorSpec, SerialExecutorSpec, ThreadsExecutorSpec, WorkersExecutor
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.ensemble.mapper import Mapper, one_by_one
from cycler_da.schemes.letkf import LetkfSpec

sys.path.insert(0, str(Path(__file__).parent))  # workers inherit it and find the toy by name
import toy_tiles

TIMES = np.array(["2020-01-01T00:00:00"], dtype="datetime64[s]")
LAYOUT = Layout(
    "toy",
    (Variable("q", "1", "q"), Variable("r", "1", "r")),
    Grid((Axis("y", 24, periodic=True), Axis("x", 64, periodic=True))),
    np.timedelta64(3600, "s"),
)


def analyse(mapper: Mapper) -> bytes:
    """A cycle on 24 x 64 points, three tiles of 8 rows."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((10, 1, *LAYOUT.state_shape), generator=generator)
    where = Locations(24 * torch.rand((90, 2), generator=generator).double().floor(), torch.arange(90) % 2)
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=where,
        values=torch.randn(90, generator=generator).double(),
        error=torch.full((90,), 0.3, dtype=torch.float64),
        times=np.repeat(TIMES, 90),
        ids=np.arange(90).astype(str),
        flags=torch.zeros(90, dtype=torch.int32),
    )
    scheme = LetkfSpec(localization_radius_cells=3.0).build(SchemeContext(LAYOUT))
    prior = Prior(Ensemble(values, TIMES, tuple(range(10)), LAYOUT), mapper=mapper)
    with torch.inference_mode():  # as in a cycle
        analysis = scheme.analyse(prior, Observations((batch,), LAYOUT), noise=Noise(1), carry={})
    return analysis.ensemble.values.numpy().tobytes()


@pytest.fixture(scope="module")
def two_workers() -> Iterator[WorkersExecutor]:
    with LocalExecutorSpec(workers=2, memory_limit="0").build() as executor:
        yield executor


@pytest.fixture(scope="module")
def reference() -> bytes:
    return analyse(SerialExecutorSpec().build().map)


def test_without_an_executor_the_bytes_are_those_of_the_serial_one(reference):
    assert analyse(one_by_one) == reference


def test_two_threads_give_the_bytes_of_the_serial_executor(reference):
    with ThreadsExecutorSpec(workers=2).build() as threads:
        assert analyse(threads.map) == reference


def test_two_workers_give_the_bytes_of_the_serial_executor(two_workers, reference):
    assert analyse(two_workers.map) == reference


def test_the_tile_of_a_killed_worker_is_moved_again_with_the_same_bytes(two_workers, reference, tmp_path, caplog):
    fatal = partial(toy_tiles.kill_the_first_worker_of_the_second_tile, str(tmp_path))
    assert analyse(lambda _, jobs: two_workers.map(fatal, jobs)) == reference
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"killed", "again"}
    assert "event=workers_lost count=1 redone=yes" in caplog.text


def test_jobs_are_made_as_they_are_done_in_one_process():
    made = []

    def jobs():
        for i in range(3):
            made.append(i)
            yield i

    results = SerialExecutorSpec().build().map(str, jobs())
    assert next(results) == "0" and made == [0]
    assert list(results) == ["1", "2"]
