"""`cycler data convert`: an event as a nature run that the project and others read."""

from __future__ import annotations

import h5py
import netCDF4
import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.systems.sevir_codec import decode


@pytest.fixture
def event(tmp_path):
    codes = np.random.default_rng(0).integers(0, 255, (1, 128, 128, 5)).astype(np.uint8)
    codes[0, :3, :3] = 255
    path = tmp_path / "event.h5"
    with h5py.File(path, "w") as file:
        file["vil"] = codes
    return path, codes[0].transpose(2, 0, 1)


def convert(*arguments: object):
    return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)])


def test_an_event_is_written_as_vil_with_missing_pixels_as_missing(event, tmp_path):
    path, codes = event
    done = convert(path, tmp_path / "event.nc", "--step", "10min")
    assert done.exit_code == 0 and "3 frames" in done.stdout, done.output
    with netCDF4.Dataset(tmp_path / "event.nc") as file:
        vil = file["vil"]
        assert vil.units == "kg m-2" and file["crs"].georeference == "assumed"
        assert bool(vil[:].mask[:, :3, :3].all()) and int(vil[:].mask.sum()) == 27
        np.testing.assert_array_equal(vil[:].filled(np.nan), decode(codes[::2]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file, codes: file.create_dataset("vil", data=codes.astype(np.float32)), "float32"),
        (lambda file, codes: file.create_dataset("VIL", data=codes), "no dataset 'vil'"),
        (lambda file, codes: file.create_dataset("vil", data=codes.transpose(0, 3, 1, 2)), "shape"),
        (lambda file, codes: file.create_dataset("vil", data=np.full_like(codes, 255)), "every pixel"),
    ],
    ids=["float", "wrong name", "transposed", "all missing"],
)
def test_a_file_that_is_not_sevir_is_refused_in_words_and_nothing_is_written(tmp_path, make, said):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        make(file, np.zeros((1, 128, 128, 5), dtype=np.uint8))
    done = convert(tmp_path / "bad.h5", tmp_path / "bad.nc")
    assert done.exit_code == 65 and said in done.output, done.output
    assert not (tmp_path / "bad.nc").exists()


def test_a_truncated_file_is_refused_in_words(event, tmp_path):
    path, _ = event
    path.write_bytes(path.read_bytes()[:-100_000])
    done = convert(path, tmp_path / "event.nc")
    assert done.exit_code == 65 and "cannot be read as HDF5" in done.output
