"""Wasserstein-1 distance of clouds: against the minimum over all permutations, and for shifted clouds."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from cycler_da.bench.small_systems.wasserstein import cloud_distance


def test_it_is_the_minimum_over_all_permutations():
    x, y = np.random.default_rng(1).standard_normal((2, 20, 5, 3))
    cost = np.linalg.norm(x[:, :, None] - y[:, None], axis=-1)
    best = np.min([cost[:, range(5), order].mean(axis=1) for order in permutations(range(5))], axis=0)
    found = cloud_distance(x, y)
    assert (found >= best - 1e-12).all()
    assert (found <= best + 1.1e-3 * cost.mean(axis=(1, 2))).all()  # the auction's own bound


def test_a_cloud_that_is_shifted_is_as_far_as_the_shift():
    x = np.random.default_rng(2).standard_normal((4, 15, 3))
    np.testing.assert_allclose(cloud_distance(x, x[:, ::-1] + [3.0, 0.0, 4.0]), 5.0, rtol=2e-3)


def test_one_point_has_its_own_distance():
    x, y = np.zeros((1, 1, 2)), np.array([[[3.0, 4.0]]])
    assert cloud_distance(x, y).tolist() == [5.0]
