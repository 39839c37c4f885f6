"""The search of options: it finds the least of a valley, and says where it stopped at an end."""

from __future__ import annotations

import math

import pytest

from cycler_da.bench.pattern_search import pattern_search

AXES = {"a": (0, 1, 2, 3, 4), "b": (10, 20, 30)}


def test_the_least_of_a_valley_is_found_without_scoring_every_point():
    scored = []

    def score(point):
        scored.append(point)
        return (point[0] - 3) ** 2 + (point[1] - 20) ** 2 / 100

    found = pattern_search(AXES, (1, 10), score)
    assert found.point == (3, 20)
    assert found.score == 0
    assert found.n_scored == len(scored) == len(set(scored)) < 15
    assert found.at_end == ()


def test_all_neighbours_of_the_best_point_were_scored():
    seen = {}

    def score(point):
        return seen.setdefault(point, (point[0] - 2) ** 2 + abs(point[1] - 20))

    pattern_search(AXES, (0, 10), score)
    assert {(1, 20), (3, 20), (2, 10), (2, 30)} <= set(seen)


def test_a_best_value_at_the_end_is_named():
    assert pattern_search(AXES, (2, 20), lambda point: -point[0] + abs(point[1] - 20)).at_end == ("a",)


def test_failures_are_never_taken_and_a_start_that_fails_is_left():
    found = pattern_search(AXES, (2, 20), lambda point: math.inf if point != (2, 30) else 1.0)
    assert found.point == (2, 30)


def test_a_start_outside_the_values_is_refused():
    with pytest.raises(ValueError, match="not among the values of b"):
        pattern_search(AXES, (2, 25), lambda point: 0.0)
