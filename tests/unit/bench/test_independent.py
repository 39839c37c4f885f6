"""Rows of independent values: Student's t, and what is missing is not counted."""

from __future__ import annotations

import math

import pytest

from cycler_da.bench.independent import independent_row


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
