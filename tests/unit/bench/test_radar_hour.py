"""Forecasts to an hour: their starts, and pysteps beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.radar import radar_hour, steps_peer
from cycler_da.bench.radar.radar_scores import CODES, fraction_rows, fractions_within
from cycler_da.systems.radar_pairs import RadarSequence


def blob(n: int = 13) -> RadarSequence:
    y, x = np.meshgrid(np.arange(128), np.arange(128), indexing="ij")
    frames = [150 * np.exp(-((y - 40 - k) ** 2 + (x - 50 - k) ** 2) / (2 * 9.0**2)) for k in range(n)]
    return RadarSequence("blob", np.stack(frames).round().astype(np.uint8), 5 * np.arange(n))


def test_starts_have_full_history_and_the_leads_that_there_are():
    starts = list(radar_hour.starts_of(blob()))  # seven frames ten minutes apart
    assert [start.leads for start in starts] == [[1, 2, 3], [1, 2, 3], [1, 2], [1]]
    assert torch.equal(starts[0].truth[2], starts[2].history[-1])


def test_a_perfect_forecast_has_a_fractions_skill_score_of_one_at_every_radius():
    truth = torch.zeros(40, 40)
    truth[10:14, 10:14] = CODES[73] + 0.1
    sums = fractions_within(truth[None], truth, torch.ones(40, 40, dtype=torch.bool))
    rows = fraction_rows("case", "method", [sums, sums])
    assert [(row.metric, row.value) for row in rows] == [(f"FSS 73, {r} km", 1.0) for r in (8, 16, 40)]


def test_without_pysteps_its_row_is_left_out(monkeypatch):
    monkeypatch.setattr(steps_peer, "is_installed", lambda: False)
    assert list(radar_hour.make_methods(None, 2)) == [*radar_hour.BASELINES, "learned transition"]


@pytest.mark.slow
@pytest.mark.skipif(not steps_peer.is_installed(), reason="pysteps is not installed")
def test_steps_moves_a_blob_as_it_moved_before():
    start = next(radar_hour.starts_of(blob()))
    made = steps_peer.steps_members(start.history.numpy(), n_steps=3, n_members=4, step_minutes=10, cell_km=3, seed=1)
    assert made.shape == (4, 3, 128, 128) and made.min() >= 0.0 and made.max() < 1.0
    mean, truth = made[:, 2].mean(axis=0), start.truth[3].numpy()
    centre = [np.average(np.indices(f.shape)[axis], weights=f) for f in (mean, truth) for axis in (0, 1)]
    np.testing.assert_allclose(centre[:2], centre[2:], atol=2.0)  # cells; it moved by six, members differ
