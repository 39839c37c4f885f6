"""Fields with cells that nobody saw: the gap is missing in the file, never a number."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import torch
import xarray

from cycler_da.errors import DataError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import open_nature, write_field, write_observed_field

TIMES = np.array(["2020-01-01T00:00"], "datetime64[s]")
FACTS = FileFacts("truth", TIMES[0])
LAYOUT = Layout(
    "toy", (Variable("vil", "kg m-2", "toy"),), Grid((Axis("y", 4), Axis("x", 5))), np.timedelta64(600, "s")
)


def field(*, gaps: bool) -> torch.Tensor:
    values = torch.arange(20, dtype=torch.float32).reshape(1, 1, 4, 5)
    if gaps:
        values[..., 1:3] = torch.nan
    return values


def test_a_gap_is_missing_for_every_reader_and_the_rest_is_exact(tmp_path):
    write_observed_field(tmp_path / "truth.nc", field(gaps=True), TIMES, LAYOUT, facts=FACTS)
    expected = field(gaps=True)[0].numpy()
    with netCDF4.Dataset(tmp_path / "truth.nc") as file:
        np.testing.assert_array_equal(np.ma.filled(file["vil"][:], np.nan), expected)
        np.testing.assert_array_equal(file["vil"].actual_range, [0.0, 19.0])
    with xarray.open_dataset(tmp_path / "truth.nc") as dataset:
        np.testing.assert_array_equal(dataset["vil"].values, expected)


def test_a_field_that_nobody_saw_at_all_can_be_written(tmp_path):
    write_observed_field(tmp_path / "truth.nc", torch.full((1, 1, 4, 5), torch.nan), TIMES, LAYOUT, facts=FACTS)
    with netCDF4.Dataset(tmp_path / "truth.nc") as file:
        assert np.ma.getmaskarray(file["vil"][:]).all()


def test_without_gaps_the_file_is_the_usual_one(tmp_path):
    write_observed_field(tmp_path / "observed.nc", field(gaps=False), TIMES, LAYOUT, facts=FACTS)
    write_field(tmp_path / "usual.nc", field(gaps=False), TIMES, LAYOUT, facts=FACTS)
    with netCDF4.Dataset(tmp_path / "observed.nc") as ours, netCDF4.Dataset(tmp_path / "usual.nc") as theirs:
        np.testing.assert_array_equal(ours["vil"][:], theirs["vil"][:])
        assert ours["vil"].ncattrs() == theirs["vil"].ncattrs()


def test_an_infinite_value_is_no_gap(tmp_path):
    broken = field(gaps=True)
    broken[0, 0, 0, 0] = torch.inf
    with pytest.raises(DataError, match="not finite"):
        write_observed_field(tmp_path / "truth.nc", broken, TIMES, LAYOUT, facts=FACTS)


def test_a_nature_file_has_its_gaps_as_not_a_number_and_nothing_else(tmp_path):
    write_observed_field(tmp_path / "nature.nc", field(gaps=True), TIMES, LAYOUT, facts=FileFacts("nature", TIMES[0]))
    states = open_nature(tmp_path / "nature.nc").states(TIMES)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, field(gaps=True), equal_nan=True, rtol=0, atol=0)
    with netCDF4.Dataset(tmp_path / "nature.nc", "a") as file:
        file["vil"].set_auto_mask(False)
        file["vil"][0, 0, 0] = np.nan
    with pytest.raises(DataError, match="1 of 20 values missing, not finite"):
        open_nature(tmp_path / "nature.nc").states(TIMES)


def test_a_fill_value_in_a_field_without_gaps_is_refused(tmp_path):
    write_field(tmp_path / "nature.nc", field(gaps=False), TIMES, LAYOUT, facts=FileFacts("nature", TIMES[0]))
    with netCDF4.Dataset(tmp_path / "nature.nc", "a") as file:
        file["vil"].set_auto_mask(False)
        file["vil"][0, 0, 0] = netCDF4.default_fillvals["f4"]
    with pytest.raises(DataError, match="1 of 20 values missing"):
        open_nature(tmp_path / "nature.nc").states(TIMES)
