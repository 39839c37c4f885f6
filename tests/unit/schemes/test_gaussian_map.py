"""The affine map of an ensemble to given moments: exact, and nothing where they are there already."""

from __future__ import annotations

import pytest
import torch

from cycler_da.schemes.ensemble.gaussian_map import affine_map, roots


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_ensemble_has_the_moments_asked_for_whatever_the_units():
    units = torch.tensor([1e5, 1.0, 1e-5], dtype=torch.float64)
    x, root = draws(20, 3), draws(3, 3, seed=1)
    wanted = root @ root.mT
    moved = affine_map(x * units, 7.0 * units, wanted * torch.outer(units, units)) / units
    assert torch.allclose(moved.mean(dim=0), torch.full((3,), 7.0, dtype=torch.float64), rtol=0, atol=1e-9)
    assert torch.allclose(moved.mT.cov(correction=0), wanted, rtol=0, atol=1e-9)
    assert torch.allclose(moved, affine_map(x, torch.full((3,), 7.0, dtype=torch.float64), wanted), rtol=0, atol=1e-9)


def test_an_ensemble_that_has_them_stays_as_it_is():
    x = draws(20, 3)
    assert torch.allclose(affine_map(x, x.mean(dim=0), x.mT.cov(correction=0)), x, rtol=0, atol=1e-12)


def test_variables_that_are_independent_are_scaled_one_by_one():
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    wanted = torch.diag(torch.tensor([4.0, 0.25], dtype=torch.float64))
    moved = affine_map(x, torch.zeros(2, dtype=torch.float64), wanted)
    assert torch.allclose(moved, x * torch.tensor([2.0, 0.5], dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_direction_without_spread_stays_without():
    x = torch.cat([draws(20, 2), torch.full((20, 1), 3.0, dtype=torch.float64)], dim=1)
    mean = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    moved = affine_map(x, mean, torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)))
    assert torch.equal(moved[:, 2], x[:, 2])
    assert float(moved[:, 0].var(correction=0)) == pytest.approx(2.0, rel=1e-9)


def test_roots_are_symmetric_and_invert_one_another():
    covariance = draws(3, 3)
    covariance = covariance @ covariance.mT
    root, inverse = roots(covariance)
    assert torch.allclose(root @ root, covariance, rtol=0, atol=1e-12)
    assert torch.allclose(root, root.mT, rtol=0, atol=1e-12)
    assert torch.allclose(root @ inverse, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
