"""Pointwise statistics against brute force, an outside library and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scores.probability import crps_for_ensemble, rank_histogram

from cycler_da.verification import statistics

# Both sides sum at most 40 x 40 doubles of size one: a few hundred roundings of 1e-16.
ROUNDING = 1e-13


def brute_force_fair_crps(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    n_members = members.shape[0]
    pairs = np.abs(members[:, None] - members[None, :]).sum(axis=(0, 1))
    return np.abs(members - truth).mean(axis=0) - pairs / (2 * n_members * (n_members - 1))


@pytest.mark.parametrize("n_members", [2, 3, 20, 41])
def test_sorted_fair_crps_equals_the_double_sum_over_pairs(n_members: int) -> None:
    rng = np.random.default_rng(1)
    members, truth = rng.standard_normal((n_members, 500)), rng.standard_normal(500)
    np.testing.assert_allclose(
        statistics.fair_crps(members, truth), brute_force_fair_crps(members, truth), rtol=0, atol=ROUNDING
    )


def test_fair_crps_equals_that_of_the_scores_library() -> None:
    rng = np.random.default_rng(2)
    members, truth = rng.gamma(2.0, size=(17, 300)), rng.gamma(2.0, size=300)
    members[:, :50] = np.round(members[:, :50])  # ties
    outside = crps_for_ensemble(
        xr.DataArray(members, dims=("member", "point")),
        xr.DataArray(truth, dims="point"),
        "member",
        method="fair",
        preserve_dims="all",
    )
    np.testing.assert_allclose(statistics.fair_crps(members, truth), outside.to_numpy(), rtol=0, atol=ROUNDING)


def test_fair_crps_of_two_members_around_the_truth_is_known_by_hand() -> None:
    # members 0 and 4, truth 1: (1 + 3) / 2 - 4 / 2 = 0
    assert statistics.fair_crps(np.array([[0.0], [4.0]]), np.array([1.0])) == pytest.approx([0.0], abs=0)


def test_fair_crps_loses_no_digits_to_a_large_common_offset() -> None:
    rng = np.random.default_rng(3)
    # Multiples of 2^-20 below 4 keep all bits when 2^30 is added.
    members, truth = (np.round(rng.standard_normal(shape) * 2**20) / 2**20 for shape in ((20, 100), 100))
    far = statistics.fair_crps(members + 2.0**30, truth + 2.0**30)
    np.testing.assert_array_equal(far, statistics.fair_crps(members, truth))


@pytest.mark.parametrize("n_members", [2, 5, 20])
def test_fair_crps_of_exchangeable_normal_members_is_one_over_root_pi_for_every_size(n_members: int) -> None:
    draws = np.random.default_rng(4).standard_normal((n_members + 1, 200_000))
    crps = statistics.fair_crps(draws[1:], draws[0])
    standard_error = crps.std() / np.sqrt(crps.size)
    assert abs(crps.mean() - 1 / np.sqrt(np.pi)) < 4 * standard_error


def test_fair_crps_is_proper_for_normal_forecasts_of_a_standard_normal_truth() -> None:
    draws = np.random.default_rng(5).standard_normal((11, 100_000))
    right = statistics.fair_crps(draws[1:], draws[0])
    for mean, std in ((0.3, 1.0), (-0.3, 1.0), (0.0, 0.7), (0.0, 1.4)):
        loss = statistics.fair_crps(mean + std * draws[1:], draws[0]) - right
        assert loss.mean() > 4 * loss.std() / np.sqrt(loss.size), (mean, std)


def test_nan_in_a_member_or_in_the_truth_makes_crps_variance_and_error_nan() -> None:
    members, truth = np.random.default_rng(6).standard_normal((5, 3)), np.zeros(3)
    members[2, 0], truth[1] = np.nan, np.nan
    assert np.isnan(statistics.fair_crps(members, truth)).tolist() == [True, True, False]
    assert np.isnan(statistics.error(members, truth)).tolist() == [True, True, False]
    assert np.isnan(statistics.variance(members)).tolist() == [True, False, False]
    assert np.isnan(statistics.rank_counts(members, truth)).all()
    assert np.isnan(statistics.contingency_counts(members[0], truth, threshold=0.0)).all()
    assert np.isnan(statistics.exceedance_counts(members, truth, threshold=0.0)).all()


def test_rank_histogram_of_exchangeable_draws_is_uniform() -> None:
    n_members = 9
    draws = np.random.default_rng(7).standard_normal((n_members + 1, 20_000))
    counts = statistics.rank_counts(draws[1:], draws[0])
    expected = 20_000 / (n_members + 1)
    assert counts.sum() == 20_000
    assert ((counts - expected) ** 2 / expected).sum() < 21.67  # chi-square, 9 degrees of freedom, 99 %


def test_rank_histogram_equals_that_of_the_scores_library_with_and_without_ties() -> None:
    rng = np.random.default_rng(8)
    members, truth = rng.integers(0, 4, (6, 400)).astype(float), rng.integers(0, 4, 400).astype(float)
    members[:, 200:] += rng.standard_normal((6, 200))
    outside = rank_histogram(
        xr.DataArray(members, dims=("member", "point")), xr.DataArray(truth, dims="point"), "member"
    )
    # The library gives shares, ours are counts; it also shares ties among the bins.
    np.testing.assert_allclose(statistics.rank_counts(members, truth) / 400, outside.to_numpy(), rtol=0, atol=1e-12)


def test_ties_are_shared_so_that_fields_of_zeros_give_a_flat_histogram() -> None:
    counts = statistics.rank_counts(np.zeros((4, 100)), np.zeros(100))
    np.testing.assert_allclose(counts, np.full(5, 20.0), rtol=1e-14)


def test_contingency_counts_of_four_points_are_one_of_each() -> None:
    field, truth = np.array([2.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.5, 0.5])
    assert statistics.contingency_counts(field, truth, threshold=1.0).tolist() == [1, 1, 1, 1]


def test_exceedance_counts_votes_of_members_at_or_above_the_threshold() -> None:
    members = np.array([[1.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    counts = statistics.exceedance_counts(members, np.array([1.0, 0.0, 5.0]), threshold=1.0)
    assert counts.tolist() == [[1, 1, 1], [0, 1, 1]]
