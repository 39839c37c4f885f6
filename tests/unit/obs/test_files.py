"""Observation files: what is written comes back, and what another program wrote is understood."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr

from cycler_da.errors import CannotWrite, MissingInput
from cycler_da.obs.base import QC
from cycler_da.obs.file_writer import write_obs_file
from cycler_da.obs.files import NO_ERROR, find_obs_file, read_obs_file, stream_of_file
from cycler_da.obs.identity import stations_of
from cycler_da.obs.mapping import project
from cycler_da.obs.points import CellSpec, PointsSpec

NOON = "2020-01-01T12:00"


def _read(path, layout, operators=None):
    operator = PointsSpec().build(layout)
    (batch,) = read_obs_file(
        path, layout, stream="net", operators=operators or {name: operator for name in layout.channels}
    )
    return batch


def _columns(batch):
    return {
        "values": batch.values.numpy(),
        "error": batch.error.numpy(),
        "position": batch.where.position.numpy(),
        "channel": batch.where.channel.numpy(),
        "times": batch.times,
        "ids": batch.ids,
        "flags": batch.flags.numpy(),
    }


def _assert_same(batch, expected):
    columns, wanted = _columns(batch), _columns(expected)
    for name, column in columns.items():
        np.testing.assert_array_equal(column, wanted[name], err_msg=name)


def _some(make_batch, layout):
    return make_batch(
        layout,
        position=[[10.0, 1100.0], [10.0, 1100.0], [320.0, 2000.0], [10.0, 1100.0]],
        values=[1.5, -2.5, float("nan"), 1.25],
        channel=[0, 1, 1, 0],
        error=[0.5, 0.25, 0.125, 0.5],
        stations=["a", "a", "b", "a"],
        flags=[0, 0, 0, 11],
    )


def test_observations_come_back_from_a_file_to_the_last_bit(make_batch, torus, tmp_path):
    written = _some(make_batch, torus)
    write_obs_file(tmp_path / "f.nc", torus, batches=[written])
    read = _read(tmp_path / "f.nc", torus)
    order = np.argsort(np.char.add(read.ids, read.values.numpy().astype(str)))
    wanted = np.argsort(np.char.add(written.ids, written.values.numpy().astype(str)))
    for name, column in _columns(read).items():
        np.testing.assert_array_equal(column[order], _columns(written)[name][wanted], err_msg=name)
    assert sorted(read.reasons) == ["", "", "", "PreQC is 11 in the file"]
    assert sorted(stations_of(read.ids).tolist()) == ["a", "a", "a", "b"]


def test_a_file_read_and_written_again_is_the_same_file(make_batch, torus, tmp_path):
    write_obs_file(tmp_path / "first.nc", torus, batches=[_some(make_batch, torus)])
    write_obs_file(tmp_path / "second.nc", torus, batches=[_read(tmp_path / "first.nc", torus)])
    write_obs_file(tmp_path / "third.nc", torus, batches=[_read(tmp_path / "second.nc", torus)])
    assert (tmp_path / "second.nc").read_bytes() == (tmp_path / "third.nc").read_bytes()


def test_order_of_the_observations_in_a_file_is_not_seen(make_batch, torus, tmp_path):
    batch = _some(make_batch, torus)
    write_obs_file(tmp_path / "a.nc", torus, batches=[batch])
    halves = [batch.select(torch.tensor([False, True, True, False])), batch.select(torch.tensor([True] + 3 * [False]))]
    last = batch.select(torch.tensor([False, False, False, True]))
    write_obs_file(tmp_path / "b.nc", torus, batches=[last, *halves])
    _assert_same(_read(tmp_path / "b.nc", torus), _read(tmp_path / "a.nc", torus))


def test_one_station_at_one_time_is_one_row(make_batch, torus, tmp_path):
    write_obs_file(tmp_path / "f.nc", torus, batches=[_some(make_batch, torus)])
    with netCDF4.Dataset(tmp_path / "f.nc") as file:
        assert len(file.dimensions["Location"]) == 3  # the second copy of a/q1 has a row of its own
        assert file["MetaData/stationIdentification"][:].tolist() == ["a", "b", "a"]
        assert np.isfinite(np.ma.getdata(file["ObsValue/q2"][:])).all()  # fill value, never NaN


def test_a_window_without_observations_is_a_file_with_the_whole_schema(torus, tmp_path):
    write_obs_file(tmp_path / "f.nc", torus, batches=[])
    with netCDF4.Dataset(tmp_path / "f.nc") as file:
        assert set(file.groups) == {"MetaData", "ObsValue", "ObsError", "PreQC"}
        assert set(file["ObsError"].variables) == {"q1", "q2"}
        assert len(file.dimensions["Location"]) == 0
    assert len(_read(tmp_path / "f.nc", torus)) == 0


def test_variables_with_operators_of_their_own_come_in_their_own_batches(make_batch, torus, tmp_path):
    write_obs_file(tmp_path / "f.nc", torus, batches=[_some(make_batch, torus)])
    points, cell = PointsSpec().build(torus), CellSpec().build(torus)
    batches = read_obs_file(tmp_path / "f.nc", torus, stream="net", operators={"q2": cell, "q1": points})
    assert [batch.operator.name for batch in batches] == ["cell", "points"]
    assert [set(batch.where.channel.tolist()) for batch in batches] == [{1}, {0}]


def test_a_quantity_that_is_no_state_variable_keeps_its_name_and_units(make_batch, torus, tmp_path):
    class Speed:
        name, is_linear, variable, units = "speed", False, "wind_speed", "m s-1"

        def __call__(self, x, where, layout):
            return x[:, 0, 0, : len(where.channel)].abs()

    batch = make_batch(torus, position=[[0.0, 1000.0]], values=[3.0], operator=Speed())
    write_obs_file(tmp_path / "f.nc", torus, batches=[batch], variables=["wind_speed"])
    with netCDF4.Dataset(tmp_path / "f.nc") as file:
        assert file["ObsValue/wind_speed"].units == "m s-1"
    _assert_same(_read(tmp_path / "f.nc", torus, operators={"wind_speed": batch.operator}), batch)


def test_a_file_made_by_hand_is_read(write_by_hand, seconds, torus):
    path = write_by_hand(
        {
            "dateTime": seconds(NOON, "2020-01-01T06:00"),
            "x": [1250.0, 1500.0],
            "y": [50.0, 150.0],
            "stationIdentification": ["north", "south"],
        },
        {"q1": [1.0, 2.0]},
        {"q1": [0.1, 0.2]},
        preqc={"q1": np.asarray([0, 7], dtype=np.int32)},
        units={"ObsValue/q1": "s-1", "ObsError/q1": "s^-1", "MetaData/x": "m"},
    )
    batch = _read(path, torus)
    assert batch.values.tolist() == [2.0, 1.0]  # by time
    assert batch.where.position.tolist() == [[150.0, 1500.0], [50.0, 1250.0]]
    assert batch.times.tolist() == [np.datetime64("2020-01-01T06:00:00"), np.datetime64("2020-01-01T12:00:00")]
    assert batch.flags.tolist() == [int(QC.PRE_QC), int(QC.USED)]
    assert batch.reasons == ("PreQC is 7 in the file", "")


def test_a_file_made_by_xarray_is_read(seconds, ring, tmp_path):
    place = {"dateTime": ("Location", seconds(NOON, NOON), {"units": "seconds since 1970-01-01T00:00:00Z"})}
    place["x"] = ("Location", [3.5, 7.0])
    xr.Dataset(place).to_netcdf(tmp_path / "f.nc", group="MetaData")
    for group, values in (("ObsValue", [1.0, np.nan]), ("ObsError", [0.5, 0.5])):
        xr.Dataset({"x": ("Location", values)}).to_netcdf(tmp_path / "f.nc", group=group, mode="a")
    batch = _read(tmp_path / "f.nc", ring)
    found = {float(place): float(value) for place, value in zip(batch.where.position[:, 0], batch.values, strict=True)}
    assert found[3.5] == 1.0 and np.isnan(found[7.0])


def test_characters_serve_as_station_names(write_by_hand, seconds, ring):
    path = write_by_hand({"dateTime": seconds(NOON, NOON), "x": [1.0, 2.0]}, {"x": [1.0, 2.0]}, {"x": [1.0, 1.0]})
    with netCDF4.Dataset(path, "a") as file:
        file["MetaData"].createDimension("nchar", 3)
        file["MetaData"].createVariable("stationIdentification", "S1", ("Location", "nchar"))[:] = np.asarray(
            [[b"a", b"b", b""], [b"c", b"", b""]]
        )
    assert sorted(stations_of(_read(path, ring).ids).tolist()) == ["ab", "c"]


def test_unset_values_and_infinities_stay_for_quality_control(write_by_hand, seconds, ring):
    values = np.ma.masked_array([1.0, 2.0, np.nan, np.inf, 5.0], mask=[0, 1, 0, 0, 0])
    errors = np.ma.masked_array([0.5, 0.5, 0.5, 0.5, 0.5], mask=[0, 0, 0, 0, 1])
    path = write_by_hand(
        {"dateTime": seconds(*[NOON] * 5), "x": [0.0, 1.0, 2.0, 3.0, 4.0]}, {"x": values}, {"x": errors}
    )
    batch = _read(path, ring)
    by_place = dict(zip(batch.where.position[:, 0].tolist(), range(5), strict=True))
    assert float(batch.values[by_place[0.0]]) == 1.0
    assert bool(torch.isnan(batch.values[[by_place[1.0], by_place[2.0]]]).all())
    assert float(batch.values[by_place[3.0]]) == float("inf")
    assert batch.reasons[by_place[4.0]] == NO_ERROR
    assert int(batch.flags[by_place[4.0]]) == int(QC.PRE_QC)


def test_pairs_without_value_and_error_are_not_reported(write_by_hand, seconds, torus):
    nothing = np.ma.masked_all(2)
    path = write_by_hand(
        {"dateTime": seconds(NOON, NOON), "x": [1000.0, 1250.0], "y": [0.0, 0.0]},
        {"q1": [1.0, 2.0], "q2": nothing},
        {"q1": [1.0, 1.0], "q2": nothing},
    )
    assert _read(path, torus).where.channel.tolist() == [0, 0]


def test_a_location_without_time_or_place_comes_back_as_such(write_by_hand, seconds, ring):
    times = np.ma.masked_array(seconds(NOON, NOON), mask=[1, 0])
    path = write_by_hand(
        {"dateTime": times, "x": np.ma.masked_array([1.0, 2.0], mask=[0, 1])}, {"x": [5.0, 6.0]}, {"x": [1.0, 1.0]}
    )
    batch = _read(path, ring)
    no_time = batch.values.tolist().index(5.0)
    assert np.isnat(batch.times[no_time]) and not np.isnat(batch.times[1 - no_time])
    assert bool(torch.isnan(batch.where.position[1 - no_time, 0]))


def test_latitude_and_longitude_are_projected_to_the_grid(write_by_hand, seconds, mapped):
    # Corner of a SEVIR patch in the archive's catalogue, and the point of the map where x = y = 0.
    path = write_by_hand(
        {"dateTime": seconds(NOON, NOON), "latitude": [38.0, 38.0], "longitude": [-98.0, -96.0]},
        {"vil": [1.0, 2.0]},
        {"vil": [0.5, 0.5]},
    )
    batch = _read(path, mapped)
    places = {float(value): place for value, place in zip(batch.values, batch.where.position.tolist(), strict=True)}
    np.testing.assert_allclose(places[1.0], [0.0, 0.0], atol=1e-6)
    # Snyder (1987), eqs. 24-2, 22-4, 22-5 on the sphere.
    phi, dlam = np.radians(38.0), np.radians(2.0)
    k = np.sqrt(2.0 / (1.0 + np.sin(phi) ** 2 + np.cos(phi) ** 2 * np.cos(dlam)))
    y = 6370997.0 * k * (np.cos(phi) * np.sin(phi) - np.sin(phi) * np.cos(phi) * np.cos(dlam))
    x = 6370997.0 * k * np.cos(phi) * np.sin(dlam)
    np.testing.assert_allclose(places[2.0], [y, x], atol=1e-3)


def test_mapped_files_carry_both_kinds_of_position(make_batch, mapped, tmp_path):
    batch = make_batch(mapped, position=[[-20000.0, 130000.0]], values=[1.0])
    write_obs_file(tmp_path / "f.nc", mapped, batches=[batch])
    with netCDF4.Dataset(tmp_path / "f.nc") as file:
        place = file["MetaData"]
        back = project(place["latitude"][:], place["longitude"][:], mapped.grid)
    np.testing.assert_allclose(back, [[-20000.0, 130000.0]], atol=1e-6)
    _assert_same(_read(tmp_path / "f.nc", mapped), batch)


def test_a_point_that_the_map_cannot_show_has_no_finite_position(mapped):
    assert not np.isfinite(project(np.asarray([91.0]), np.asarray([0.0]), mapped.grid)).any()


def test_files_are_found_by_stream_and_stamp(torus, tmp_path):
    write_obs_file(tmp_path / "net_20200101T1200Z.nc", torus, batches=[])
    assert find_obs_file(tmp_path, "net", "20200101T1200Z") == tmp_path / "net_20200101T1200Z.nc"
    assert find_obs_file(tmp_path, "net", "20200101T1205Z") is None
    with pytest.raises(MissingInput, match="does not exist"):
        find_obs_file(tmp_path / "typo", "net", "20200101T1200Z")


def test_a_refused_write_leaves_nothing_behind(make_batch, torus, tmp_path, monkeypatch):
    target = tmp_path / "net.nc"
    write_obs_file(target, torus, batches=[])
    before = target.read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cycler_da.obs.file_writer.os.fsync", refuse)
    with pytest.raises(CannotWrite, match="No space left"):
        write_obs_file(target, torus, batches=[_some(make_batch, torus)])
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net.nc"]


@pytest.mark.parametrize("name", ["buoys_20200101T0600Z.nc", "in.buoys.nc", "buoys.nc"])
def test_the_stream_of_a_file_is_in_its_name(name):
    assert stream_of_file(name) == "buoys"
