"""Forms of history that the ablation compares, on an artificial storm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.radar.radar_ablation import FORMS, Form, baselines, same_starts, scored, trained
from cycler_da.systems.radar_pairs import RadarSequence


@pytest.fixture(scope="module")
def moving() -> RadarSequence:
    """A blob that moves by one cell to the north in five minutes."""
    y, x = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    codes = [200 * np.exp(-((y - 20 - k) ** 2 + (x - 30) ** 2) / (2 * 6.0**2)) for k in range(17)]
    return RadarSequence("moving", np.stack(codes).round().astype(np.uint8), 5 * np.arange(17))


def test_one_frame_has_no_motion_and_is_compared_as_it_is():
    assert [form.name for form in FORMS] == [
        "learned, 1 frame",
        "learned, 3 frames",
        "learned, 3 frames, advected",
        "learned, 6 frames",
        "learned, 6 frames, advected",
    ]


def test_all_forms_are_scored_at_the_same_starts(moving):
    # 80 minutes of frames: six frames at 10 minutes leave the starts at 50 to 70 minutes.
    samples = {form: same_starts([moving], form, 10) for form in FORMS}
    raw = samples[Form(1, False)]
    assert len(raw) == 5
    for form, pairs in samples.items():
        assert pairs.history.shape[1] == form.n_history
        assert torch.equal(pairs.target, raw.target)
    np.testing.assert_allclose(
        raw.history[0, 0].float() * 255, np.where(moving.codes[10] >= 6, moving.codes[10], 0), atol=0.1
    )
    assert len(same_starts([moving], Form(3, True), 5)) == 11  # from 25 to 75 minutes


def test_an_advected_history_is_where_the_target_is(moving):
    pairs = same_starts([moving], Form(6, True), 10)
    assert float((pairs.history.float() - pairs.target.float()).abs().max()) < 0.05


def test_a_network_starts_from_its_last_frame(moving):
    # One step of training moves little: the raw form is persistence, the advected one advection.
    found = baselines([moving], 10)
    wide = RadarSequence("wide", np.repeat(np.repeat(moving.codes, 3, axis=1), 3, axis=2), moving.minutes)
    for form, name in ((Form(1, False), "persistence"), (Form(3, True), "block-flow advection")):
        scores = scored(trained([wide], form, 10, steps=1, crop=48), [moving], form, 10)
        assert scores["rmse"] == pytest.approx(found[name]["rmse"], rel=0.3, abs=2e-3)
    assert found["block-flow advection"]["rmse"] < 0.1 * found["persistence"]["rmse"]
