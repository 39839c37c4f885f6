"""Views of radar sequences: exact cells and steps, shares, and equal draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, DataError
from cycler_da.systems.radar_pairs import RadarSequence, make_pairs
from cycler_da.systems.radar_views import RadarMixture, RadarView, make_mixture


@pytest.fixture(scope="module")
def sequence() -> RadarSequence:
    codes = np.random.default_rng(0).integers(6, 255, (21, 96, 96)).astype(np.uint8)
    return RadarSequence("noise", codes, 2 * np.arange(21))


def test_a_view_reads_its_own_cells_at_its_own_step(sequence):
    coarse = RadarView(spacing=4, minutes=12).pairs([sequence])
    # 12 minutes are six frames: starts at 24, 26 and 28 minutes, in two phases of the 4 x 4 block.
    assert len(coarse) == 6
    expected = np.stack([sequence.codes[row, 1::4, 1::4] for row in (18, 19, 20)]) / 255.0
    np.testing.assert_allclose(coarse.target[:3, 0].float(), expected, atol=3e-4)  # float16
    expected = np.stack([sequence.codes[row, 0::4, 1::4] for row in (18, 19, 20)]) / 255.0
    np.testing.assert_allclose(coarse.target[3:, 0].float(), expected, atol=3e-4)


def test_the_view_of_the_forecasts_is_what_it_was_before_there_were_others(sequence):
    mixture = make_mixture([sequence], (RadarView(),))
    ours, plain = mixture.batch(7, 4, seed=1, crop=16), make_pairs([sequence]).batch(7, 4, seed=1, crop=16)
    assert torch.equal(ours.history, plain.history) and torch.equal(ours.target, plain.target)


def test_batches_come_from_the_views_by_their_shares_and_again_alike(sequence):
    mixture = make_mixture([sequence], (RadarView(share=3.0), RadarView(spacing=2, minutes=8)))
    assert len(mixture) == len(mixture.pairs[0]) + len(mixture.pairs[1])
    marked = RadarMixture(tuple(_filled(part, k) for k, part in enumerate(mixture.pairs)), mixture.shares)
    chosen = [float(marked.batch(step, 1, seed=5, crop=8).target.max()) > 0.0 for step in range(200)]
    assert 30 <= sum(chosen) <= 70  # a quarter of 200; three deviations are 18
    assert chosen[:20] == [float(marked.batch(step, 1, seed=5, crop=8).target.max()) > 0.0 for step in range(20)]


def _filled(part, value):
    return type(part)(part.history, torch.full_like(part.target, float(value)), part.known, part.sequence)


def test_views_that_cannot_be_are_refused(sequence):
    with pytest.raises(ConfigError, match="the first is that of the forecasts"):
        make_mixture([sequence], (RadarView(spacing=2),))
    with pytest.raises(ConfigError, match="share"):
        RadarView(share=0.0)
    with pytest.raises(DataError, match="7 minutes apart"):
        RadarView(minutes=7).pairs([sequence])
