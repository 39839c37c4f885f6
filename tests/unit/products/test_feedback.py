from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.errors import DataError, LayoutMismatch, MissingInput
from cycler_da.layout import Layout
from cycler_da.obs.base import QC, Locations, ObsBatch, Observations
from cycler_da.obs.identity import observation_ids
from cycler_da.products.conventions import FileFacts
from cycler_da.products.feedback import NOT_REPORTED, read_feedback, write_feedback

WHEN = np.datetime64("2020-01-02T00:00:00", "s")


@dataclass(frozen=True)
class _Any:
    """Stands for an operator; feedback only asks what it observes."""

    name: str = "points"
    is_linear: bool = True

    def __call__(self, x, where, layout):
        raise NotImplementedError

    def adjoint(self, v, where, layout):
        raise NotImplementedError


@dataclass(frozen=True)
class _Speed(_Any):
    variable: str = "wind_speed"
    units: str = "m s-1"


def _batch(
    layout: Layout,
    values: list[float],
    *,
    channel: list[int],
    stations: list[str],
    flags: list[int] | None = None,
    stream: str = "stations",
    operator: _Any | None = None,
) -> ObsBatch:
    n, operator = len(values), operator or _Any()
    n_axes = len(layout.grid.axes)
    # A station stands where its name says.
    place = {name: 1000.0 * (k + 1) for k, name in enumerate(sorted(set(stations)))}
    position = np.asarray([[place[s] + 10.0 * a for a in range(n_axes)] for s in stations]).reshape(n, n_axes)
    times = np.full(n, WHEN)
    names = [getattr(operator, "variable", layout.channels[c]) for c in channel]
    flags = flags or [0] * n
    return ObsBatch(
        stream=stream,
        operator=operator,
        where=Locations(torch.from_numpy(position), torch.tensor(channel, dtype=torch.int64)),
        values=torch.tensor(values, dtype=torch.float64),
        error=torch.full((n,), 0.5, dtype=torch.float64),
        times=times,
        ids=observation_ids(np.asarray(stations), variables=np.asarray(names), times=times, position=position),
        flags=torch.tensor(flags, dtype=torch.int32),
        reasons=tuple("" if flag == 0 else f"flag {flag}" for flag in flags),
    )


def _hx(n_members: int, n_obs: int, *, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n_members, n_obs)))


def _write(path: Path, layout: Layout, facts: FileFacts, *batches: ObsBatch, analysis: bool = True) -> dict:
    observations = Observations(batches, layout)
    before, after = _hx(5, len(observations)), _hx(5, len(observations), seed=1)
    files = write_feedback(
        path, observations, background_hx=before, analysis_hx=after if analysis else None, facts=facts
    )
    return {file.stem: read_feedback(file) for file in files} | {"before": before, "after": after}


def test_departures_are_those_of_the_ensemble_means(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    batch = _batch(qg_layout, [1.0, 2.0, 3.0], channel=[0, 0, 0], stations=["a", "b", "c"])
    found = _write(tmp_path, qg_layout, facts, batch)
    columns, before, after = found["stations"], found["before"].numpy(), found["after"].numpy()
    values = np.asarray([1.0, 2.0, 3.0])
    for group, wanted in {
        "ObsValue": values,
        "ObsError": np.full(3, 0.5),
        "EffectiveError": np.full(3, 0.5),
        "hofx": before.mean(axis=0),
        "hofx_spread": before.std(axis=0, ddof=1),
        "hofxa": after.mean(axis=0),
        "ombg": values - before.mean(axis=0),
        "oman": values - after.mean(axis=0),
    }.items():
        np.testing.assert_array_equal(columns[group]["q1"], wanted, err_msg=group)
    np.testing.assert_array_equal(columns["MetaData"]["dateTime"], np.full(3, WHEN))
    np.testing.assert_array_equal(columns["MetaData"]["y"], [1000.0, 2000.0, 3000.0])
    np.testing.assert_array_equal(columns["MetaData"]["x"], [1010.0, 2010.0, 3010.0])


def test_every_observation_comes_back_with_its_flag_and_reason(
    qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    flags = [int(flag) for flag in QC]
    stations = [f"s{k:02d}" for k in range(len(flags))]
    batch = _batch(qg_layout, [1.0] * len(flags), channel=[1] * len(flags), stations=stations, flags=flags)
    columns = _write(tmp_path, qg_layout, facts, batch)["stations"]
    assert columns["EffectiveQC"]["q2"].tolist() == flags
    assert columns["Reason"]["q2"].tolist() == ["", *(f"flag {flag}" for flag in flags[1:])]
    assert columns["MetaData"]["stationIdentification"].tolist() == stations
    assert columns["ObsId"]["q2"].tolist() == batch.ids.tolist()
    # Used and withheld observations have an effective error, rejected ones have none.
    np.testing.assert_array_equal(np.isfinite(columns["EffectiveError"]["q2"]), [flag < 10 for flag in flags])
    np.testing.assert_array_equal(columns["PreQC"]["q2"], [11 if flag == 11 else 0 for flag in flags])
    assert (columns["EffectiveQC"]["q1"] == NOT_REPORTED).all() and np.isnan(columns["ObsValue"]["q1"]).all()


def test_variables_of_one_station_share_a_location_and_a_second_copy_gets_its_own(
    qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    batch = _batch(
        qg_layout, [1.0, 2.0, 3.0, 1.5], channel=[0, 1, 0, 0], stations=["a", "a", "b", "a"], flags=[0, 0, 0, 16]
    )
    columns = _write(tmp_path, qg_layout, facts, batch)["stations"]
    assert columns["MetaData"]["stationIdentification"].tolist() == ["a", "b", "a"]
    np.testing.assert_array_equal(columns["ObsValue"]["q1"], [1.0, 3.0, 1.5])
    np.testing.assert_array_equal(columns["ObsValue"]["q2"], [2.0, np.nan, np.nan])
    np.testing.assert_array_equal(columns["EffectiveQC"]["q1"], [0, 0, 16])


def test_columns_follow_the_order_of_batches_and_streams(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    batches = [
        _batch(qg_layout, [1.0, 2.0], channel=[0, 0], stations=["a", "b"]),
        _batch(qg_layout, [5.0], channel=[1], stations=["c"], stream="swath"),
        _batch(qg_layout, [7.0], channel=[0], stations=["a"], operator=_Speed()),
    ]
    found = _write(tmp_path, qg_layout, facts, *batches)
    mean = found["before"].numpy().mean(axis=0)
    np.testing.assert_array_equal(found["stations"]["hofx"]["q1"], mean[:2])
    np.testing.assert_array_equal(found["swath"]["hofx"]["q2"], mean[2:3])
    np.testing.assert_array_equal(found["stations"]["hofx"]["wind_speed"], [mean[3], np.nan])
    with netCDF4.Dataset(tmp_path / "stations.nc") as dataset:
        assert dataset["ObsValue/wind_speed"].units == "m s-1" and dataset["ObsValue/q1"].units == "s-1"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_the_fill_value_and_nothing_else_changes(
    qg_layout: Layout, tmp_path: Path, facts: FileFacts, bad: float
) -> None:
    batch = _batch(qg_layout, [bad, -99.0], channel=[0, 0], stations=["a", "b"], flags=[10, 12])
    columns = _write(tmp_path, qg_layout, facts, batch)["stations"]
    np.testing.assert_array_equal(columns["ObsValue"]["q1"], [np.nan, -99.0])
    with netCDF4.Dataset(tmp_path / "stations.nc") as dataset:
        dataset.set_auto_mask(False)
        for group in ("ObsValue", "ombg", "oman"):
            assert np.isfinite(dataset[f"{group}/q1"][:]).all(), group
            assert dataset[f"{group}/q1"][0] == netCDF4.default_fillvals["f8"]


def test_an_unknown_time_and_place_are_written_as_missing(
    radar_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    batch = _batch(radar_layout, [1.0, 2.0], channel=[0, 0], stations=["a", "b"], flags=[13, 0])
    batch.where.position[0] = torch.nan
    batch = replace(batch, times=np.asarray([np.datetime64("NaT"), WHEN], dtype="datetime64[s]"))
    place = _write(tmp_path, radar_layout, facts, batch)["stations"]["MetaData"]
    assert np.isnat(place["dateTime"]).tolist() == [True, False]
    for name in ("y", "x", "latitude", "longitude"):
        assert np.isnan(place[name]).tolist() == [True, False], name
    # One kilometre north and east of the origin of the projection, 38 N 98 W (one degree is 111.2 km).
    assert place["latitude"][1] == pytest.approx(38.0 + 2.0 / 111.2, abs=1e-4)


def test_a_stream_without_observations_has_the_full_schema(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    columns = _write(tmp_path, qg_layout, facts, _batch(qg_layout, [], channel=[], stations=[]))["stations"]
    assert {"ObsValue", "EffectiveQC", "hofx", "ombg", "oman", "Reason"} <= columns.keys()
    assert all(len(values) == 0 for group in columns.values() for values in group.values())
    assert set(columns["EffectiveQC"]) == {"q1", "q2"}


def test_without_an_analysis_there_are_no_residuals(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    batch = _batch(qg_layout, [1.0], channel=[0], stations=["a"])
    columns = _write(tmp_path, qg_layout, facts, batch, analysis=False)["stations"]
    assert "oman" not in columns and "hofxa" not in columns and "ombg" in columns


def test_no_streams_write_no_files(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    _write(tmp_path, qg_layout, facts)
    assert list(tmp_path.iterdir()) == []


def test_model_equivalents_of_another_number_are_refused(qg_layout: Layout, tmp_path: Path, facts: FileFacts) -> None:
    observations = Observations((_batch(qg_layout, [1.0], channel=[0], stations=["a"]),), qg_layout)
    with pytest.raises(LayoutMismatch, match="has 2 columns, expected 1"):
        write_feedback(tmp_path, observations, background_hx=_hx(5, 2), analysis_hx=None, facts=facts)


def test_a_file_that_is_no_feedback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInput):
        read_feedback(tmp_path / "a.nc")
    netCDF4.Dataset(tmp_path / "a.nc", "w").close()
    with pytest.raises(DataError, match="is no feedback file"):
        read_feedback(tmp_path / "a.nc")


def test_the_raw_values_of_a_feedback_file_are_those_of_the_input_file(
    qg_layout: Layout, tmp_path: Path, facts: FileFacts
) -> None:
    from cycler_da.obs.file_writer import write_obs_file

    batch = _batch(qg_layout, [1.0, np.nan, 3.0], channel=[0, 1, 0], stations=["a", "a", "b"], flags=[0, 10, 0])
    write_obs_file(tmp_path / "in.nc", qg_layout, batches=[batch])
    columns = _write(tmp_path, qg_layout, facts, batch)["stations"]
    with netCDF4.Dataset(tmp_path / "in.nc") as given:
        for group in ("ObsValue", "ObsError"):
            for name in qg_layout.channels:
                wanted = np.ma.filled(given[f"{group}/{name}"][:], np.nan)
                np.testing.assert_array_equal(columns[group][name], wanted)
