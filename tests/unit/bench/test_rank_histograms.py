"""Histograms of ranks in tenths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.ranks.rank_histograms import N_SHARES, rank_rows, tenths
from cycler_da.bench.ranks.size import ranks_of, sums_of_field


@pytest.mark.parametrize("n_members", [4, 9, 24, 128])
def test_a_truth_like_the_members_has_a_tenth_in_every_tenth(n_members):
    np.testing.assert_allclose(tenths(np.full(n_members + 1, 7.0)), 1 / N_SHARES, rtol=1e-12)


def test_a_rank_is_spread_evenly_over_its_part():
    # Two members: ranks are thirds, and 0.2 of a truth in the first third is 0.06 in each tenth that lies within it.
    shares = tenths(np.array([2.0, 5.0, 3.0]))
    assert shares[:3] == pytest.approx([0.06] * 3)
    assert shares[3] == pytest.approx(0.02 + 0.5 * 0.2)
    assert shares.sum() == pytest.approx(1.0)


def test_a_narrow_ensemble_has_its_truths_in_the_outer_tenths_and_a_high_one_in_the_lower_half():
    z = torch.from_numpy(np.random.default_rng(1).normal(size=(21, 1, 4000)))
    narrow = ranks_of([sums_of_field(0.5 * z[1:], z[0])])
    high = ranks_of([sums_of_field(z[1:] + 0.5, z[0])])
    rows = {row.metric: row for row in rank_rows("case", "method", [narrow, narrow])}
    # P(|Z| > 0.5 x 1.28) = 0.52
    assert rows["outer tenths"].value == pytest.approx(0.52, abs=0.04)
    assert rows["lower half"].value == pytest.approx(0.5, abs=0.03)
    assert tenths(high)[:5].sum() > 0.6
