from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.errors import DataError, LayoutMismatch, MissingInput
from cycler_da.layout import Layout, Variable
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import (
    open_nature,
    read_ensemble,
    read_field,
    write_ensemble,
    write_field,
    write_frames,
    write_member_stream,
)

START = np.datetime64("2020-01-01T00:00:00", "s")
DAY = np.timedelta64(86400, "s")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_times", [1, 3])
def test_an_ensemble_comes_back_bit_for_bit(
    make_ensemble, any_layout: Layout, tmp_path: Path, facts: FileFacts, dtype: torch.dtype, n_times: int
) -> None:
    written = make_ensemble(any_layout, n_times=n_times, dtype=dtype, scale=1e-6)
    write_ensemble(tmp_path / "a.nc", written, facts=facts)
    for layout in (None, any_layout):
        found = read_ensemble(tmp_path / "a.nc", layout=layout)
        assert torch.equal(found.values, written.values) and found.values.dtype == dtype
        assert found.members == written.members
        assert found.layout.digest == any_layout.digest
        np.testing.assert_array_equal(found.valid_times, written.valid_times)


def test_mean_and_spread_in_the_file_are_those_of_the_members(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    written = make_ensemble(qg_layout, n_times=2, dtype=torch.float64)
    write_ensemble(tmp_path / "a.nc", written, facts=facts)
    with netCDF4.Dataset(tmp_path / "a.nc") as dataset:
        for index, name in enumerate(qg_layout.channels):
            np.testing.assert_allclose(dataset[f"{name}_mean"][:], written.mean()[:, index], rtol=0, atol=1e-15)
            np.testing.assert_allclose(dataset[f"{name}_spread"][:], written.spread()[:, index], rtol=1e-13)
            low, high = dataset[name].actual_range
            assert (low, high) == (written.values[:, :, index].min(), written.values[:, :, index].max())


def test_one_member_has_a_mean_and_no_spread(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    written = make_ensemble(qg_layout, n_members=1)
    write_ensemble(tmp_path / "a.nc", written, facts=facts)
    with netCDF4.Dataset(tmp_path / "a.nc") as dataset:
        assert "q1_spread" not in dataset.variables
        np.testing.assert_array_equal(dataset["q1_mean"][:], written.values[0, :, 0])
    assert torch.equal(read_ensemble(tmp_path / "a.nc").values, written.values)


def test_the_file_says_what_it_is(make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    facts = replace(facts, reference_time=START)
    write_ensemble(tmp_path / "a.nc", make_ensemble(qg_layout, n_members=4, n_times=2), facts=facts)
    with netCDF4.Dataset(tmp_path / "a.nc") as dataset:
        assert dataset["q1"].dimensions == ("realization", "time", "y", "x")
        assert dataset["q1"].chunking() == [1, 1, 16, 16] or dataset["q1"].chunking() == [4, 1, 16, 16]
        np.testing.assert_array_equal(dataset["realization"][:], [3, 4, 5, 6])
        np.testing.assert_array_equal(dataset["leadtime"][:], [86400, 2 * 86400])
        assert netCDF4.num2date(dataset["time"][1], dataset["time"].units).isoformat() == "2020-01-03T00:00:00"
        np.testing.assert_array_equal(dataset["y"][:], qg_layout.grid.axes[0].centres())
        ours = {name: dataset.getncattr(name) for name in dataset.ncattrs() if name.startswith("cycler_")}
        assert (ours["cycler_layout_digest"], ours["cycler_kind"]) == (qg_layout.digest, "analysis")
        assert (ours["cycler_seed"], ours["cycler_degraded"], ours["cycler_n_members"]) == (1, 0, 4)
        assert dataset.license == "CC0-1.0"


def test_a_large_frame_is_one_chunk(make_ensemble, radar_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    write_ensemble(tmp_path / "a.nc", make_ensemble(radar_layout), facts=facts)
    with netCDF4.Dataset(tmp_path / "a.nc") as dataset:
        assert dataset["vil"].chunking() == [1, 1, 128, 128]
        filters = dataset["vil"].filters()
        assert (filters["zlib"], filters["shuffle"], filters["fletcher32"], filters["complevel"]) == (
            True,
            True,
            True,
            1,
        )


def test_mapped_cells_lie_where_the_projection_puts_them(
    make_ensemble, radar_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    from cycler_da.systems.sevir_grid import degrees_of

    write_ensemble(tmp_path / "a.nc", make_ensemble(radar_layout, n_members=2), facts=facts)
    y, x = np.meshgrid(*(axis.centres() for axis in radar_layout.grid.axes), indexing="ij")
    latitude, longitude = degrees_of(y, x)
    with netCDF4.Dataset(tmp_path / "a.nc") as dataset:
        # Two independent formulas of the spherical projection: equal to 1e-9 degrees (0.1 mm).
        np.testing.assert_allclose(dataset["lat"][:], latitude, atol=1e-9)
        np.testing.assert_allclose(dataset["lon"][:], longitude, atol=1e-9)
        assert dataset["crs"].earth_radius == 6370997.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_member_that_is_not_finite_is_named_and_nothing_is_written(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts, bad: float
) -> None:
    ensemble = make_ensemble(qg_layout)
    ensemble.values[2, 0, 1, 3, 4] = bad
    with pytest.raises(DataError, match=r"member 5.*q2 in 1 of 256 cells"):
        write_ensemble(tmp_path / "a.nc", ensemble, facts=facts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("announced", [4, 6])
def test_a_wrong_number_of_members_is_refused_and_nothing_is_written(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts, announced: int
) -> None:
    ensemble = make_ensemble(qg_layout)
    with pytest.raises(DataError, match="member"):
        write_member_stream(
            tmp_path / "a.nc",
            qg_layout,
            ensemble.valid_times,
            zip(ensemble.members, ensemble.values, strict=True),
            facts=facts,
            n_members=announced,
        )
    assert list(tmp_path.iterdir()) == []


def test_states_of_another_shape_are_refused(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    states = torch.zeros(1, 2, 16, 15)
    with pytest.raises(LayoutMismatch, match=r"\(1, 2, 16, 15\), expected \(1, 2, 16, 16\)"):
        write_member_stream(tmp_path / "a.nc", qg_layout, np.asarray([START]), [(0, states)], facts=facts, n_members=1)


def test_a_variable_named_like_a_coordinate_is_refused(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    layout = replace(qg_layout, variables=(Variable("time", "s", "age"),))
    with pytest.raises(LayoutMismatch, match="'time'"):
        write_ensemble(tmp_path / "a.nc", make_ensemble(layout), facts=facts)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts, fraction: float
) -> None:
    path = tmp_path / "a.nc"
    write_ensemble(path, make_ensemble(qg_layout), facts=facts)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(DataError, match=r"a\.nc.*damaged"):
        read_ensemble(path)


def test_random_bytes_and_text_are_refused(tmp_path: Path) -> None:
    for content in (np.random.default_rng(0).bytes(5000), b"not a field"):
        (tmp_path / "a.nc").write_bytes(content)
        with pytest.raises(DataError, match="cannot be opened as NetCDF"):
            read_ensemble(tmp_path / "a.nc")


def test_an_absent_file_is_a_missing_input(tmp_path: Path) -> None:
    for read in (read_ensemble, read_field, open_nature):
        with pytest.raises(MissingInput, match="does not exist"):
            read(tmp_path / "a.nc")


def test_a_flipped_bit_never_becomes_a_value(
    make_ensemble, ring_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    path = tmp_path / "a.nc"
    written = make_ensemble(ring_layout, n_members=40)
    write_ensemble(path, written, facts=facts)
    content = path.read_bytes()
    n_refused = 0
    for position in np.random.default_rng(1).integers(0, len(content), 80):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(bytes(damaged))
        try:
            assert torch.equal(read_ensemble(path, layout=ring_layout).values, written.values)
        except (DataError, LayoutMismatch):
            n_refused += 1
    assert n_refused > 3


def test_a_chunk_that_was_never_written_is_refused(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    # What a killed writer leaves when it writes in place: a file that opens, with fill values.
    from cycler_da.products.gridfile import create_file, define_field, define_grid, define_members, define_times

    path, layout = tmp_path / "a.nc", qg_layout
    write_ensemble(tmp_path / "whole.nc", make_ensemble(layout), facts=facts)
    with netCDF4.Dataset(tmp_path / "whole.nc") as whole, create_file(path) as dataset:
        dataset.setncatts({name: whole.getncattr(name) for name in whole.ncattrs()})
        define_times(dataset, np.asarray([START]), START)
        define_grid(dataset, layout)
        define_members(dataset, 2)[:] = [0, 1]
        for name in layout.channels:
            define_field(dataset, name, ("realization", "time"), dtype=np.dtype("f4"), layout=layout)[0] = 1.0
    with pytest.raises(DataError, match=r"q1 of member 1.*never written"):
        read_ensemble(path)


def test_a_file_of_another_layout_is_refused_naming_the_difference(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    write_ensemble(tmp_path / "a.nc", make_ensemble(qg_layout), facts=facts)
    other = replace(qg_layout, variables=(qg_layout.variables[0], replace(qg_layout.variables[1], units="m")))
    with pytest.raises(LayoutMismatch, match="units"):
        read_ensemble(tmp_path / "a.nc", layout=other)


def test_single_states_and_members_are_not_taken_for_each_other(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    ensemble = make_ensemble(qg_layout)
    write_ensemble(tmp_path / "ensemble.nc", ensemble, facts=facts)
    write_field(tmp_path / "field.nc", ensemble.values[0], ensemble.valid_times, qg_layout, facts=facts)
    with pytest.raises(DataError, match="holds no members"):
        read_ensemble(tmp_path / "field.nc")
    with pytest.raises(DataError, match="holds an ensemble"):
        open_nature(tmp_path / "ensemble.nc")


def test_a_field_comes_back_bit_for_bit(make_ensemble, any_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    ensemble = make_ensemble(any_layout, n_times=3, dtype=torch.float64)
    write_field(tmp_path / "a.nc", ensemble.values[0], ensemble.valid_times, any_layout, facts=facts)
    values, valid_times, layout = read_field(tmp_path / "a.nc", layout=any_layout)
    assert torch.equal(values, ensemble.values[0])
    assert layout.digest == any_layout.digest
    np.testing.assert_array_equal(valid_times, ensemble.valid_times)


def test_a_nature_run_gives_the_frames_asked_for_in_the_order_asked(
    make_ensemble, qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    ensemble = make_ensemble(qg_layout, n_members=1, n_times=6)
    frames = (frame for frame in ensemble.values[0])
    write_frames(tmp_path / "n.nc", qg_layout, ensemble.valid_times, frames, facts=replace(facts, kind="nature"))
    nature = open_nature(tmp_path / "n.nc", layout=qg_layout)
    np.testing.assert_array_equal(nature.valid_times, ensemble.valid_times)
    assert torch.equal(nature.states(ensemble.valid_times[[4, 1]]), ensemble.values[0][[4, 1]])
    with pytest.raises(MissingInput, match=r"2020-02-01T00:00:00Z.*holds 2020-01-02T00:00:00Z to 2020-01-07"):
        nature.states(np.asarray([START + 31 * DAY]))


@pytest.mark.parametrize("n_frames", [2, 4])
def test_frames_and_valid_times_must_agree_in_number(
    qg_layout: Layout, tmp_path: Path, facts: FileFacts, n_frames: int
) -> None:
    times = START + DAY * np.arange(3)
    with pytest.raises(DataError, match="frames"):
        write_frames(tmp_path / "n.nc", qg_layout, times, torch.zeros(n_frames, 2, 16, 16), facts=facts)
    assert list(tmp_path.iterdir()) == []
