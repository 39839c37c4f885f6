"""Products of a forecast ensemble: known answers, and what stands in the file."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.products.conventions import FileFacts
from cycler_da.products.forecast_file import ForecastProducts, write_forecast_products
from cycler_da.products.forecast_statistics import (
    probability,
    probability_matched_mean,
    probability_within,
    reached_within,
)
from cycler_da.systems.sevir_grid import corner_of_centre, sevir_layout


def test_the_matched_mean_of_equal_members_is_the_member():
    field = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    np.testing.assert_array_equal(probability_matched_mean(np.stack([field] * 5)), field)


def test_the_matched_mean_keeps_the_strength_that_a_mean_of_displaced_cells_loses():
    members = np.zeros((3, 1, 9), dtype=np.float32)
    for k in range(3):
        members[k, 0, 3 + k] = 10.0
    assert members.mean(axis=0).max() == pytest.approx(10 / 3)
    matched = probability_matched_mean(members)
    assert matched.max() == 10.0 and (matched > 0).sum() == 1  # as many cells as one member has


def test_reached_within_is_a_disk_that_ends_at_the_edge():
    events = np.zeros((11, 11), dtype=bool)
    events[5, 1] = True
    y, x = np.meshgrid(np.arange(11), np.arange(11), indexing="ij")
    expected = (y - 5) ** 2 + (x - 1) ** 2 <= 2.7**2
    np.testing.assert_array_equal(reached_within(events, radius=2.7), expected)
    np.testing.assert_array_equal(reached_within(events, radius=0.4), events)


def test_probabilities_count_members_and_grow_with_the_neighbourhood():
    members = np.zeros((4, 8, 8), dtype=np.float32)
    members[0, 2, 2] = members[1, 2, 4] = 5.0
    assert probability(members, 5.0)[2, 2] == 0.25
    assert probability_within(members, 5.0, radius=2.0)[2, 3] == 0.5
    assert probability_within(members, 5.0, radius=2.0)[7, 7] == 0.0


def test_the_file_of_products_agrees_with_the_members(tmp_path):
    layout = sevir_layout(128, np.timedelta64(600, "s"), corner=corner_of_centre((39.0, -97.0)), georeference="config")
    values = torch.rand(3, 2, 1, 128, 128)
    times = np.datetime64("2020-01-01T00:00:00", "s") + layout.step * np.arange(2)
    ensemble = Ensemble(values, times, (0, 1, 2), layout)
    asked = ForecastProducts({"vil": (0.5, 0.9)}, (8.0, 16.0), (10.0, 50.0, 90.0))
    path = tmp_path / "forecast_products.nc"
    write_forecast_products(path, ensemble, asked, facts=FileFacts("forecast_products", times[0]))
    with netCDF4.Dataset(path) as file:
        assert file["vil_probability_within"].shape == (2, 2, 2, 128, 128)
        assert file["leadtime"][:].tolist() == [0, 600] and file["threshold"].units == "kg m-2"
        middle = np.asarray(file["vil_percentile"][1])
        np.testing.assert_allclose(middle, np.median(values[:, :, 0].numpy(), axis=0), rtol=1e-6)
        at, near = np.asarray(file["vil_probability"][1]), np.asarray(file["vil_probability_within"][:, 1])
        assert (near[0] >= at).all() and (near[1] >= near[0]).all()
        np.testing.assert_array_equal(at, (values[:, :, 0].numpy() >= 0.9).mean(axis=0, dtype=np.float32))
