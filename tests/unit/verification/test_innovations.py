"""Innovation statistics: a scalar optimal analysis, wrong error assumptions, dense linear algebra."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cycler_da.errors import LayoutMismatch
from cycler_da.verification.innovations import (
    InnovationSums,
    innovation_scores,
    innovation_sums,
    joint_chi_square,
)

N_OBS = 200_000


def twin(*, true_error: float, assumed_error: float, background: float = 1.0, seed: int = 1) -> dict[str, float]:
    """Scalar Kalman analyses with a background error of known size and possibly wrong observation error."""
    rng = np.random.default_rng(seed)
    innovation = true_error * rng.standard_normal(N_OBS) - background * rng.standard_normal(N_OBS)
    gain = background**2 / (background**2 + assumed_error**2)
    sums = innovation_sums(
        innovation,
        residual=(1 - gain) * innovation,
        group="stations/q1",
        error=np.full(N_OBS, assumed_error),
        spread=np.full(N_OBS, background),
        n_members=10**9,  # an ensemble whose mean is exact
    )
    return innovation_scores(sums)["stations/q1"]


def test_optimal_analysis_gives_chi_square_one_and_finds_all_three_errors() -> None:
    scores = twin(true_error=0.5, assumed_error=0.5)
    # Relative standard error of a variance over 2e5 values is sqrt(2/2e5) = 0.003.
    assert scores["chi_square"] == pytest.approx(1.0, rel=0.012)
    assert scores["desroziers_error"] == pytest.approx(0.5, rel=0.01)
    assert scores["desroziers_background"] == pytest.approx(1.0, rel=0.01)
    assert scores["desroziers_analysis"] == pytest.approx(np.sqrt(1.0 * 0.25 / 1.25), rel=0.01)
    assert (scores["assumed_error"], scores["spread"]) == pytest.approx((0.5, 1.0), rel=1e-12)


def test_an_assumed_error_that_is_too_small_shows_in_chi_square_and_moves_the_estimate_the_right_way() -> None:
    scores = twin(true_error=1.0, assumed_error=0.5)
    gain = 1 / 1.25
    assert scores["chi_square"] == pytest.approx(2.0 / 1.25, rel=0.012)
    assert scores["desroziers_error"] == pytest.approx(np.sqrt((1 - gain) * 2.0), rel=0.01)
    assert scores["desroziers_error"] > scores["assumed_error"]


def test_the_mean_of_few_members_errs_more_and_chi_square_knows_it() -> None:
    rng = np.random.default_rng(2)
    n_members = 4
    members, truth = rng.standard_normal((n_members, N_OBS)), rng.standard_normal(N_OBS)
    innovation = truth + 0.3 * rng.standard_normal(N_OBS) - members.mean(axis=0)
    sums = innovation_sums(innovation, group="g", error=np.full(N_OBS, 0.3), spread=np.ones(N_OBS), n_members=n_members)
    assert innovation_scores(sums)["g"]["chi_square"] == pytest.approx(1.0, rel=0.012)


def test_two_observations_by_hand() -> None:
    sums = innovation_sums(
        np.array([1.0, -3.0]),
        residual=np.array([0.5, -1.0]),
        group="g",
        error=np.array([1.0, 1.0]),
        spread=np.array([0.0, 2.0]),
        n_members=2,
    )
    scores = innovation_scores(sums)["g"]
    assert (scores["n"], scores["bias"], scores["rms"]) == (2, -1.0, np.sqrt(5.0))
    assert scores["chi_square"] == pytest.approx((1.0 / 1.0 + 9.0 / 7.0) / 2)
    assert scores["desroziers_error"] == pytest.approx(np.sqrt((0.5 + 3.0) / 2))
    assert scores["desroziers_background"] == pytest.approx(np.sqrt(5.0 - 1.75))
    assert scores["desroziers_analysis"] == pytest.approx(np.sqrt(1.75 - 0.625))


def test_a_negative_variance_estimate_is_nan() -> None:
    ones = np.ones(3)
    sums = innovation_sums(ones, residual=-ones, group="g", error=ones, spread=ones, n_members=5)
    assert np.isnan(innovation_scores(sums)["g"]["desroziers_error"])


def test_missing_values_make_scores_nan_unless_masked() -> None:
    values, ones = np.array([1.0, np.nan]), np.ones(2)
    options = {"group": "g", "error": ones, "spread": ones, "n_members": 5}
    assert np.isnan(innovation_scores(innovation_sums(values, **options))["g"]["chi_square"])
    masked = innovation_sums(values, mask=np.array([True, False]), **options)
    assert innovation_scores(masked)["g"]["rms"] == 1.0


def test_groups_merge_apart_and_a_stream_may_be_absent_in_a_cycle() -> None:
    ones = np.ones(4)
    a, b = (innovation_sums(ones, group=g, error=ones, spread=ones, n_members=5) for g in ("a", "b"))
    merged = a + b + a
    assert {group: scores["n"] for group, scores in innovation_scores(merged).items()} == {"a": 8, "b": 4}
    assert InnovationSums.from_json(json.loads(json.dumps(merged.to_json(), allow_nan=False))) == merged


def test_no_observations_give_nan_scores_and_do_not_spoil_the_sum() -> None:
    none, ones = np.zeros(0), np.ones(4)
    empty = innovation_sums(none, group="a", error=none, spread=none, n_members=5)
    assert np.isnan(innovation_scores(empty)["a"]["chi_square"])
    full = innovation_sums(ones, group="a", error=ones, spread=ones, n_members=5)
    assert innovation_scores(empty + full) == innovation_scores(full)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(LayoutMismatch, match="stations/q1"):
        innovation_sums(np.ones(3), group="stations/q1", error=np.ones(2), spread=np.ones(3), n_members=5)


def test_joint_chi_square_equals_the_dense_solve() -> None:
    rng = np.random.default_rng(3)
    hx, innovation, error = rng.standard_normal((6, 15)), rng.standard_normal(15), rng.uniform(0.5, 2.0, 15)
    dense = np.cov(hx, rowvar=False) + np.diag(error**2)
    expected = innovation @ np.linalg.solve(dense, innovation)
    assert joint_chi_square(innovation, hx, error) == pytest.approx(expected, rel=1e-12)
