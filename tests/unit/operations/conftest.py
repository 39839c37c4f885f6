"""A small served experiment, made once; every test gets a copy of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml

from cycler_da.bench.operations.soak_case import STREAMS, SoakCase, describe, make_case
from cycler_da.clock import HandClock
from cycler_da.experiment import Experiment
from cycler_da.setting import load_setting

CYCLES = 4


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> SoakCase:
    return make_case(tmp_path_factory.mktemp("case"), cycles=CYCLES, members=3)


@pytest.fixture
def case(made: SoakCase, tmp_path: Path) -> SoakCase:
    shutil.copytree(made.folder, tmp_path / "case")
    case = SoakCase(tmp_path / "case", CYCLES, members=3)
    case.config.write_text(yaml.safe_dump(describe(case)))
    return case


@pytest.fixture
def open_case(case: SoakCase) -> Callable[..., tuple[Experiment, HandClock]]:
    """Open the experiment at a data time, with `--set` values."""

    def open_at(time: np.datetime64, *overrides: str, **how: object) -> tuple[Experiment, HandClock]:
        clock = HandClock(time)
        experiment = Experiment(load_setting(case.config, overrides), clock=clock, **how)
        experiment.prepare()
        return experiment, clock

    return open_at


@pytest.fixture
def full_case(case: SoakCase) -> SoakCase:
    """The case with every file delivered."""
    for stream in STREAMS:
        for time in case.times[1:]:
            case.deliver(stream, time)
    return case


@pytest.fixture(scope="session")
def cold_ensemble() -> Callable[[SoakCase, np.datetime64], None]:
    """Writes a start ensemble for a cold start: that of the start, valid later."""

    def write(case: SoakCase, time: np.datetime64) -> None:
        source = case.folder / "start_20200101T0000Z.nc"
        target = case.folder / f"start_{np.datetime_as_string(time, 's').replace('-', '').replace(':', '')[:13]}Z.nc"
        target.write_bytes(source.read_bytes())
        with netCDF4.Dataset(target, "a") as file:
            file["time"][:] = file["time"][:] + (time - case.times[0]) / np.timedelta64(1, "s")

    return write
