"""The smoother of a mixture: its algebra member by member, and what it must and must not move."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.schemes.ensemble.mixture_smoother import bandwidth, mixture_of, nearest

N, STATES, SEEN, NEAR = 30, 3, 2, 9


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def ensemble():
    x = draws(N, STATES) @ torch.tensor([[3.0, 0.5, 0.0], [0.0, 0.2, 0.1], [0.0, 0.0, 1.0]], dtype=torch.float64)
    hx = torch.stack([x[:, 0] + 0.1 * x[:, 2] ** 2, x[:, 1]], dim=1)
    root = draws(N, SEEN, SEEN, seed=1)
    return x, hx, root @ root.mT + 0.5 * torch.eye(SEEN, dtype=torch.float64)


def test_kernels_weights_and_moves_are_those_of_numpy_member_by_member(ensemble):
    x, hx, covariance = ensemble
    values, errors, dressing = draws(SEEN, seed=2), draws(N, SEEN, seed=3), draws(N, NEAR, seed=4)
    kept = torch.arange(N).clamp(max=N - 3)  # the last but two is taken three times
    mixture = mixture_of(x, hx, covariance=covariance, n_neighbours=NEAR)
    weights = mixture.log_weights(values)
    moved = mixture.moved(values, kept, perturbations=errors, dressing=dressing)
    inverse = np.linalg.inv(np.cov(x.numpy().T))
    both, b = np.hstack([x, hx]), (4 / (N * (STATES + 2))) ** (1 / (STATES + 4))
    for row, i in enumerate(kept.tolist()):
        off = x.numpy() - x[i].numpy()
        near = np.argsort(np.einsum("ij,jk,ik->i", off, inverse, off))[:NEAR]
        kernel = b**2 * np.cov(both[near].T)
        total = kernel[STATES:, STATES:] + covariance[i].numpy()
        innovation = values.numpy() - hx[i].numpy()
        log_weight = -0.5 * (innovation @ np.linalg.solve(total, innovation) + np.linalg.slogdet(2 * np.pi * total)[1])
        assert float(weights[i]) == pytest.approx(log_weight, abs=1e-10)
        start = both[i].copy()
        if row > N - 3:  # a copy: dressed with a draw of the kernel
            order = nearest(x, NEAR)[i].numpy()
            anomalies = b * (both[order] - both[order].mean(axis=0)) / math.sqrt(NEAR - 1)
            assert np.allclose(anomalies.T @ anomalies, kernel, atol=1e-12)
            start += dressing[row].numpy() @ anomalies
        error = np.linalg.cholesky(covariance[i].numpy()) @ errors[row].numpy()
        gain = kernel[:STATES, STATES:] @ np.linalg.inv(total)
        expected = start[:STATES] + gain @ (values.numpy() + error - start[STATES:])
        assert np.allclose(moved[row].numpy(), expected, rtol=0, atol=1e-10)


def test_where_observations_say_nothing_members_stay_as_they_are(ensemble):
    x, hx, covariance = ensemble
    mixture = mixture_of(x, hx, covariance=1e16 * covariance, n_neighbours=NEAR)
    weights = mixture.log_weights(draws(SEEN)) - mixture.log_weights(draws(SEEN, seed=9))
    assert float(weights.abs().max()) < 1e-12
    moved = mixture.moved(draws(SEEN), torch.arange(N), perturbations=draws(N, SEEN), dressing=draws(N, NEAR))
    assert float((moved - x).abs().max()) < 1e-6  # errors of 1e8 with gains of 1e-16


def test_nearest_are_found_whatever_the_units_and_without_spread_in_a_direction():
    x = draws(40, 3)
    found = nearest(x, 5)
    assert torch.equal(found[:, 0], torch.arange(40))  # a member is the nearest to itself
    assert torch.equal(nearest(x * torch.tensor([1e6, 1.0, 1e-6]) + 7.0, 5).sort().values, found.sort().values)
    flat = torch.cat([x[:, :2], torch.ones(40, 1, dtype=torch.float64)], dim=1)
    assert torch.equal(nearest(flat, 5).sort().values, nearest(x[:, :2], 5).sort().values)


def test_an_ensemble_on_two_branches_is_moved_along_them():
    """x in two clusters, y sees x with an error that tells them apart: the gain is that of one branch, not of both."""
    side = torch.where(torch.arange(200) % 2 == 0, -5.0, 5.0).to(torch.float64)
    x = torch.stack([side + 0.5 * draws(200), draws(200, seed=1)], dim=1)
    covariance = torch.full((200, 1, 1), 1.0, dtype=torch.float64)
    mixture = mixture_of(x, x[:, :1], covariance=covariance, n_neighbours=20)
    variance = bandwidth(200, 2) ** 2 * 0.25
    # That of both branches, with a variance of 25, would be 20 times as large. Twenty members know a variance to 30 %.
    assert float(mixture.gain[:, 0, 0].median()) == pytest.approx(variance / (variance + 1), rel=0.3)
    # Members at the rim of a branch may have some of the other near them.
    assert float(mixture.gain[:, 0, 0].quantile(0.95)) < 3 * variance / (variance + 1)
    weights = torch.softmax(mixture.log_weights(torch.tensor([5.0], dtype=torch.float64)), dim=0)
    assert float(weights[side > 0].sum()) > 0.999


def test_the_bandwidth_is_silvermans():
    assert bandwidth(100, 1) == pytest.approx(1.0592 * 100 ** (-1 / 5), rel=1e-4)
    assert bandwidth(100, 2) == pytest.approx(100 ** (-1 / 6), rel=1e-12)
