"""Fractions skill score: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from cycler_da.verification.neighbourhood import fraction_sums


def _event(row: int, column: int) -> np.ndarray:
    field = np.zeros((21, 21), dtype=bool)
    field[row, column] = True
    return field


def test_a_perfect_forecast_scores_one_and_a_distant_one_zero():
    seen = _event(10, 10)
    assert fraction_sums(seen.astype(float), seen, width=5).score == 1.0
    assert fraction_sums(_event(2, 2).astype(float), seen, width=5).score == 0.0


def test_a_displaced_cell_scores_the_overlap_of_the_windows():
    # Windows of 5 x 5 around cells 2 apart share 15 of 25 cells: FSS = 1 - (2 * 10) / (2 * 25).
    assert fraction_sums(_event(10, 8).astype(float), _event(10, 10), width=5).score == pytest.approx(0.6)


def test_windows_end_at_the_edge_and_unknown_cells_do_not_count():
    seen, known = _event(0, 0), np.ones((21, 21), dtype=bool)
    known[0, 1] = False
    sums = fraction_sums(seen.astype(float) + _event(0, 1), seen, width=3, known=known)
    assert sums.score == 1.0


def test_sums_of_cases_merge_to_the_score_of_all():
    one = fraction_sums(_event(10, 8).astype(float), _event(10, 10), width=5)
    other = fraction_sums(_event(3, 3).astype(float), _event(3, 3), width=5)
    assert (one + other).score == pytest.approx(
        1 - (one.difference + other.difference) / (one.reference + other.reference)
    )
    assert np.isnan(fraction_sums(np.zeros((5, 5)), np.zeros((5, 5), dtype=bool), width=3).score)
