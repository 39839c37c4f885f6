"""Spread that grows where an observation surprises: a real-looking cell born where every member is clear is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.radar.radar_case import Case, forecast_step, make_models, observed_at
from cycler_da.generative.surprise import Surprise
from cycler_da.noise import Noise
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec

TIME = np.datetime64("2019-06-01T00:10:00", "s")
PLACE, ERROR = (90, 30), 4 / 255


@pytest.fixture(scope="module")
def models():
    return make_models()


@pytest.fixture(scope="module")
def case() -> Case:
    """An old storm that stays, and a new cell of 150 codes, 12 km wide, far from it."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    old = 0.6 * torch.exp(-((y - 40) ** 2 + (x - 90) ** 2) / (2 * 8.0**2))
    old = torch.where(old < 6 / 255, 0.0, old)
    new = 150 / 255 * torch.exp(-((y - PLACE[0]) ** 2 + (x - PLACE[1]) ** 2) / (2 * 2.0**2))
    frames = old.expand(3, 1, 128, 128).clone()
    truth = torch.maximum(old, torch.where(new < 6 / 255, 0.0, new))[None]
    return Case(0, "birth", frames, truth, truth, torch.ones(1, 128, 128, dtype=torch.bool))


@pytest.fixture(scope="module")
def seen(models, case):
    cells = torch.cartesian_prod(torch.arange(1, 128, 3), torch.arange(0, 128, 3))  # one pixel of nine
    operator = CellSpec().build(models.layout)
    return observed_at(cells, case.truth, operator, models.layout, time=TIME, error=ERROR, noise=Noise(1))


def analysed(models, case, seen, **options):
    spec = InterpolantFilterSpec(localization_radius_cells=4, weight_stride=4, inflation=1.0, **options)
    prior = forecast_step(models, case, n_members=4, seed=1)
    scheme = spec.build(SchemeContext(models.layout, models.learned))
    return prior.background.latest, scheme.analyse(prior, seen, noise=Noise(2), carry={}).ensemble.latest


def test_a_cell_born_where_all_members_are_clear_is_found_at_once_with_surprise(models, case, seen):
    around = (slice(None), 0, slice(PLACE[0] - 1, PLACE[0] + 2), slice(PLACE[1] - 1, PLACE[1] + 2))
    background, without = analysed(models, case, seen)
    _, found = analysed(models, case, seen, surprise=4.0)
    level = 16 / 255
    assert float(background[around].mean()) < 0.5 * level  # nobody expected it
    assert float(without[around].mean()) < 0.5 * level  # nor is it found
    # One pixel in nine was seen, so between them the members differ: the mean over the cell is about a third of it.
    assert float(found[around].mean()) > 2.0 * level
    assert float(found.mean(dim=0)[0, 91, 30]) == pytest.approx(float(case.truth[0, 91, 30]), abs=3 * ERROR)


def test_usual_innovations_change_nothing_to_the_last_bit(models, case):
    cells = torch.cartesian_prod(torch.arange(1, 60, 3), torch.arange(60, 128, 3))  # the old storm alone
    operator = CellSpec().build(models.layout)
    seen = observed_at(cells, case.truth, operator, models.layout, time=TIME, error=0.05, noise=Noise(1))
    _, without = analysed(models, case, seen)
    _, wary = analysed(models, case, seen, surprise=8.0)
    assert torch.equal(without, wary)


def test_the_widened_spread_makes_the_innovation_one_deviation_and_fades_with_distance(models, case, seen):
    hx = seen.hx(case.frames[-1:].to(torch.float64)).expand(2, -1)
    zero = torch.zeros(len(seen), dtype=torch.float64)
    least = Surprise(4.0, reach=2.0).least_std(seen, hx, zero, like=case.truth[None].to(torch.float64))
    index = seen.batches[0].ids.tolist().index("91,30")
    wanted = float((seen.values[index] ** 2 - ERROR**2).sqrt())
    assert float(least[0, 0, 91, 30]) == pytest.approx(wanted)
    # Three cells east of the outermost pixel that sees the cell, which is 2 x 3 cells from its middle.
    assert 0 < float(least[0, 0, 91, 39]) < 0.1 * wanted and float(least[0, 0, 20, 20]) == 0.0
