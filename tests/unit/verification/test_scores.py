"""Final formulas: hand-made fields, closed forms, coverage and events."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scores.categorical import ThresholdEventOperator
from scores.probability import brier_score_for_ensemble

from cycler_da.errors import DataError
from cycler_da.verification.scores import coverage, event_scores, final_scores, reliability, score
from cycler_da.verification.sums import ScoreSums, deterministic_sums, ensemble_sums
from cycler_da.verification.totals import merge


def gaussian_sums(n_members: int, *, std: float = 1.0, n_points: int = 100_000, seed: int = 1) -> ScoreSums:
    draws = np.random.default_rng(seed).standard_normal((n_members + 1, 1, n_points))
    return ensemble_sums(std * draws[1:], draws[0], names=["z"])


def test_scores_of_two_members_and_two_points_are_those_made_by_hand() -> None:
    members = np.array([[[0.0, 2.0]], [[2.0, 6.0]]])  # means 1 and 4, variances 2 and 8
    truth = np.array([[1.0, 1.0]])  # errors 0 and 3
    scores = final_scores(ensemble_sums(members, truth, names=["z"]))["z"]
    assert scores["n"] == 2
    assert scores["bias"] == 1.5
    assert scores["mae"] == 1.5
    assert scores["rmse"] == pytest.approx(np.sqrt(4.5), rel=1e-15)
    assert scores["spread"] == pytest.approx(np.sqrt(5.0), rel=1e-15)
    assert scores["spread_skill"] == pytest.approx(np.sqrt(1.5 * 5.0 / 4.5), rel=1e-15)
    assert scores["fair_crps"] == pytest.approx(((1 - 1) + (3 - 2)) / 2, abs=1e-15)
    assert scores["rank_histogram"] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("n_members", [2, 4, 20])
def test_spread_skill_of_exchangeable_members_is_one_for_every_size(n_members: int) -> None:
    # Relative standard error of either root mean square over 1e5 points of a normal is below 1/sqrt(2e5) = 0.0022.
    assert score(gaussian_sums(n_members), "z", "spread_skill") == pytest.approx(1.0, abs=0.01)


def test_spread_skill_shows_half_of_the_spread_missing() -> None:
    expected = np.sqrt(21 / 20 * 0.25 / (1 + 0.25 / 20))
    assert score(gaussian_sums(20, std=0.5), "z", "spread_skill") == pytest.approx(expected, rel=0.01)


def test_a_perfect_forecast_has_zero_error_and_an_undefined_or_infinite_ratio() -> None:
    truth = np.arange(4.0).reshape(1, 4)
    same = final_scores(ensemble_sums(np.stack([truth, truth]), truth, names=["z"]))["z"]
    assert (same["rmse"], same["fair_crps"], same["spread"]) == (0.0, 0.0, 0.0)
    assert np.isnan(same["spread_skill"])
    around = score(ensemble_sums(np.stack([truth - 1, truth + 1]), truth, names=["z"]), "z", "spread_skill")
    assert around == np.inf


def test_pooled_scores_are_those_of_the_normalised_fields() -> None:
    rng = np.random.default_rng(2)
    scale = np.array([100.0, 1e-6])
    members, truth = rng.standard_normal((7, 2, 50)), rng.standard_normal((2, 50))
    pooled = final_scores(ensemble_sums(members * scale[:, None], truth * scale[:, None], scale=scale))["all"]
    one = final_scores(ensemble_sums(members.reshape(7, 1, 100), truth.reshape(1, 100), names=["z"]))["z"]
    for metric in one:
        assert pooled[metric] == pytest.approx(one[metric], rel=1e-12, nan_ok=True), metric


def test_scores_scale_with_the_units_of_the_variable() -> None:
    rng = np.random.default_rng(3)
    members, truth = rng.standard_normal((5, 1, 40)), rng.standard_normal((1, 40))
    metres, kilometres = (final_scores(ensemble_sums(u * members, u * truth, names=["z"]))["z"] for u in (1.0, 1e-3))
    for metric in ("rmse", "bias", "mae", "fair_crps", "spread"):
        assert kilometres[metric] == pytest.approx(1e-3 * metres[metric], rel=1e-12), metric
    for metric in ("spread_skill", "coverage_50", "rank_histogram"):
        assert kilometres[metric] == pytest.approx(metres[metric], rel=1e-12), metric


def test_crps_of_a_single_forecast_is_its_absolute_error_and_it_has_no_spread() -> None:
    sums = deterministic_sums(np.array([[1.0, -3.0]]), np.zeros((1, 2)), names=["z"])
    scores = final_scores(sums)["z"]
    assert scores["fair_crps"] == scores["mae"] == 2.0
    assert scores["rmse"] == np.sqrt(5.0)
    assert not {"spread", "spread_skill", "rank_histogram"} & scores.keys()
    with pytest.raises(DataError, match="spread_skill"):
        score(sums, "z", "spread_skill")


def test_unknown_variables_and_a_missing_pool_are_named() -> None:
    sums = gaussian_sums(3, n_points=10)
    with pytest.raises(DataError, match="there are: z"):
        score(sums, "q1", "rmse")
    with pytest.raises(DataError, match="scale"):
        score(sums, "all", "rmse")


@pytest.mark.parametrize("n_members", [2, 9, 20])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.9])
def test_coverage_of_a_flat_histogram_is_its_level_or_undefined(n_members: int, level: float) -> None:
    got = coverage(np.full(n_members + 1, 7.0), level)
    if level > (n_members - 1) / (n_members + 1):
        assert np.isnan(got)
    else:
        assert got == pytest.approx(level, rel=1e-14)


def test_coverage_at_an_attainable_level_counts_truths_between_order_statistics() -> None:
    rng = np.random.default_rng(4)
    members, truth = 0.6 * rng.standard_normal((9, 1, 3000)), rng.standard_normal((1, 3000))
    ordered = np.sort(members[:, 0], axis=0)
    inside = ((truth[0] > ordered[1]) & (truth[0] < ordered[-2])).mean()  # 2nd to 8th of 9: level 6/10
    ranks = ensemble_sums(members, truth, names=["z"]).totals.of("z")["ranks"]
    assert coverage(ranks, 0.6) == pytest.approx(inside, rel=1e-12)


def test_events_by_hand() -> None:
    members = np.array([[[2.0, 2.0, 0.0, 0.0]], [[2.0, 0.0, 2.0, 0.0]]])  # mean reaches 1 at the first three
    truth = np.array([[1.0, 0.0, 1.0, 1.0]])
    sums = ensemble_sums(members, truth, names=["vil"], thresholds={"vil": [1.0]})
    scores = event_scores(sums, "vil")[1.0]
    assert (scores["csi"], scores["pod"], scores["far"]) == (2 / 4, 2 / 3, 1 / 3)
    assert (scores["frequency_bias"], scores["base_rate"]) == (1.0, 3 / 4)
    assert scores["brier"] == (0.0 + 0.25 + 0.25 + 1.0) / 4


def test_events_equal_those_of_the_scores_library() -> None:
    rng = np.random.default_rng(5)
    thresholds = [0.5, 2.0, 5.0]
    fields = [(rng.gamma(0.7, 2.0, (8, 1, 30, 20)), rng.gamma(0.7, 2.0, (1, 30, 20))) for _ in range(3)]
    ours = event_scores(
        merge(ensemble_sums(m, t, names=["vil"], thresholds={"vil": thresholds}) for m, t in fields), "vil"
    )
    members = xr.DataArray(np.stack([m[:, 0] for m, _ in fields]), dims=("time", "member", "y", "x"))
    truth = xr.DataArray(np.stack([t[0] for _, t in fields]), dims=("time", "y", "x"))
    brier = brier_score_for_ensemble(members, truth, "member", thresholds, fair_correction=False)
    for position, threshold in enumerate(thresholds):
        table = ThresholdEventOperator(default_event_threshold=threshold).make_contingency_manager(
            members.mean("member"), truth
        )
        expected = {
            "csi": table.critical_success_index(),
            "pod": table.probability_of_detection(),
            "far": table.false_alarm_ratio(),
            "frequency_bias": table.frequency_bias(),
            "base_rate": table.base_rate(),
            "brier": brier[position],
        }
        for metric, value in expected.items():
            assert ours[threshold][metric] == pytest.approx(float(value), rel=1e-12, nan_ok=True), (threshold, metric)


def test_an_event_that_nobody_saw_or_forecast_has_no_csi() -> None:
    zeros = np.zeros((1, 5))
    scores = event_scores(deterministic_sums(zeros, zeros, names=["vil"], thresholds={"vil": [1.0]}), "vil")[1.0]
    assert np.isnan([scores[name] for name in ("csi", "pod", "far", "frequency_bias")]).all()
    assert scores["brier"] == 0.0


def test_brier_score_of_a_single_forecast_is_its_share_of_wrong_points() -> None:
    forecast, truth = np.array([[0.0, 1.0, 1.0, 0.0]]), np.array([[0.0, 1.0, 0.0, 0.0]])
    sums = deterministic_sums(forecast, truth, names=["vil"], thresholds={"vil": [0.5]})
    assert event_scores(sums, "vil")[0.5]["brier"] == 0.25


def test_nan_makes_every_event_score_nan() -> None:
    members, truth = np.ones((3, 1, 4)), np.ones((1, 4))
    truth[0, 0] = np.nan
    scores = event_scores(ensemble_sums(members, truth, names=["vil"], thresholds={"vil": [0.5]}), "vil")[0.5]
    assert np.isnan(list(scores.values())).all()


def test_reliability_of_a_calibrated_probability_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(6)
    chance = rng.integers(0, 5, 40_000) / 4  # the probability the forecast states, k of 4 members
    members = (np.arange(4)[:, None] < 4 * chance).astype(float)[:, None]
    truth = (rng.random(40_000) < chance).astype(float)[None]
    diagram = reliability(ensemble_sums(members, truth, names=["r"], thresholds={"r": [0.5]}), "r", 0.5)
    assert diagram["n"].sum() == 40_000
    # Standard error of a frequency over 8000 points is at most 0.0056.
    np.testing.assert_allclose(diagram["frequency"], diagram["probability"], atol=0.025)
