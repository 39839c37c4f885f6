"""Figures of a forecast: which are drawn, and that the loop has a frame for the analysis and for every lead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.plots.forecast_fields import read_forecasts
from cycler_da.plots.forecasts import plot_forecasts
from cycler_da.plots.limits import VariableLimits
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_ensemble
from cycler_da.products.forecast_file import ForecastProducts, write_forecast_products

SIZE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three members of a cell that moves east by four cells in each of two steps; no map."""
    axes = (Axis("y", SIZE, spacing=3000.0, units="m"), Axis("x", SIZE, spacing=3000.0, units="m"))
    step = np.timedelta64(600, "s")
    layout = Layout("sevir", (Variable("vil", "kg m-2", "vertically integrated liquid"),), Grid(axes), step)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    values = torch.stack(
        [
            torch.stack([(12.0 + m) * torch.exp(-((y - 20 - m) ** 2 + (x - 10 - 4 * k) ** 2) / 18.0) for k in range(3)])
            for m in range(3)
        ]
    )[:, :, None]
    start = np.datetime64("2020-01-01T00:00:00", "s")
    ensemble = Ensemble(values, start + step * np.arange(3), (0, 1, 2), layout)
    path = tmp_path_factory.mktemp("cycle")
    later = Ensemble(values[:, 1:], ensemble.valid_times[1:], ensemble.members, layout)
    write_ensemble(path / "forecast.nc", later, facts=FileFacts("forecast", start))
    asked = ForecastProducts({"vil": (0.15, 0.78, 3.5)}, (8.0, 16.0), (10.0, 50.0, 90.0))
    facts = FileFacts("forecast_products", start)
    write_forecast_products(path / "forecast_products.nc", ensemble, asked, facts=facts)
    return path


def test_a_forecast_is_drawn_in_five_figures_and_its_loop_has_every_time(folder, tmp_path):
    limits = {"vil": VariableLimits(0.0, 10.0, (0.1, 1.0))}
    captions = plot_forecasts(folder, tmp_path, limits=limits)
    assert [caption.kind for caption in captions] == ["forecast", "stamps", "objects", "meteogram", "loop"]
    for caption in captions:
        with Image.open(tmp_path / caption.file) as picture:
            assert picture.size == (caption.width, caption.height)
    with Image.open(tmp_path / "loop.vil.png") as loop:
        assert loop.n_frames == 3


def test_without_points_the_meteogram_stands_at_the_strongest_cell_of_the_analysis(folder):
    (forecast,) = read_forecasts(folder)
    assert next(iter(forecast.places.values())) == (21, 10)  # the middle of the three members
    assert forecast.leads.tolist() == [0.0, 10.0, 20.0]


def test_a_cycle_without_a_forecast_has_no_such_figures(tmp_path):
    assert plot_forecasts(tmp_path, tmp_path, limits={}) == []
