"""Cases and methods of the radar benchmarks, on an artificial storm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.radar.radar_case import make_cases, make_models, pixels, real_data
from cycler_da.bench.radar.radar_methods import (
    FEW,
    with_filter,
    with_flowdas,
    with_oi,
    with_scheme,
    without_observations,
)
from cycler_da.errors import MissingInput
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.radar_pairs import RadarSequence


@pytest.fixture(scope="module")
def models():
    return make_models()


@pytest.fixture(scope="module")
def case():
    """A blob that moves north-east, doubles in strength in the last step, and has a column that no radar sees."""
    y, x = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    frames = [
        (160 if k == 3 else 110) * np.exp(-((y - 50 - 3 * k) ** 2 + (x - 40 - 2 * k) ** 2) / (2 * 7.0**2))
        for k in range(4)
    ]
    codes = np.stack(frames).round().astype(np.uint8)
    codes[:, :, 100] = 255
    (made,) = make_cases([RadarSequence("blob", codes, 10 * np.arange(4))], apart=10)
    return made


def test_a_case_holds_the_frames_before_its_truth_with_low_codes_as_no_echo(case):
    assert case.frames.shape == (3, 1, 128, 128)
    assert float(case.truth.max()) == pytest.approx(160 / 255, abs=1 / 255)
    low = (case.raw > 0) & (case.raw < 6 / 255)
    assert bool(low.any()) and float(case.truth[low].max()) == 0.0
    assert not bool(case.known[0, :, 100].any()) and bool(case.known[0, :, :100].all())


def test_pixels_are_known_ones_of_the_truth_and_the_same_for_every_method(case, models):
    seen = pixels(case, models.layout, fraction=0.1, error=1e-4, seed=1)
    again = pixels(case, models.layout, fraction=0.1, error=1e-4, seed=1)
    assert len(seen) == round(0.1 * 128 * 127) and torch.equal(seen.values, again.values)
    exact = seen.hx(case.truth[None].to(torch.float64))[0]
    assert float((seen.values - exact).abs().max()) < 6e-4  # six deviations
    missing = torch.where(case.known, 0.0, torch.nan)[None].to(torch.float64)
    assert bool(seen.hx(missing).isfinite().all())


@pytest.mark.slow
def test_pixels_of_a_cell_that_grew_make_every_analysis_better_than_the_forecast(case, models):
    def rmse(members):
        return float((members.mean(dim=0) - case.truth)[case.known].square().mean().sqrt())

    seen = pixels(case, models.layout, fraction=0.04, error=1e-3, seed=1)
    forecast = rmse(without_observations(models)["learned transition"](case, seen))
    methods = {
        "filter": with_filter(models, 1, n_members=FEW),
        "oi": with_oi(models, 2.0, mean="advected", deviation="one"),
        "letkf": with_scheme(models, LetkfSpec(localization_radius_cells=2.0, inflation=1.0), n_members=8),
        "flowdas": with_flowdas(models, 1.0, 5),
    }
    found = {name: rmse(method(case, seen)) for name, method in methods.items()}
    assert all(error < forecast for error in found.values()), (found, forecast)


def test_a_missing_folder_of_radar_data_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.delenv("CYCLER_REALDATA", raising=False)
    with pytest.raises(MissingInput, match="CYCLER_REALDATA"):
        real_data()
