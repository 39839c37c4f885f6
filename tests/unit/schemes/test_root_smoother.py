"""The lag-1 square-root smoother against closed forms, and what the whole covariance of the model is worth."""

from __future__ import annotations

import pytest
import torch

from cycler_da.schemes.ensemble.localization import gaspari_cohn
from cycler_da.schemes.ensemble.root_smoother import smooth_by_roots

SHAPE = (12,)


@pytest.fixture
def setting(make_layout, make_ensemble, make_observations):
    layout = make_layout(SHAPE)
    members = make_ensemble(layout, 7).latest
    observed = [0, 3, 4, 9]
    generator = torch.Generator().manual_seed(3)
    hx = 0.8 * members[:, 0, observed] + 0.1 * torch.randn((7, 4), generator=generator, dtype=torch.float64)
    root = torch.randn((4, 4), generator=generator, dtype=torch.float64)
    observations = make_observations(layout, observed, [0.3, -1.0, 0.8, 2.0])
    return members, hx, observations, root @ root.T + 0.3 * torch.eye(4, dtype=torch.float64)


def covariance(x, y):
    return (x - x.mean(dim=0)).T @ (y - y.mean(dim=0)) / (len(x) - 1)


def test_without_localization_mean_and_covariance_are_those_of_the_kalman_smoother(setting):
    members, hx, observations, s = setting
    moved = smooth_by_roots(members, hx, observations, covariance=s, radius=None)[:, 0]
    x = members[:, 0]
    gain = torch.linalg.solve(covariance(hx, hx) + s, covariance(x, hx).T).T
    torch.testing.assert_close(moved.mean(dim=0), x.mean(dim=0) + gain @ (observations.values - hx.mean(dim=0)))
    torch.testing.assert_close(covariance(moved, moved), covariance(x, x) - gain @ covariance(hx, x))


def test_with_localization_the_mean_is_that_of_tapered_covariances(setting):
    members, hx, observations, s = setting
    radius, x = 2.0, members[:, 0]
    cells = torch.arange(12, dtype=torch.float64)

    def taper(a, b):
        apart = (a[:, None] - b[None]).abs()
        return gaspari_cohn(torch.minimum(apart, 12 - apart), radius)

    at = cells[[0, 3, 4, 9]]
    gain = torch.linalg.solve(taper(at, at) * covariance(hx, hx) + s, (taper(cells, at) * covariance(x, hx)).T).T
    moved = smooth_by_roots(members, hx, observations, covariance=s, radius=radius)[:, 0]
    torch.testing.assert_close(moved.mean(dim=0), x.mean(dim=0) + gain @ (observations.values - hx.mean(dim=0)))
    # Nothing is perturbed: the same again.
    again = smooth_by_roots(members, hx, observations, covariance=s, radius=radius)[:, 0]
    assert torch.equal(moved, again)


def test_a_cell_out_of_reach_keeps_its_members(setting, make_observations):
    members, hx, observations, s = setting
    near = make_observations(observations.layout, [3], [1.0])
    moved = smooth_by_roots(members, hx[:, 1:2], near, covariance=s[1:2, 1:2], radius=1.0)
    assert torch.equal(moved[:, :, 6:], members[:, :, 6:])
    assert not torch.equal(moved[:, :, 3], members[:, :, 3])


def test_frames_of_several_times_and_channels_are_moved_alike(make_layout, make_ensemble, make_observations):
    layout = make_layout((6, 5), channels=("q", "p"))
    values = make_ensemble(layout, 5, n_times=3).values
    observations = make_observations(layout, [[0.0, 0.0], [3.0, 2.0]], [1.0, -1.0])
    hx = observations.hx(values[:, -1])
    s = torch.tensor([[0.5, 0.4], [0.4, 0.5]], dtype=torch.float64)
    whole = smooth_by_roots(values, hx, observations, covariance=s, radius=1.5)
    for time in range(3):
        alone = smooth_by_roots(values[:, time], hx, observations, covariance=s, radius=1.5)
        torch.testing.assert_close(whole[:, time], alone)


def test_an_error_that_all_observations_share_is_told_from_errors_of_states(make_layout, make_observations):
    """Independent cells, and one number of noise in all of them: sixteen observations know it, one does not.

    Kalman: the variance left of a state of variance 1 is that of x seen through x + u, u known to 1/16 of its size.
    """
    n, big = 16, 400
    layout = make_layout((n,))
    generator = torch.Generator().manual_seed(1)
    members = torch.randn((big, 1, n), generator=generator, dtype=torch.float64)
    truth = torch.randn(n, generator=generator, dtype=torch.float64)
    shared, error = 9.0, 0.01
    observations = make_observations(layout, torch.arange(n), truth + 3.0)
    s = shared * torch.ones((n, n), dtype=torch.float64) + error * torch.eye(n, dtype=torch.float64)
    moved = smooth_by_roots(members, members[:, 0], observations, covariance=s, radius=0.4)[:, 0]
    diagonal = torch.diag(s.diagonal())
    blurred = smooth_by_roots(members, members[:, 0], observations, covariance=diagonal, radius=0.4)[:, 0]
    exact = 1 - torch.linalg.inv(torch.eye(n, dtype=torch.float64) + s).diagonal().mean()
    assert moved.var(dim=0).mean() == pytest.approx(float(exact), rel=0.05)
    assert exact < 0.08
    assert blurred.var(dim=0).mean() > 0.85
    assert (moved.mean(dim=0) - truth).square().mean() < 0.15
