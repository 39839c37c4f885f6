"""Small layouts that differ in everything an operator or a file could confuse."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs.base import QC, Locations, ObsBatch
from cycler_da.obs.identity import names_of, observation_ids
from cycler_da.obs.points import PointsSpec
from cycler_da.times import Window, epoch_seconds, parse_time

HOUR = np.timedelta64(3600, "s")
TWO = (Variable("q1", "s-1", "upper"), Variable("q2", "s-1", "lower"))


@pytest.fixture
def valid_time():
    return parse_time("2020-01-02T00:00Z")


@pytest.fixture
def window(valid_time):
    return Window.ending(valid_time, 24 * HOUR)


@pytest.fixture
def torus():
    """Two variables, periodic, sizes and spacings that differ, origin not zero."""
    axes = (Axis("y", 6, 100.0, -50.0, periodic=True), Axis("x", 8, 250.0, 1000.0, periodic=True))
    return Layout("torus", TWO, Grid(axes), HOUR)


@pytest.fixture
def patch():
    """One bounded variable, not periodic."""
    axes = (Axis("y", 5, 1000.0, 500.0), Axis("x", 7, 2000.0, -3000.0))
    return Layout("patch", (Variable("vil", "kg m-2", "liquid", 0.0, 80.0),), Grid(axes), HOUR)


@pytest.fixture
def ring():
    return Layout("ring", (Variable("x", "1", "value"),), Grid((Axis("x", 40, periodic=True, units="1"),)), HOUR)


@pytest.fixture
def line():
    return Layout("line", (Variable("t", "K", "temperature"),), Grid((Axis("x", 9, 0.5, 2.0),)), HOUR)


@pytest.fixture
def mapped():
    """The map of the SEVIR archive, a corner of it."""
    mapping = {
        "grid_mapping_name": "lambert_azimuthal_equal_area",
        "latitude_of_projection_origin": 38.0,
        "longitude_of_projection_origin": -98.0,
        "false_easting": 0.0,
        "false_northing": 0.0,
        "earth_radius": 6370997.0,
    }
    axes = (Axis("y", 16, 3000.0, -24000.0), Axis("x", 16, 3000.0, 120000.0))
    return Layout("map", (Variable("vil", "kg m-2", "liquid", 0.0, 80.0),), Grid(axes, mapping), HOUR)


@pytest.fixture
def make_batch(valid_time):
    """Make a batch from plain lists; what is not given has a plausible default."""

    def make(layout, *, position, values, channel=None, error=0.5, stations=None, times=None, **others):
        position = torch.tensor(position, dtype=torch.float64).reshape(len(values), len(layout.grid.axes))
        n_obs = len(values)
        where = Locations(position, torch.tensor(channel or [0] * n_obs, dtype=torch.int64))
        operator = others.pop("operator", PointsSpec().build(layout))
        stations = stations or [f"s{i}" for i in range(n_obs)]
        times = np.full(n_obs, valid_time) if times is None else np.asarray(times, dtype="datetime64[s]")
        errors = error if isinstance(error, list) else [error] * n_obs
        ids = observation_ids(
            stations, variables=names_of(operator, where, layout), times=times, position=position.numpy()
        )
        batch = ObsBatch(
            stream=others.pop("stream", "net"),
            operator=operator,
            where=where,
            values=torch.tensor(values, dtype=torch.float64),
            error=torch.tensor(errors, dtype=torch.float64),
            times=times,
            ids=ids,
            flags=torch.tensor(others.pop("flags", [int(QC.USED)] * n_obs), dtype=torch.int32),
            reasons=others.pop("reasons", ("",) * n_obs),
        )
        assert not others, others
        return batch

    return make


@pytest.fixture
def seconds():
    """Turn times into a dateTime column."""
    return lambda *times: np.asarray([epoch_seconds(np.datetime64(time, "s")) for time in times], dtype=np.int64)


@pytest.fixture
def write_by_hand(tmp_path):
    """Write a file with nothing but netCDF4, as another centre would.

    Every argument is a dict of columns; `units` maps "group/name" to a units attribute.
    """

    def write(metadata, values, errors, *, preqc=None, units=None, attributes=None, name="by_hand.nc"):
        units = {"MetaData/dateTime": "seconds since 1970-01-01T00:00:00Z"} | (units or {})
        with netCDF4.Dataset(tmp_path / name, "w") as file:
            file.setncatts(attributes or {})
            file.createDimension("Location", len(next(iter(metadata.values()))) or None)
            groups = {"MetaData": metadata, "ObsValue": values, "ObsError": errors, "PreQC": preqc}
            for group, columns in groups.items():
                if columns is not None:
                    place = file.createGroup(group)
                    for column, content in columns.items():
                        _write_column(place, column, content, units.get(f"{group}/{column}"))
        return tmp_path / name

    return write


def _write_column(group, name, column, units):
    is_text = len(column) and isinstance(column[0], str)
    dimension = "Location"
    if len(column) != len(group.parent.dimensions["Location"]):
        dimension = f"Other{name}"
        group.createDimension(dimension, len(column))
    variable = group.createVariable(name, str if is_text else np.asarray(column).dtype, (dimension,))
    if units is not None:
        variable.units = units
    if len(column):
        variable[:] = np.asarray(column, dtype=object) if is_text else column
