"""Fields that somebody else wrote: no layout inside, dimensions found by name."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from cycler_da.errors import DataError, LayoutMismatch
from cycler_da.layout import Layout
from cycler_da.products.dataset import open_nature, read_ensemble, write_ensemble

VALUES = np.random.default_rng(3).standard_normal((4, 2, 3, 5, 6))  # realization, time, channel, y, x
SIZES = {"realization": 4, "time": 2, "channel": 3, "y": 5, "x": 6}


def _write(path: Path, variables: dict[str, tuple[tuple[str, ...], np.ndarray]], **attributes: str) -> Path:
    with netCDF4.Dataset(path, "w") as dataset:
        for dims, values in variables.values():
            for name, size in zip(dims, values.shape, strict=True):
                if name not in dataset.dimensions:
                    dataset.createDimension(name, size)
        for name, (dims, values) in variables.items():
            variable = dataset.createVariable(name, str if values.dtype.kind == "U" else values.dtype, dims)
            variable[...] = values.astype(object) if values.dtype.kind == "U" else values
            if name == "time":
                variable.units = "hours since 2021-03-04 00:00:00"
            if name in ("y", "x"):
                variable.units = "m"
        for name, value in attributes.items():
            variable, _, attribute = name.partition("__")
            dataset[variable].setncattr(attribute, value)
    return path


def _axes() -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    return {
        "time": (("time",), np.asarray([0.0, 6.0])),
        "y": (("y",), 100.0 + 50.0 * np.arange(5)),
        "x": (("x",), 20.0 * np.arange(6)),
    }


def test_realization_and_x_alone_are_an_ensemble_of_one_variable(tmp_path: Path) -> None:
    values = VALUES[:, 0, 0, 0, :3]
    found = read_ensemble(_write(tmp_path / "f.nc", {"state": (("realization", "x"), values)}))
    np.testing.assert_array_equal(found.values[:, 0, 0].numpy(), values)
    assert found.layout.channels == ("state",)
    assert found.layout.grid.names == ("x",)
    assert found.members == (0, 1, 2, 3)


def test_channels_times_and_coordinates_are_understood(tmp_path: Path) -> None:
    dims = ("realization", "time", "channel", "y", "x")
    found = read_ensemble(_write(tmp_path / "f.nc", {"state": (dims, VALUES), **_axes()}))
    np.testing.assert_array_equal(found.values.numpy(), VALUES)
    assert found.layout.channels == ("state_1", "state_2", "state_3")
    np.testing.assert_array_equal(
        found.valid_times, np.asarray(["2021-03-04T00", "2021-03-04T06"], dtype="datetime64[s]")
    )
    assert found.layout.step == np.timedelta64(6 * 3600, "s")
    y, x = found.layout.grid.axes
    assert (y.origin, y.spacing, y.units, x.origin, x.spacing) == (100.0, 50.0, "m", 0.0, 20.0)


def test_the_order_of_dimensions_does_not_matter(tmp_path: Path) -> None:
    dims, order = ("realization", "time", "channel", "y", "x"), (3, 2, 0, 4, 1)
    shuffled = (tuple(dims[i] for i in order), VALUES.transpose(order))
    found = read_ensemble(_write(tmp_path / "f.nc", {"state": shuffled, **_axes()}))
    np.testing.assert_array_equal(found.values.numpy(), VALUES)


def test_several_variables_are_channels_and_names_are_kept(tmp_path: Path) -> None:
    dims = ("member", "y", "x")
    path = _write(
        tmp_path / "f.nc",
        {
            "u": (dims, VALUES[:, 0, 0]),
            "v": (dims, VALUES[:, 0, 1]),
            "orography": (("y", "x"), VALUES[0, 0, 2]),
            "member": (("member",), np.asarray([7, 8, 9, 12])),
        },
        u__units="m s-1",
    )
    found = read_ensemble(path)
    np.testing.assert_array_equal(found.values[:, 0].numpy(), VALUES[:, 0, :2])
    assert found.layout.channels == ("u", "v") and found.members == (7, 8, 9, 12)
    assert found.layout.variables[0].units == "m s-1"


def test_a_channel_dimension_without_a_grid_is_a_vector(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "f.nc",
        {
            "state": (("realization", "channel"), VALUES[:, 0, :, 0, 0]),
            "channel": (("channel",), np.array(["a", "b", "c"])),
        },
    )
    found = read_ensemble(path)
    assert found.layout.channels == ("a", "b", "c") and found.layout.state_shape == (3,)
    np.testing.assert_array_equal(found.values[:, 0].numpy(), VALUES[:, 0, :, 0, 0])


def test_a_user_ensemble_can_be_written_and_read_back(tmp_path: Path, facts) -> None:
    found = read_ensemble(_write(tmp_path / "f.nc", {"s": (("realization", "x"), VALUES[:, 0, 0, 0])}))
    write_ensemble(tmp_path / "g.nc", found, facts=facts)
    again = read_ensemble(tmp_path / "g.nc")
    np.testing.assert_array_equal(again.values.numpy(), found.values.numpy())
    assert again.layout == found.layout


def test_a_user_nature_run_is_read_by_time(tmp_path: Path) -> None:
    dims = ("time", "channel", "y", "x")
    nature = open_nature(_write(tmp_path / "n.nc", {"state": (dims, VALUES[0]), **_axes()}))
    np.testing.assert_array_equal(nature.states(nature.valid_times[1:])[0].numpy(), VALUES[0, 1])


@pytest.mark.parametrize("bad", [np.nan, 1e20])
def test_missing_values_name_variable_and_member(tmp_path: Path, bad: float) -> None:
    values = VALUES[:, 0, 0].copy()
    values[2, 1, 1] = bad
    path = _write(tmp_path / "f.nc", {"u": (("realization", "y", "x"), values)}, u__missing_value=1e20)
    with pytest.raises(DataError, match="u of member 2 has 1 of 30 values missing"):
        read_ensemble(path)


def test_packed_integers_are_unpacked(tmp_path: Path) -> None:
    packed = np.arange(12, dtype=np.int16).reshape(4, 3)
    path = _write(tmp_path / "f.nc", {"u": (("realization", "x"), packed)})
    with netCDF4.Dataset(path, "a") as dataset:
        dataset["u"].setncatts({"scale_factor": 0.5, "add_offset": 10.0})
    np.testing.assert_array_equal(read_ensemble(path).values[:, 0, 0].numpy(), 10.0 + 0.5 * packed)


def test_an_uneven_grid_is_refused(tmp_path: Path) -> None:
    axes = {"x": (("x",), np.asarray([0.0, 1.0, 2.0, 4.0, 5.0, 6.0]))}
    path = _write(tmp_path / "f.nc", {"u": (("realization", "x"), VALUES[:, 0, 0, 0]), **axes})
    with pytest.raises(DataError, match="axis x is not evenly spaced"):
        read_ensemble(path)


def test_variables_on_two_grids_are_refused(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "f.nc",
        {"u": (("realization", "x"), VALUES[:, 0, 0, 0]), "v": (("realization", "z"), VALUES[:, 0, 0, 0])},
    )
    with pytest.raises(DataError, match="do not share one grid"):
        read_ensemble(path)


def test_a_file_without_states_says_what_it_found(tmp_path: Path) -> None:
    path = _write(tmp_path / "f.nc", {"orography": (("y", "x"), VALUES[0, 0, 0])})
    with pytest.raises(DataError, match=r"orography\(y, x\).*expected dimensions realization"):
        read_ensemble(path)


def test_two_members_with_one_number_are_refused(tmp_path: Path) -> None:
    ids = {"realization": (("realization",), np.asarray([0, 1, 1, 2]))}
    path = _write(tmp_path / "f.nc", {"u": (("realization", "x"), VALUES[:, 0, 0, 0]), **ids})
    with pytest.raises(DataError, match="not all different"):
        read_ensemble(path)


def _qg_file(path: Path, layout: Layout, **changes: np.ndarray) -> Path:
    axes = {axis.name: ((axis.name,), changes.get(axis.name, axis.centres())) for axis in layout.grid.axes}
    values = np.zeros((2, *layout.grid.shape))
    fields = {name: (("realization", "y", "x"), values) for name in layout.channels if name not in changes}
    return _write(path, {**fields, **axes})


def test_a_user_file_on_a_known_grid_is_accepted(tmp_path: Path, qg_layout: Layout) -> None:
    found = read_ensemble(_qg_file(tmp_path / "f.nc", qg_layout), layout=qg_layout)
    assert found.layout is qg_layout


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("flipped y", lambda centres: {"y": centres[::-1]}),
        ("half a cell", lambda centres: {"x": centres + 0.5 * (centres[1] - centres[0])}),
        ("another spacing", lambda centres: {"x": 2.0 * centres}),
        ("a variable short", lambda centres: {"q2": centres}),
    ],
)
def test_a_user_file_on_another_grid_is_refused(tmp_path: Path, qg_layout: Layout, fault: str, changes) -> None:
    path = _qg_file(tmp_path / "f.nc", qg_layout, **changes(qg_layout.grid.axes[0].centres()))
    with pytest.raises(LayoutMismatch, match=r"axis differs|lacks variable q2"):
        read_ensemble(path, layout=qg_layout)


def test_swapped_axes_are_refused(tmp_path: Path, qg_layout: Layout) -> None:
    values = np.zeros((2, 16, 16))
    fields = {name: (("realization", "x", "y"), values) for name in qg_layout.channels}
    path = _write(tmp_path / "f.nc", fields)
    with pytest.raises(LayoutMismatch, match="axis differs"):
        read_ensemble(path, layout=qg_layout)
