"""The group /calibration of a file: what is written comes back, and nothing known is said to be nothing known."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from cycler_da.products.calibration import GroupCalibration, append_calibration, read_calibration

NAN = float("nan")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with netCDF4.Dataset(tmp_path / "file.nc", "w") as file:
        file.createDimension("x", 2)
        file.createVariable("x", "f8", ("x",))[:] = [1.0, 2.0]
    return tmp_path / "file.nc"


def _group(name: str, thresholds: tuple[float, ...] = ()) -> GroupCalibration:
    return GroupCalibration(
        name, "K", 30, 3, ((0.5, 0.4, 0.6), (0.8, 0.7, 0.9), (NAN, NAN, NAN)), (10.0, 9.5, 10.5), (0.2, 0.1, 0.3),
        (1.1, 0.9, 1.3), thresholds, tuple(((1.0, 2.0, 3.0), (0.0, 1.0, 3.0)) for _ in thresholds),
    )  # fmt: skip


def test_what_is_written_comes_back(path: Path) -> None:
    append_calibration(path, [_group("a/x", (0.0,)), _group("b/y", (1.0, 2.0))], window="two cycles", sample="all")
    read = read_calibration(path)
    assert read["group"].tolist() == ["a/x", "b/y"]
    assert read["level"].tolist() == [0.5, 0.8, 0.9]
    np.testing.assert_array_equal(read["coverage"], [[0.5, 0.8, NAN]] * 2)
    np.testing.assert_array_equal(read["coverage_interval"][0], [[0.4, 0.6], [0.7, 0.9], [NAN, NAN]])
    np.testing.assert_array_equal(read["rank_histogram"][1], [10.0, 9.5, 10.5])
    np.testing.assert_array_equal(read["event_threshold"], [[0.0, NAN], [1.0, 2.0]])
    np.testing.assert_array_equal(read["reliability_events"][1, 1], [0.0, 1.0, 3.0])
    assert (read["n_observations"].tolist(), read["n_cycles"].tolist()) == ([30, 30], [3, 3])
    with netCDF4.Dataset(path) as file:
        assert file["x"][:].tolist() == [1.0, 2.0]
        assert file["calibration"].window == "two cycles"


def test_without_any_cycle_the_group_is_there_and_says_so(path: Path) -> None:
    append_calibration(path, [], window="no cycle yet", sample="all")
    read = read_calibration(path)
    assert set(read) == {"level", "group"} and len(read["group"]) == 0


def test_a_file_without_the_group_has_no_calibration(path: Path) -> None:
    assert read_calibration(path) == {}
