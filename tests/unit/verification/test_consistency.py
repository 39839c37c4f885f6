"""Intervals over cycles: exact quantiles, known series, and how often an interval holds the truth."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import t as student

from cycler_da.errors import DataError
from cycler_da.verification.consistency import (
    effective_size,
    mean_interval,
    paired_difference,
    pseudo_values,
    rank_chi_square,
    score_interval,
    t_quantile,
)
from cycler_da.verification.scores import score
from cycler_da.verification.sums import ScoreSums, ensemble_sums
from cycler_da.verification.totals import merge

rmse = partial(score, variable="z", metric="rmse")


def make_cycles(
    seed: int, *, n_cycles: int = 12, size: np.ndarray | float = 1.0, harder: float = 1.0
) -> list[ScoreSums]:
    rng = np.random.default_rng(seed)
    sizes = np.broadcast_to(size, n_cycles)
    draws = rng.standard_normal((n_cycles, 5, 1, 200))
    return [ensemble_sums(harder * s * d[1:], s * d[0], names=["z"]) for s, d in zip(sizes, draws, strict=True)]


def ar1(rho: float, n_cycles: int, n_series: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((100 + n_cycles, n_series))
    for step in range(1, len(noise)):
        noise[step] += rho * noise[step - 1]
    return noise[100:].T


@pytest.mark.parametrize("degrees", [1.0, 1.7, 4.0, 19.0, 150.0])
@pytest.mark.parametrize("probability", [0.75, 0.95, 0.975, 0.995])
def test_t_quantiles_equal_those_of_scipy(degrees: float, probability: float) -> None:
    # 2e-5 is the error of the quadrature that the module states.
    assert t_quantile(probability, degrees) == pytest.approx(student.ppf(probability, degrees), rel=3e-5)


def test_interval_of_an_alternating_series_is_that_of_independent_values() -> None:
    series = np.array([1.0, 3.0] * 5)  # negative autocorrelation must not narrow the interval
    estimate = mean_interval(series)
    half = student.ppf(0.975, 9) * series.std(ddof=1) / np.sqrt(10)
    assert estimate.n_effective == 10
    assert (estimate.low, estimate.high) == pytest.approx((2 - half, 2 + half), rel=1e-4)


def test_a_constant_series_has_an_interval_of_no_width() -> None:
    estimate = mean_interval(np.full(8, 0.25))
    assert (estimate.value, estimate.low, estimate.high) == (0.25, 0.25, 0.25)


def test_one_cycle_has_a_value_and_no_interval() -> None:
    estimate = mean_interval(np.array([2.0]))
    assert estimate.value == 2.0
    assert np.isnan([estimate.low, estimate.high]).all()
    assert not estimate.excludes_zero


def test_a_nan_cycle_makes_mean_and_interval_nan() -> None:
    estimate = mean_interval(np.array([1.0, np.nan, 2.0, 3.0, 1.0, 2.0]))
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


def test_an_empty_series_is_refused() -> None:
    with pytest.raises(DataError, match="each cycle"):
        mean_interval(np.array([]))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_effective_size_of_a_long_ar1_series_is_the_published_ratio(rho: float) -> None:
    sizes = [effective_size(series) for series in ar1(rho, 5000, 20, seed=1)]
    # The lag-1 estimate has standard error sqrt((1 - rho^2)/5000) = 0.01, so the ratio errs by a few percent.
    assert np.mean(sizes) / 5000 == pytest.approx((1 - rho) / (1 + rho), rel=0.03)


def test_interval_holds_the_mean_of_correlated_cycles_where_the_plain_one_does_not() -> None:
    series = ar1(0.6, 60, 400, seed=2)
    corrected = np.mean([e.low <= 0 <= e.high for e in map(mean_interval, series)])
    plain_half = student.ppf(0.975, 59) * series.std(axis=1, ddof=1) / np.sqrt(60)
    plain = (np.abs(series.mean(axis=1)) <= plain_half).mean()
    # Standard error of a coverage of 0.95 over 400 series is 0.011.
    assert corrected > 0.91
    assert plain < 0.80


def test_pseudo_values_of_a_plain_mean_are_the_values_of_the_cycles() -> None:
    cycles = make_cycles(3)
    bias = partial(score, variable="z", metric="bias")
    np.testing.assert_allclose(pseudo_values(cycles, bias), [bias(cycle) for cycle in cycles], rtol=0, atol=1e-13)


def test_score_interval_is_centred_on_the_score_of_all_cycles_merged() -> None:
    cycles = make_cycles(4, size=np.linspace(0.5, 2.0, 12))
    estimate = score_interval(cycles, rmse)
    assert estimate.value == rmse(merge(cycles))
    assert estimate.value - estimate.low == pytest.approx(estimate.high - estimate.value, rel=1e-12)


def test_rmse_interval_follows_the_delta_method() -> None:
    cycles = make_cycles(5, n_cycles=200)
    squares = np.array([rmse(cycle) ** 2 for cycle in cycles])
    estimate, of_squares = score_interval(cycles, rmse), mean_interval(squares)
    # d sqrt(u) = du / (2 sqrt(u)); the next order is the relative interval, some 1 %.
    expected = (of_squares.high - of_squares.low) / (2 * estimate.value)
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.02)


def test_a_score_of_one_cycle_has_no_interval() -> None:
    estimate = score_interval(make_cycles(6, n_cycles=1), rmse)
    assert np.isfinite(estimate.value)
    assert np.isnan(estimate.low)


def test_pairing_finds_a_small_difference_that_separate_intervals_hide() -> None:
    size = np.exp(np.random.default_rng(7).standard_normal(30))  # easy and hard cycles
    good, worse = (make_cycles(8, n_cycles=30, size=size, harder=factor) for factor in (1.0, 1.1))
    difference = paired_difference(good, worse, rmse)
    assert difference.value == pytest.approx(rmse(merge(good)) - rmse(merge(worse)), rel=1e-12)
    assert difference.excludes_zero and difference.high < 0
    assert score_interval(good, rmse).high > score_interval(worse, rmse).low


def test_a_chain_does_not_differ_from_itself() -> None:
    cycles = make_cycles(9)
    estimate = paired_difference(cycles, cycles, rmse)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_chains_of_different_length_are_not_compared() -> None:
    with pytest.raises(DataError, match="3 and 4 cycles"):
        paired_difference(make_cycles(1, n_cycles=3), make_cycles(1, n_cycles=4), rmse)


def test_rank_chi_square_is_zero_when_flat_and_counts_departures() -> None:
    assert rank_chi_square(np.full(5, 8.0)) == 0.0
    assert rank_chi_square(np.array([10.0, 6.0, 8.0])) == pytest.approx((4 + 4 + 0) / 8 / 2)
