"""The smoother of a mixture: its algebra member by member, and what it must and must not move."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.schemes.ensemble.mixture_smoother import bandwidth, drawn_together, kernels_of, nearest

N, STATES, SEEN, NEAR = 30, 3, 2, 9


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def ensemble():
    x = draws(N, STATES) @ torch.tensor([[3.0, 0.5, 0.0], [0.0, 0.2, 0.1], [0.0, 0.0, 1.0]], dtype=torch.float64)
    hx = torch.stack([x[:, 0] + 0.1 * x[:, 2] ** 2, x[:, 1]], dim=1)
    root = draws(N, SEEN, SEEN, seed=1)
    return x, hx, root @ root.mT + 0.5 * torch.eye(SEEN, dtype=torch.float64)


def mixture_of(x, hx, covariance, near=NEAR):
    """The mixture whose centres see what their members see."""
    return kernels_of(x, hx, n_neighbours=near).seen(hx, covariance)


def test_many_accurate_observations_are_no_trouble_for_determinants(ensemble):
    x, _, _ = ensemble
    seen, covariance = draws(N, 200, seed=6), 1e-2 * torch.eye(200, dtype=torch.float64).expand(N, -1, -1)
    assert float(torch.linalg.det(covariance[0])) == 0.0
    assert 0.99 < mixture_of(x, seen, covariance).information(draws(200, seed=7)) <= 1.0


def test_kernels_weights_and_moves_are_those_of_numpy_member_by_member(ensemble):
    x, hx, covariance = ensemble
    values, errors, dressing = draws(SEEN, seed=2), draws(N, SEEN, seed=3), draws(N, NEAR, seed=4)
    seen = hx + 0.1 * draws(N, SEEN, seed=5)  # by the centres
    kept = torch.arange(N).clamp(max=N - 3)  # the last but two is taken three times
    kernels = kernels_of(x, hx, n_neighbours=NEAR)
    mixture = kernels.seen(seen, covariance)
    weights = mixture.log_weights(values)
    drawn = mixture.drawn(values, kept, perturbations=errors, dressing=dressing)
    inverse = np.linalg.inv(np.cov(x.numpy().T))
    both, b = np.hstack([x, hx]), (4 / (NEAR * (STATES + 2))) ** (1 / (STATES + 4))
    share = np.exp(weights.numpy() - float(weights.logsumexp(dim=0)))
    parts = [kernel_of(both, inverse, i, b) for i in range(N)]
    totals = [part[STATES:, STATES:] + covariance[i].numpy() for i, part in enumerate(parts)]
    ratios = [np.linalg.det(covariance[i].numpy()) / np.linalg.det(total) for i, total in enumerate(totals)]
    information = 1 - share @ ratios / (N * share @ share)
    assert mixture.information(values) == pytest.approx(information, abs=1e-12)
    assert 0.1 < information < 0.99
    for row, i in enumerate(kept.tolist()):
        innovation = values.numpy() - seen[i].numpy()
        log_weight = -0.5 * (
            innovation @ np.linalg.solve(totals[i], innovation) + np.linalg.slogdet(2 * np.pi * totals[i])[1]
        )
        assert float(weights[i]) == pytest.approx(log_weight, abs=1e-10)
        order = nearest(x, NEAR)[i].numpy()
        anomalies = b * (both[order] - both[order].mean(axis=0)) / math.sqrt(NEAR - 1)
        assert np.allclose(anomalies.T @ anomalies, parts[i], atol=1e-12)
        fresh = 1.0 if row > N - 3 else information  # copies are drawn anew
        centre = np.hstack([kernels.centres[i], seen[i]])
        start = centre + (1 - fresh) * (both[i] - centre) + math.sqrt(fresh) * dressing[row].numpy() @ anomalies
        error = np.linalg.cholesky(covariance[i].numpy()) @ errors[row].numpy()
        gain = parts[i][:STATES, STATES:] @ np.linalg.inv(totals[i])
        expected = start[:STATES] + gain @ (values.numpy() + error - start[STATES:])
        assert np.allclose(drawn[row].numpy(), expected, rtol=0, atol=1e-10)


def kernel_of(both, inverse, i, b):
    """Covariance of the nearest of member i, times b^2."""
    off = both[:, :STATES] - both[i, :STATES]
    return b**2 * np.cov(both[np.argsort(np.einsum("ij,jk,ik->i", off, inverse, off))[:NEAR]].T)


def test_the_mixture_has_the_mean_and_the_covariance_of_the_ensemble(ensemble):
    x, hx, _ = ensemble
    for near in (5, NEAR, N):
        kernels = kernels_of(x, hx, n_neighbours=near)
        within = torch.einsum("ijk,ijl->kl", kernels.near[:, :, :STATES], kernels.near[:, :, :STATES]) / N
        between = kernels.centres.mT.cov(correction=0)
        assert torch.allclose(kernels.centres.mean(dim=0), x.mean(dim=0), rtol=0, atol=1e-12)
        assert torch.allclose(between + within, x.mT.cov(correction=0), rtol=0, atol=1e-12)


def test_kernels_are_never_wider_than_the_ensemble():
    x = draws(20, 2)
    wide = torch.zeros(20, 3, 2, dtype=torch.float64)
    wide[:, 0, 0] = 3.0 * x[:, 0].std(correction=0)  # of the second variable they know nothing
    centres, narrower = drawn_together(x, wide)
    within = narrower**2 * torch.einsum("ijk,ijl->kl", wide, wide) / 20
    assert torch.allclose(centres.mT.cov(correction=0) + within, x.mT.cov(correction=0), rtol=0, atol=1e-12)
    assert narrower < 1 / 3
    assert drawn_together(x, 0.1 * wide)[1] == 1.0


def test_moments_are_those_of_the_posterior_on_a_grid():
    x = torch.cat([-2.0 + 0.4 * draws(12, 1), 1.5 + 0.8 * draws(18, 1, seed=1)])
    kernels, values = kernels_of(x, 2.0 * x, n_neighbours=8), torch.tensor([0.3], dtype=torch.float64)
    mixture = kernels.seen(2.0 * kernels.centres, torch.full((30, 1, 1), 3.0, dtype=torch.float64))
    grid = torch.linspace(-12, 12, 40001, dtype=torch.float64)[:, None]
    variance = kernels.near[:, :, 0].square().sum(dim=1)
    prior = (-0.5 * (grid - kernels.centres[:, 0]) ** 2 / variance).exp() / variance.sqrt()
    density = prior.sum(dim=1) * (-0.5 * (values - 2.0 * grid[:, 0]) ** 2 / 3.0).exp()
    density = density / density.sum()
    mean = float(density @ grid[:, 0])
    found, covariance = mixture.moments(values)
    assert float(found) == pytest.approx(mean, abs=1e-9)
    assert float(covariance) == pytest.approx(float(density @ (grid[:, 0] - mean).square()), abs=1e-9)


def test_moved_members_have_the_moments_of_the_mixture_without_sampling_error(ensemble):
    x, hx, covariance = ensemble
    values, mixture = draws(SEEN, seed=2), mixture_of(x, hx, covariance)
    kept = torch.arange(N).clamp(min=4, max=N - 3)
    moved = mixture.moved(values, kept, perturbations=draws(N, SEEN, seed=3), dressing=draws(N, NEAR, seed=4))
    mean, spread = mixture.moments(values)
    assert torch.allclose(moved.mean(dim=0), mean, rtol=0, atol=1e-10)
    assert torch.allclose(moved.mT.cov(correction=0), spread, rtol=0, atol=1e-10)


def test_where_observations_say_nothing_members_stay_as_they_are(ensemble):
    x, hx, covariance = ensemble
    mixture = mixture_of(x, hx, 1e16 * covariance)
    weights = mixture.log_weights(draws(SEEN)) - mixture.log_weights(draws(SEEN, seed=9))
    assert float(weights.abs().max()) < 1e-12
    moved = mixture_of(x, hx, 1e16 * torch.eye(SEEN, dtype=torch.float64).expand(N, -1, -1)).moved(
        draws(SEEN), torch.arange(N), perturbations=draws(N, SEEN), dressing=draws(N, NEAR)
    )
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
    mixture = mixture_of(x, x[:, :1], covariance, near=20)
    variance = bandwidth(20, 2) ** 2 * 0.25
    # That of both branches, with a variance of 25, would be 20 times as large. Twenty members know a variance to 30 %.
    assert float(mixture.gain[:, 0, 0].median()) == pytest.approx(variance / (variance + 1), rel=0.3)
    # Members at the rim of a branch may have some of the other near them.
    assert float(mixture.gain[:, 0, 0].quantile(0.95)) < 3 * variance / (variance + 1)
    weights = torch.softmax(mixture.log_weights(torch.tensor([5.0], dtype=torch.float64)), dim=0)
    assert float(weights[side > 0].sum()) > 0.999


def test_the_bandwidth_is_silvermans():
    assert bandwidth(100, 1) == pytest.approx(1.0592 * 100 ** (-1 / 5), rel=1e-4)
    assert bandwidth(100, 2) == pytest.approx(100 ** (-1 / 6), rel=1e-12)
