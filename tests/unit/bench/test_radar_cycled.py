"""Settings of the cycled radar benchmark, on an artificial storm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.radar.radar_case import make_models
from cycler_da.bench.radar.radar_cycled import BLIND, ERROR, Storm, cold_start, cycle, observe, storm_of
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.radar_pairs import RadarSequence
from cycler_da.verification.scores import score


@pytest.fixture(scope="module")
def models():
    return make_models()


@pytest.fixture(scope="module")
def storm() -> Storm:
    y, x = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    frames = [150 * np.exp(-((y - 40 - k) ** 2 + (x - 50 - k) ** 2) / (2 * 9.0**2)) for k in range(13)]
    codes = np.stack(frames).round().astype(np.uint8)
    return storm_of(RadarSequence("blob", codes, 5 * np.arange(13)))


def test_a_storm_of_five_minute_frames_keeps_every_second_one(storm):
    assert storm.frames.shape == (7, 1, 128, 128)
    assert int(storm.frames[1].argmax()) == 42 * 128 + 52


def test_an_outage_leaves_no_observation_in_the_western_half_and_only_then(storm, models):
    middle = models.layout.grid.axes[1].centres()[64]
    west = {c: int((observe(models, storm, "outage", row=4, cycle=c).positions[:, 1] < middle).sum()) for c in (2, 3)}
    assert west[2] > 300 and west[3] == 0 and BLIND[0] == 3


def test_super_resolution_sees_every_block_once_with_its_mean(storm, models):
    seen = observe(models, storm, "super-resolution 8x", row=4, cycle=1)
    means = torch.nn.functional.avg_pool2d(storm.frames[4], 8).flatten().to(torch.float64)
    assert len(seen) == 256
    assert float((seen.values - means).abs().max()) < 5 * ERROR


@pytest.mark.slow
def test_a_cycled_analysis_is_better_than_its_background_after_a_cold_start(storm, models):
    start = cold_start(models, storm)
    assert start.values.shape[1] == 3 and float(start.values.min()) >= 0.0
    spec = LetkfSpec(localization_radius_cells=2.0, inflation=1.02)
    (first,) = cycle(models, storm, spec, "5 % of pixels", n_cycles=1)
    rmse = {name: score(getattr(first, name), "vil_code", "rmse") for name in ("background", "analysis")}
    assert rmse["analysis"] < rmse["background"]
