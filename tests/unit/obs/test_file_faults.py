"""Damaged and wrong observation files: refused with a reason, never read as something else."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.errors import ObsFileError
from cycler_da.obs.file_writer import write_obs_file
from cycler_da.obs.files import read_obs_file
from cycler_da.obs.points import PointsSpec

NOON = "2020-01-01T12:00"


def _read(path, layout):
    operator = PointsSpec().build(layout)
    return read_obs_file(path, layout, stream="net", operators={name: operator for name in layout.channels})


def _refused(path, layout, text):
    with pytest.raises(ObsFileError, match=text) as caught:
        _read(path, layout)
    assert str(path) in str(caught.value)


@pytest.fixture
def whole(make_batch, torus, tmp_path):
    """A sound file of 300 observations."""
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(300, 2, generator=generator) * torch.tensor([600.0, 2000.0]) + torch.tensor([-50.0, 1000.0])
    values = torch.randn(300, generator=generator).tolist()
    batch = make_batch(torus, position=position.tolist(), values=values, channel=[0, 1] * 150)
    write_obs_file(tmp_path / "whole.nc", torus, batches=[batch])
    return tmp_path / "whole.nc"


@pytest.mark.parametrize("percent", [0.1, 10, 50, 99, 99.99])
def test_truncated_file_is_refused(whole, torus, percent):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * percent / 100)])
    _refused(whole, torus, "truncated")


def test_empty_file_is_refused_and_told_from_a_window_without_observations(tmp_path, torus):
    (tmp_path / "f.nc").touch()
    _refused(tmp_path / "f.nc", torus, "is empty .*zero Locations")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(tmp_path, torus, seed):
    (tmp_path / "f.nc").write_bytes(np.random.default_rng(seed).bytes(4000))
    _refused(tmp_path / "f.nc", torus, "not a whole NetCDF-4 file")


def test_random_bytes_behind_a_true_signature_are_refused(whole, torus):
    whole.write_bytes(whole.read_bytes()[:8] + np.random.default_rng(0).bytes(4000))
    _refused(whole, torus, "not a whole NetCDF-4 file")


@pytest.mark.parametrize("n_bytes", [1, 64])
def test_damage_inside_a_file_is_found_or_harmless(whole, torus, n_bytes):
    (sound,) = _read(whole, torus)
    content, generator = whole.read_bytes(), np.random.default_rng(1)
    n_refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        start = int(generator.integers(len(content) - n_bytes))
        damaged[start : start + n_bytes] = bytes(b ^ 0x5A for b in damaged[start : start + n_bytes])
        whole.write_bytes(damaged)
        try:
            (batch,) = _read(whole, torus)
        except ObsFileError:
            n_refused += 1
            continue
        assert batch.ids.tolist() == sound.ids.tolist()
        for name in ("values", "error", "flags"):
            assert torch.equal(getattr(batch, name), getattr(sound, name))
        assert torch.equal(batch.where.position, sound.where.position)
    assert n_refused > 5  # the rest hit space that holds nothing


def test_file_that_is_not_there_is_refused(tmp_path, torus):
    _refused(tmp_path / "f.nc", torus, "cannot be opened")


def test_file_of_another_grid_is_refused_by_its_digest(make_batch, torus, patch, tmp_path):
    write_obs_file(tmp_path / "f.nc", patch, batches=[])
    _refused(tmp_path / "f.nc", torus, f"another grid.*{patch.digest}.*{torus.digest}")


def test_file_without_groups_is_refused(tmp_path, torus):
    with netCDF4.Dataset(tmp_path / "f.nc", "w") as file:
        file.createDimension("Location", 3)
    _refused(tmp_path / "f.nc", torus, "lacks the groups MetaData, ObsValue, ObsError")
    with netCDF4.Dataset(tmp_path / "old.nc", "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("Location", 3)
    _refused(tmp_path / "old.nc", torus, "not a whole NetCDF-4 file")


@pytest.fixture
def parts(seconds):
    """Columns of a sound file by hand; tests break one thing each."""
    return {
        "metadata": {"dateTime": seconds(NOON, NOON), "y": [50.0, 50.0], "x": [1250.0, 1500.0]},
        "values": {"q1": [1.0, 2.0]},
        "errors": {"q1": [0.5, 0.5]},
    }


def test_sound_parts_are_read(write_by_hand, parts, torus):
    assert len(_read(write_by_hand(*parts.values()), torus)[0]) == 2


@pytest.mark.parametrize("column", ["ObsValue/q1", "ObsError/q1", "MetaData/x"])
def test_wrong_units_are_refused(write_by_hand, parts, torus, column):
    _refused(write_by_hand(*parts.values(), units={column: "km"}), torus, f"{column} has units 'km'; expected")


@pytest.mark.parametrize("units", ["hours since 1970-01-01", "seconds since 2000-01-01T00:00:00Z", "s"])
def test_times_counted_otherwise_are_refused(write_by_hand, parts, torus, units):
    path = write_by_hand(*parts.values(), units={"MetaData/dateTime": units})
    _refused(path, torus, f"dateTime has units '{units}'; expected 'seconds since 1970-01-01T00:00:00Z'")


def test_times_as_text_are_refused(write_by_hand, parts, torus):
    parts["metadata"]["dateTime"] = ["2020-01-01T12:00:00Z", "2020-01-01T12:00:00Z"]
    _refused(write_by_hand(*parts.values()), torus, "dateTime holds .*expected int64")


@pytest.mark.parametrize(("group", "column"), [("values", "q1"), ("errors", "q1"), ("metadata", "x")])
def test_columns_of_different_lengths_are_refused(write_by_hand, parts, torus, group, column):
    parts[group][column] = [1000.0, 1250.0, 1500.0]
    _refused(write_by_hand(*parts.values()), torus, r"has shape \(3,\); expected \(2,\)")


@pytest.mark.parametrize("error", [0.0, -0.5, np.inf])
def test_an_error_that_is_no_standard_deviation_is_refused(write_by_hand, parts, torus, error):
    parts["errors"]["q1"][1] = error
    _refused(write_by_hand(*parts.values()), torus, f"at location 1: got {error:g}".replace("-", r"\-"))


def test_unknown_variable_is_refused_with_the_valid_names(write_by_hand, parts, torus):
    parts["values"]["q3"], parts["errors"]["q3"] = [1.0, 2.0], [1.0, 1.0]
    _refused(write_by_hand(*parts.values()), torus, "unknown variable q3; valid: q1, q2")


def test_values_without_errors_are_refused(write_by_hand, parts, torus):
    parts["errors"] = {}
    _refused(write_by_hand(*parts.values()), torus, "ObsValue holds q1, ObsError holds nothing")


def test_text_in_place_of_numbers_is_refused(write_by_hand, parts, torus):
    parts["values"]["q1"] = ["1.0", "2.0"]
    _refused(write_by_hand(*parts.values()), torus, "ObsValue/q1 holds .*expected numbers")


def test_missing_positions_are_refused(write_by_hand, parts, torus):
    del parts["metadata"]["y"]
    _refused(write_by_hand(*parts.values()), torus, "no positions: got dateTime, x; expected y, x")


def test_latitude_on_a_grid_without_a_map_is_refused(write_by_hand, parts, torus):
    parts["metadata"] = {"dateTime": parts["metadata"]["dateTime"], "latitude": [1.0, 2.0], "longitude": [1.0, 2.0]}
    _refused(write_by_hand(*parts.values()), torus, "no grid mapping")


def test_missing_times_are_refused(write_by_hand, parts, torus):
    del parts["metadata"]["dateTime"]
    _refused(write_by_hand(*parts.values()), torus, "no MetaData/dateTime")
