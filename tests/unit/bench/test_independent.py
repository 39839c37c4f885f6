"""Rows of independent values: Student's t, and what is missing is not counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cycler_da.bench.independent import independent_row, pooled_spread_skill, spread_skill_row


def test_the_interval_is_student_s():
    row = independent_row("case", "method", "metric", [1.0, 2.0, 3.0])
    half = 4.302653 * 1.0 / math.sqrt(3)  # t of 2 degrees of freedom at 0.975; standard deviation 1
    assert (row.value, row.n) == (2.0, 3)
    assert row.high == pytest.approx(2 + half, rel=1e-5)
    assert row.low == pytest.approx(2 - half, rel=1e-5)


def test_nan_is_left_out_and_one_value_has_no_interval():
    row = independent_row("case", "method", "metric", [4.0, math.nan])
    assert (row.value, row.low, row.high, row.n) == (4.0, None, None, 1)
    nothing = independent_row("case", "method", "metric", [math.nan])
    assert math.isnan(nothing.value)
    assert nothing.n == 0


def test_spread_skill_is_the_ratio_of_sums_and_members_like_the_truth_have_one():
    assert pooled_spread_skill([1.0, 2.0], [2.0, 0.5]) == pytest.approx(((4 + 1) / (1 + 4)) ** 0.5)
    # 24 members and a truth of one law in four dimensions: the mean of ratios is 1.2, the ratio of sums 1.
    draws = np.random.default_rng(1).standard_normal((4000, 25, 4))
    members, truth = draws[:, :24], draws[:, 24]
    rmse = np.sqrt(((members.mean(axis=1) - truth) ** 2).mean(axis=1))
    each = np.sqrt((1 + 1 / 24) * members.var(axis=1, ddof=1).mean(axis=1)) / rmse
    assert each.mean() > 1.15
    # Four standard errors of a mean square of 16 000 values.
    assert pooled_spread_skill(rmse, each) == pytest.approx(1.0, abs=4 * (2 / 16_000) ** 0.5 / 2)


def test_the_row_has_the_pooled_value_with_an_interval_around_it():
    row = spread_skill_row("case", "method", "spread/skill", [1.0, 2.0, 1.5], [1.1, 0.9, 1.0])
    assert row.value == pytest.approx(pooled_spread_skill([1.0, 2.0, 1.5], [1.1, 0.9, 1.0]))
    assert row.low < row.value < row.high
    assert spread_skill_row("case", "method", "spread/skill", [1.0, math.nan], [1.1, 1.0]).n == 1
