"""Random rotations keep mean and covariance, and have no preferred direction."""

from __future__ import annotations

import pytest
import torch

from cycler_da.noise import Noise
from cycler_da.schemes.ensemble.rotation import complement_of_ones, random_rotation


@pytest.mark.parametrize("n", [2, 3, 17])
def test_a_rotation_is_orthogonal_and_keeps_the_vector_of_ones(n):
    omega = random_rotation(n, noise=Noise(1), stream="test")
    torch.testing.assert_close(omega @ omega.T, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(omega.sum(dim=1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-13)


def test_the_basis_is_orthonormal_and_sums_to_zero():
    u = complement_of_ones(9)
    torch.testing.assert_close(u.T @ u, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(u.sum(dim=0), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-13)


def test_rotations_are_uniform():
    # For a uniform Q on O(2) every entry has mean 0 and mean square 1/2; 2000 draws.
    u = complement_of_ones(3)
    draws = torch.stack([u.T @ random_rotation(3, noise=Noise(seed), stream="test") @ u for seed in range(2000)])
    assert draws.mean(dim=0).abs().max() < 5 * 0.5**0.5 / 2000**0.5
    assert (draws.square().mean(dim=0) - 0.5).abs().max() < 5 * 0.125**0.5 / 2000**0.5
