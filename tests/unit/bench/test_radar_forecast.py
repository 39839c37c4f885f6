"""The radar baselines: published scores on the real storm, and exactness on an artificial one."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cycler_da.bench.radar.radar_forecast import measure_baselines


@pytest.fixture(scope="module")
def moving_file(tmp_path_factory):
    """A wide blob that moves by one cell to the east in every frame (two in a step)."""
    y, x = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    frames = [180 * np.exp(-((y - 60) ** 2 + (x - 40 - k) ** 2) / (2 * 8.0**2)) for k in range(9)]
    path = tmp_path_factory.mktemp("radar") / "moving.h5"
    with h5py.File(path, "w") as file:
        file["vil"] = np.stack(frames, axis=-1)[None].round().astype(np.uint8)
    return path


def test_a_moving_blob_is_forecast_by_every_method_that_moves_it(moving_file):
    scores = measure_baselines(moving_file, events=(0,))
    assert scores["persistence"]["rmse"] > 0.01
    for method in ("global shift", "block-flow advection"):
        assert scores[method]["rmse"] < 0.002 and scores[method]["csi_133"] > 0.95
    assert scores["persistence"]["n_starts"] == 3


def test_persistence_has_the_error_of_the_difference_of_frames(moving_file):
    with h5py.File(moving_file) as file:
        codes = file["vil"][0].astype(float) / 255
    expected = np.sqrt(np.mean([(codes[..., k + 2] - codes[..., k]) ** 2 for k in range(4, 7)]))
    assert measure_baselines(moving_file, events=(0,))["persistence"]["rmse"] == pytest.approx(expected, rel=1e-5)


def test_baselines_on_the_real_storm_are_those_measured_before(realdata):
    scores = measure_baselines(realdata / "sevir_vil_diffcast_demo01.h5")
    # An independent implementation gave 0.0917 for persistence, 0.0521 for one shift, 0.0489 for block flow.
    assert scores["persistence"]["rmse"] == pytest.approx(0.0917, abs=1e-4)
    assert scores["persistence"]["csi_16"] == pytest.approx(0.70, abs=0.005)
    assert 0.049 < scores["global shift"]["rmse"] < 0.054
    assert 0.046 < scores["block-flow advection"]["rmse"] < 0.049
