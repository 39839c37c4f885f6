"""The local covariance against dense matrices: exact on a rectangle that does not wrap."""

from __future__ import annotations

import math

import pytest
import torch

from cycler_da.generative.local_covariance import LocalCovariance, StationaryCorrelation, exponential_correlation
from cycler_da.noise import Noise

SHAPE = (7, 9)
PARTS = ((0.7, 1.5), (0.2, 4.0), (0.1, 0.0))


def dense_correlation() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(SHAPE[0]), torch.arange(SHAPE[1]), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], dim=1).to(torch.float64)
    distance = torch.cdist(place, place)
    return sum(w * (torch.exp(-distance / l) if l else (distance == 0).to(torch.float64)) for w, l in PARTS)


def stds() -> torch.Tensor:
    return 0.1 + Noise(3).shared_normal("std", (2, 1, *SHAPE), dtype=torch.float64).abs()


def units() -> torch.Tensor:
    n = SHAPE[0] * SHAPE[1]
    return torch.eye(n, dtype=torch.float64).reshape(n, 1, *SHAPE)


def test_correlation_equals_the_dense_matrix_of_distances():
    correlation = exponential_correlation(SHAPE, PARTS)
    built = correlation.apply(units()).reshape(63, 63)
    torch.testing.assert_close(built, dense_correlation(), rtol=0.0, atol=1e-10)


def test_root_times_its_transpose_is_the_correlation():
    correlation = exponential_correlation(SHAPE, PARTS)
    there_and_back = correlation.spread(correlation.gather(units())).reshape(63, 63)
    torch.testing.assert_close(there_and_back, dense_correlation(), rtol=0.0, atol=1e-10)


def test_gather_is_the_transpose_of_color_for_every_member():
    covariance = LocalCovariance(stds(), exponential_correlation(SHAPE, PARTS))
    z = Noise(1).shared_normal("z", (2, *covariance.noise_shape((1, *SHAPE))), dtype=torch.float64)
    v = Noise(1).shared_normal("v", (2, 1, *SHAPE), dtype=torch.float64)
    left, right = (covariance.color(z) * v).flatten(1).sum(1), (z * covariance.gather(v)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0.0)


def test_each_member_has_its_own_dense_covariance():
    covariance = LocalCovariance(stds(), exponential_correlation(SHAPE, PARTS))
    for member in range(2):
        d = stds()[member].flatten()
        expected = d[:, None] * dense_correlation() * d[None, :]
        own = LocalCovariance(stds()[member : member + 1], covariance.correlation)
        torch.testing.assert_close(own.apply(units()).reshape(63, 63), expected, rtol=0.0, atol=1e-10)
        v = Noise(5).shared_normal("v", (2, 1, *SHAPE), dtype=torch.float64)
        torch.testing.assert_close(
            covariance.apply(v)[member].flatten(), expected @ v[member].flatten(), rtol=0.0, atol=1e-10
        )


def test_nothing_wraps_from_edge_to_edge():
    long = exponential_correlation((8, 8), [(1.0, 3.0)])
    corner = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    corner[..., 0, 0] = 1.0
    reached = long.apply(corner)[0, 0]
    assert float(reached[0, 7]) == pytest.approx(math.exp(-7.0 / 3.0), rel=1e-9)


def test_a_spectrum_of_ones_is_white():
    torus = (10, 12)
    white = StationaryCorrelation(torch.ones(10, 7, dtype=torch.float64), SHAPE, torus)
    torch.testing.assert_close(white.apply(units()), units(), rtol=0.0, atol=1e-14)


def test_a_correlation_without_positive_weights_is_refused():
    with pytest.raises(ValueError, match="positive weights"):
        exponential_correlation(SHAPE, [(0.0, 2.0)])
