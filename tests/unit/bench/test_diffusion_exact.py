"""What the exact benchmark of diffusions says of the schemes that are exact and of those that are not."""

from __future__ import annotations

import pytest

from cycler_da.bench.diffusion_exact import SAMPLERS, circle, forward_rows, sampler_rows, score_rows


def test_scores_that_know_the_covariance_are_right_and_the_scalar_ones_are_not():
    rows = score_rows(circle(0.1), 0.1)
    wrong = {(row.case, row.method): row.value for row in rows if row.metric == "wrong part of the change"}
    assert len(wrong) == 4 * 7
    for (_, method), value in wrong.items():
        if method in ("moment matching", "C_t known"):
            assert value < 1e-8  # systems are solved to 1e-10 of their right side; the change may be small beside it
        else:
            assert value > 0.01


def test_without_the_identity_of_its_derivative_an_estimate_is_moved_away_from_the_observations():
    rows = score_rows(circle(0.1), 0.1)
    cosines = {(row.case, row.method): row.value for row in rows if row.metric == "cosine with it"}
    for (_, method), value in cosines.items():
        assert value < -0.05 if method == "SDA, gamma .1, identity cut" else value > 0.5


def test_the_chain_that_draws_anew_is_exact_and_the_ancestral_one_loses_variance():
    some = {key: SAMPLERS[key] for key in (("redrawn", 2), ("ancestral", 8))}
    rows = {(row.method, row.metric): row.value for row in sampler_rows(circle(0.5), 0.5, some)}
    # The start is noise of r = 30 around 0, not around the prior.
    assert rows["redrawn, 2 steps", "variance / exact"] == pytest.approx(1.0, abs=0.01)
    assert rows["redrawn, 2 steps", "covariance, relative error"] < 0.01
    assert rows["ancestral, 8 steps", "variance / exact"] < 0.5


def test_a_replaced_entry_has_almost_the_moments_of_a_noisy_one_where_the_noise_is_large():
    rows = {(row.case, row.metric): row.value for row in forward_rows()}
    last = max(case for case, _ in rows)
    assert rows[last, "mean / exact"] == pytest.approx(1.01, abs=1e-9)  # y is not drawn towards the prior
    assert rows[last, "variance / exact"] == pytest.approx(1.0, abs=1e-3)
