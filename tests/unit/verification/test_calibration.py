"""Calibration on observations: exact on exchangeable draws, mergeable, stored without loss, and honest about change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from cycler_da.errors import DataError
from cycler_da.verification.calibration import (
    CalibrationSums,
    calibration_sums,
    calibrations,
    chi_squares,
    squared_spreads,
)
from cycler_da.verification.drift import LEAST_BEFORE, RECENT, SPREAD_MATTERS, drift
from cycler_da.verification.window import CycleCalibration, pack, unpack, usual

MEMBERS, N_OBS, ERROR = 19, 300, 0.5


def _cycle(seed: int, *, scale: float = 1.0, n_obs: int = N_OBS, group: str = "net/x") -> CalibrationSums:
    """Truth and members are draws of N(centre, 1); the spread of the members is scaled."""
    generator = default_rng(seed)
    centre = generator.normal(size=n_obs)
    truth = centre + generator.normal(size=n_obs)
    hx = centre + scale * generator.normal(size=(MEMBERS, n_obs))
    value = truth + ERROR * generator.normal(size=n_obs)
    predicted = hx + ERROR * generator.normal(size=hx.shape)
    return calibration_sums(
        group, predicted, hx, value, error=np.full(n_obs, ERROR), units="K", thresholds=(-1.0, 0.0, 1.0)
    )


def test_intervals_of_exchangeable_members_hold_what_they_declare():
    (found,) = calibrations([_cycle(seed) for seed in range(40)])
    assert (found.name, found.units, found.n_obs, found.n_cycles) == ("net/x", "K", 40 * N_OBS, 40)
    for (value, low, high), level in zip(found.coverage, (0.5, 0.8, 0.9), strict=True):
        # 12000 independent observations: standard error at most 0.0046.
        assert value == pytest.approx(level, abs=0.015)
        assert low < value < high and high - low < 0.04
    # (1 + 1/M) spread^2 + error^2 with the variance of 19 members in the denominator: 1.03 is exact to a per cent.
    assert found.chi_square[0] == pytest.approx(1.06, abs=0.04)
    assert sum(found.rank_histogram) == 40 * N_OBS and len(found.rank_histogram) == MEMBERS + 1


def test_the_fair_crps_of_standard_normal_members_is_known():
    """Fair CRPS of exchangeable draws of variance s^2 is s / sqrt(pi), here around a known centre."""
    (found,) = calibrations([_cycle(seed) for seed in range(40)])
    assert found.fair_crps[0] == pytest.approx(np.sqrt(1 + ERROR**2) / np.sqrt(np.pi), rel=0.02)


def test_reliability_counts_every_observation_once_for_each_event():
    (found,) = calibrations([_cycle(seed) for seed in range(5)])
    assert found.thresholds == (-1.0, 0.0, 1.0)
    for of_all, of_events in found.reliability:
        assert len(of_all) == MEMBERS + 1 and sum(of_all) == 5 * N_OBS
        assert all(0 <= events <= count for events, count in zip(of_events, of_all, strict=True))
    assert sum(found.reliability[0][1]) > sum(found.reliability[2][1])


def test_a_spread_that_is_too_small_shows_in_coverage_ranks_and_chi_square():
    (found,) = calibrations([_cycle(seed, scale=0.5) for seed in range(10)])
    assert found.coverage[0][2] < 0.45
    assert found.rank_histogram[0] + found.rank_histogram[-1] > 0.15 * found.n_obs
    assert found.chi_square[1] > 1.3


def test_sums_of_two_cycles_are_the_sums_of_both_and_survive_json():
    first, second = _cycle(1), _cycle(2, group="other/x")
    both = first + second + _cycle(3)
    assert set(both.scores) == {"net/x", "other/x"}
    (net, other) = calibrations([both])
    assert (net.n_obs, other.n_obs) == (2 * N_OBS, N_OBS)
    assert CalibrationSums.from_json(both.to_json()) == both
    assert np.isnan(net.coverage[0][1])  # one cycle has no interval


def test_cycles_with_another_number_of_members_do_not_count():
    generator = default_rng(0)
    hx = generator.normal(size=(5, 20))
    small = calibration_sums("net/x", hx, hx, generator.normal(size=20), error=np.ones(20))
    (found,) = calibrations([small, _cycle(1), _cycle(2)])
    assert (found.n_cycles, found.n_obs) == (2, 2 * N_OBS)


def test_a_window_comes_back_as_it_was_and_equal_windows_are_equal_bytes():
    window = tuple(
        CycleCalibration(str(i), _cycle(i), _cycle(i + 50, n_obs=9), deviation={"net/x": 1.0 + i}) for i in range(3)
    )
    assert unpack(pack(window)) == window
    assert pack(window) == pack(unpack(pack(window)))
    for damaged in (pack(window)[:-9], b"", b"{}"):
        with pytest.raises(DataError, match="calibration window cannot be read"):
            unpack(damaged)


def test_what_is_usual_is_the_median_of_at_least_five_cycles():
    series = [{"a": float(i), "b": 1.0} if i < 4 else {"a": 100.0} for i in range(5)]
    assert usual(series) == {"a": 2.0}


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_a_spread_that_changes_is_flagged_when_the_recent_cycles_are_through(scale: float):
    before = [_cycle(seed) for seed in range(30)]
    after = [_cycle(seed + 100, scale=scale) for seed in range(max(RECENT))]
    found = drift(chi_squares([*before, *after], "net"))
    assert found is not None and found.is_flagged
    assert (found.ratio > 1) == (scale < 1)
    assert "net has changed" in found.describe("net")


def test_a_spread_far_below_the_error_is_flagged_by_itself_where_innovations_cannot_tell():
    generator, sums = default_rng(3), []
    for k in range(40):
        hx = 0.2 * (0.7 if k >= 40 - max(RECENT) else 1.0) * generator.normal(size=(20, 40))
        sums.append(calibration_sums("net/x", hx, hx, generator.normal(size=40), error=np.ones(40)))
    found = drift(squared_spreads(sums, "net"), matters=SPREAD_MATTERS)
    assert found is not None and found.is_flagged
    assert found.ratio == pytest.approx(0.49, rel=0.1)  # 12 cycles of 800 squares beside 28: 2 % standard error
    assert "the spread of the background" in found.describe_spread("net")
    by_innovations = drift(chi_squares(sums, "net"))
    assert by_innovations is not None and not by_innovations.is_flagged


def test_an_ensemble_that_stays_as_it_is_is_not_flagged():
    series = chi_squares([_cycle(seed) for seed in range(400)], "net")
    flags = [drift(series[k : k + 40]).is_flagged for k in range(360)]
    assert np.mean(flags) < 0.01  # windows overlap: a rare run of cycles may be flagged several times


def test_too_few_cycles_tell_no_drift():
    assert drift(np.ones(min(RECENT) + LEAST_BEFORE - 1)) is None
    assert drift(np.zeros(40)) is None
