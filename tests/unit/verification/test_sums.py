"""Score sums: merging, JSON, masks and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycler_da.errors import DataError, LayoutMismatch
from cycler_da.verification.scores import final_scores, score
from cycler_da.verification.sums import ScoreSums, deterministic_sums, ensemble_sums, merge_by_size
from cycler_da.verification.totals import Totals, merge

NAMES = ("q1", "q2")
SCALE = np.array([8.2e-6, 1.06e-6])


def draw(seed: int, *, n_members: int = 6, space: tuple[int, ...] = (5, 4)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = SCALE.reshape(2, *[1] * len(space))
    members = scale * rng.standard_normal((n_members, 2, *space))
    return members, scale * rng.standard_normal((2, *space))


def make_sums(seed: int, **changes: object) -> ScoreSums:
    members, truth = draw(seed)
    settings = {"scale": SCALE, "names": NAMES, "thresholds": {"q1": [0.0, 5e-6]}} | changes
    return ensemble_sums(members, truth, **settings)


def as_array(sums: ScoreSums) -> np.ndarray:
    return np.concatenate([total for name in sums.variables for total in sums.totals.of(name).values()])


def test_sums_of_two_halves_of_a_field_merge_to_the_sums_of_the_field() -> None:
    members, truth = draw(1)
    options = {"scale": SCALE, "names": NAMES, "thresholds": {"q2": [1e-6]}}
    whole = ensemble_sums(members, truth, **options)
    halves = ensemble_sums(members[..., :2], truth[..., :2], **options) + ensemble_sums(
        members[..., 2:], truth[..., 2:], **options
    )
    np.testing.assert_allclose(as_array(halves), as_array(whole), rtol=1e-13)


def test_merging_is_associative_and_commutative_to_rounding() -> None:
    a, b, c = (make_sums(seed) for seed in (1, 2, 3))
    np.testing.assert_allclose(as_array((a + b) + c), as_array(a + (b + c)), rtol=1e-13)
    np.testing.assert_array_equal(as_array(a + b), as_array(b + a))
    assert (a + b + c).n_fields == 3


def test_rmse_of_merged_cycles_is_the_root_of_the_mean_square_and_not_the_mean_of_roots() -> None:
    truth = np.zeros((1, 4))
    cycles = [deterministic_sums(np.full((1, 4), value), truth, names=["z"]) for value in (1.0, 7.0)]
    assert score(merge(cycles), "z", "rmse") == 5.0


def test_json_gives_back_the_same_bits() -> None:
    sums = make_sums(4) + make_sums(5)
    text = json.dumps(sums.to_json(), allow_nan=False)
    again = ScoreSums.from_json(json.loads(text))
    assert again == sums
    assert json.dumps(again.to_json(), allow_nan=False) == text


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_json_gives_back_any_float(values: list[float]) -> None:
    totals = Totals({"z": {"error": tuple(values)}})
    assert Totals.from_json(json.loads(json.dumps(totals.to_json(), allow_nan=False))) == totals


def test_nan_survives_merging_and_strict_json() -> None:
    members, truth = draw(6)
    truth[0, 0, 0] = np.nan
    bad = ensemble_sums(members, truth, scale=SCALE, names=NAMES)
    merged = bad + ensemble_sums(*draw(7), scale=SCALE, names=NAMES)
    scores = final_scores(ScoreSums.from_json(json.loads(json.dumps(merged.to_json(), allow_nan=False))))
    for metric in ("rmse", "bias", "mae", "fair_crps", "spread_skill", "coverage_50"):
        assert np.isnan(scores["q1"][metric]), metric
        assert np.isnan(scores["all"][metric]), metric
        assert np.isfinite(scores["q2"][metric]) or np.isnan(score(make_sums(7), "q2", metric)), metric


def test_crps_of_a_nan_member_is_nan_and_not_that_of_the_other_members() -> None:
    members, truth = draw(8)
    members[3, 1, 2, 2] = np.nan
    sums = ensemble_sums(members, truth, names=NAMES)
    assert np.isnan(score(sums, "q2", "fair_crps"))
    assert np.isfinite(score(sums, "q1", "fair_crps"))


def test_infinite_member_gives_no_finite_score() -> None:
    members, truth = draw(9)
    members[0, 0, 0, 0] = np.inf
    sums = ensemble_sums(members, truth, names=NAMES)
    assert not any(np.isfinite(score(sums, "q1", metric)) for metric in ("rmse", "fair_crps", "spread"))


def test_masked_points_count_as_if_they_were_not_there() -> None:
    members, truth = draw(10)
    mask = np.ones(truth.shape[1:], dtype=bool)
    mask[:, 0] = False
    cut = ensemble_sums(members[..., 1:], truth[..., 1:], scale=SCALE, names=NAMES)
    members[..., 0], truth[..., 0] = np.nan, np.nan
    masked = ensemble_sums(members, truth, scale=SCALE, names=NAMES, mask=mask)
    assert masked == cut


def test_mask_may_differ_between_variables() -> None:
    members, truth = draw(11)
    mask = np.stack([np.zeros((5, 4), dtype=bool), np.ones((5, 4), dtype=bool)])
    scores = final_scores(ensemble_sums(members, truth, scale=SCALE, names=NAMES, mask=mask))
    assert scores["q1"]["n"] == 0
    assert np.isnan(scores["q1"]["rmse"])
    assert scores["all"]["rmse"] == pytest.approx(scores["q2"]["rmse"] / SCALE[1], rel=1e-14)


def test_float32_fields_are_verified_in_float64() -> None:
    members, truth = draw(12)
    members, truth = members.astype(np.float32), truth.astype(np.float32)
    single = ensemble_sums(members, truth, names=NAMES)
    assert single == ensemble_sums(members.astype(np.float64), truth.astype(np.float64), names=NAMES)


def test_fields_with_one_or_no_space_axis_are_verified_too() -> None:
    members, truth = draw(13, space=(20,))
    flat = ensemble_sums(members, truth, names=NAMES)
    square = ensemble_sums(members.reshape(6, 2, 5, 4), truth.reshape(2, 5, 4), names=NAMES)
    assert flat == square
    points = [ensemble_sums(members[..., i], truth[..., i], names=NAMES) for i in range(20)]
    np.testing.assert_allclose(as_array(merge(points)), as_array(flat), rtol=1e-12)


def test_different_ensemble_sizes_are_refused_by_plus_and_kept_apart_by_merge_by_size() -> None:
    small, large = (ensemble_sums(*draw(seed, n_members=m), names=NAMES) for seed, m in ((1, 5), (2, 6)))
    with pytest.raises(LayoutMismatch, match=r"n_members differ, got 6, expected 5.*merge_by_size"):
        small + large
    apart = merge_by_size([large, small, large])
    assert list(apart) == [6, 5]
    assert apart[6] == large + large


def test_a_single_forecast_is_not_merged_with_an_ensemble() -> None:
    members, truth = draw(1)
    with pytest.raises(LayoutMismatch, match="n_members"):
        deterministic_sums(members[0], truth, names=NAMES) + ensemble_sums(members, truth, names=NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 2 * SCALE}, "scale"),
        ({"thresholds": {"q1": [1e-6]}}, "thresholds"),
        ({"names": ("q1", "q3"), "thresholds": None}, "variables"),
    ],
)
def test_sums_made_with_other_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LayoutMismatch, match=message):
        make_sums(1) + make_sums(2, **change)


def test_an_ensemble_of_one_is_refused_with_the_way_out() -> None:
    members, truth = draw(1, n_members=1)
    with pytest.raises(DataError, match="deterministic_sums"):
        ensemble_sums(members, truth)


def test_shapes_names_masks_scales_and_thresholds_that_do_not_fit_are_refused() -> None:
    members, truth = draw(1)
    with pytest.raises(LayoutMismatch, match="shape"):
        ensemble_sums(members[..., 1:], truth)
    with pytest.raises(LayoutMismatch, match="names"):
        ensemble_sums(members, truth, names=["q1", "all"])
    with pytest.raises(LayoutMismatch, match="names"):
        ensemble_sums(members, truth, names=["q1"])
    with pytest.raises(LayoutMismatch, match="mask"):
        ensemble_sums(members, truth, mask=np.ones((5, 4)))
    with pytest.raises(DataError, match="scale"):
        ensemble_sums(members, truth, scale=np.array([1.0, 0.0]))
    with pytest.raises(LayoutMismatch, match="q9"):
        ensemble_sums(members, truth, names=NAMES, thresholds={"q9": [1.0]})


def test_merging_nothing_and_reading_something_else_are_refused() -> None:
    with pytest.raises(DataError, match="none"):
        merge([])
    with pytest.raises(DataError, match="format"):
        ScoreSums.from_json({"totals": {}})
    damaged = make_sums(1).to_json()
    del damaged["totals"]
    with pytest.raises(DataError, match="totals"):
        ScoreSums.from_json(damaged)
