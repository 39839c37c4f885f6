"""Figures of a forecast: which are drawn, and that the loop has a frame for the analysis and for every lead."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.plots.forecast_fields import earlier_analyses, read_forecasts
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
        for file in filter(None, (caption.file, caption.safe_file)):
            with Image.open(tmp_path / file) as picture:
                assert picture.size == (caption.width, caption.height)
    assert [caption.kind for caption in captions if caption.safe_file] == ["forecast", "stamps", "loop"]
    with Image.open(tmp_path / "loop.vil.png") as loop:
        assert loop.n_frames == 3


def test_a_twin_differs_in_the_colours_of_values_alone(folder, tmp_path):
    plot_forecasts(folder, tmp_path, limits={"vil": VariableLimits(0.0, 10.0, (0.1, 1.0))})
    with Image.open(tmp_path / "stamps.vil.png") as usual, Image.open(tmp_path / "stamps.vil.safe.png") as safe:
        differ = (np.asarray(usual) != np.asarray(safe)).any(axis=-1)
    stamps = differ[160:-170]  # without the header and the bar
    assert stamps[:, : stamps.shape[1] // 2].mean() > 0.9  # three stamps fill the left half
    assert not differ[:120].any()


def test_a_loop_begins_with_the_analyses_of_the_cycles_before(folder, tmp_path):
    chain = tmp_path / "experiment" / "chain"
    for minutes in (10, 20, 40):  # one is missing at 30 minutes: what lies before a gap is not shown
        cycle = chain / "cycles" / f"20191231T23{60 - minutes:02d}Z"
        cycle.mkdir(parents=True)
        shutil.copy(folder / "forecast_products.nc", cycle)
    own = chain / "work" / "20200101T0000Z"
    shutil.copytree(folder, own)
    (forecast,) = read_forecasts(own)
    times = [str(time) for time, _ in earlier_analyses(own, forecast)]
    assert times == ["2019-12-31T23:40:00", "2019-12-31T23:50:00"]
    assert earlier_analyses(folder, forecast) == []  # outside an experiment


def test_without_points_the_meteogram_stands_at_the_strongest_cell_of_the_analysis(folder):
    (forecast,) = read_forecasts(folder)
    assert next(iter(forecast.places.values())) == (21, 10)  # the middle of the three members
    assert forecast.leads.tolist() == [0.0, 10.0, 20.0]


def test_a_cycle_without_a_forecast_has_no_such_figures(tmp_path):
    assert plot_forecasts(tmp_path, tmp_path, limits={}) == []
