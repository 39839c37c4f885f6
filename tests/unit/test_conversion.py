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


def sequence(
    path, *, units="dBZ", value=40.0, minutes=(0, 5, 10), size=128, dimensions=("time", "y", "x"), falls=False
):
    """A field of one value, an outage in its southern rows."""
    with netCDF4.Dataset(path, "w") as file:
        for name, n in zip(("time", "y", "x"), (len(minutes), size, size), strict=True):
            file.createDimension(name, n)
        file.createVariable("minute", "i2", ("time",))[:] = minutes
        file["minute"].units = "minutes since 2016-09-28 14:45:00"
        file.createVariable("y", "f8", ("y",))[:] = np.arange(size)[:: -1 if falls else 1]
        shape = tuple(len(file.dimensions[name]) for name in dimensions)
        values = np.full(shape, value)
        values[:, slice(-3, None) if falls else slice(0, 3)] = np.nan
        file.createVariable("field", "f4", dimensions)[:] = values
        file["field"].units = units
    return path


@pytest.mark.parametrize(
    ("units", "value", "expected"),
    [
        ("dBZ", 40.0, 3.44e-6 * (1e4) ** (4 / 7) * 5000.0),
        ("dBZ", 70.0, 3.44e-6 * (10**5.6) ** (4 / 7) * 5000.0),  # capped at 56 dBZ
        ("mm h-1", 10.0, 3.44e-6 * (300.0 * 10**1.4) ** (4 / 7) * 5000.0),
        ("mm h-1", 0.0, 0.0),
        ("kg m-2", 5.0, 5.0),
    ],
)
@pytest.mark.parametrize("falls", [False, True], ids=["south first", "north first"])
def test_other_radars_become_liquid_by_their_unit_with_the_south_first(tmp_path, units, value, expected, falls):
    path = sequence(tmp_path / "radar.nc", units=units, value=value, falls=falls)
    done = convert(path, tmp_path / "out.nc", "--variable", "field", "--lower-left", "39", "-97")
    assert done.exit_code == 0 and "3 frames" in done.stdout, done.output
    with netCDF4.Dataset(tmp_path / "out.nc") as file:
        vil = file["vil"][:]
        assert bool(vil.mask[:, :3].all()) and not vil.mask[:, 3:].any()
        np.testing.assert_allclose(vil[:, 3:], expected, rtol=0.013)  # half a step of the codes, exp(1 / 38.9)
        assert file["crs"].georeference == "config"


@pytest.mark.parametrize(
    ("made", "more", "said"),
    [
        ({"units": "K"}, (), "is in 'K', expected kg m-2"),
        ({"dimensions": ("y", "x", "time")}, (), "expected ('time', 'y', 'x')"),
        ({"size": 100}, (), "(3 km)"),
        ({"minutes": (0, 5, 15)}, (), "no frame at 2016-09-28T14:55:00Z"),
        ({"minutes": (0, 5, 5)}, (), "do not increase"),
        ({"value": np.nan}, (), "is missing"),
        ({}, ("--variable", "vil"), "no variable 'vil'; it has field, minute, y"),
        ({}, ("--size", "384"), "has 128 x 128 pixels"),
    ],
)
def test_a_sequence_of_another_form_is_refused_in_words(tmp_path, made, more, said):
    path = sequence(tmp_path / "radar.nc", **made)
    done = convert(path, tmp_path / "out.nc", "--variable", "field", *more)
    assert done.exit_code == 65 and said in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out.nc").exists()
