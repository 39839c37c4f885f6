"""The serial update against the batch update and the Kalman filter."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.enkf import EnkfSpec, sample_increments
from cycler_da.schemes.ensemble.localization import gaspari_cohn
from cycler_da.schemes.ensemble.serial_update import serial_update

N_STATE, N_OBS = 6, 4


def draw(n_members, n, seed):
    return torch.randn((n_members, n), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(n_members):
    x = 1 + draw(n_members, N_STATE, 1) @ draw(N_STATE, N_STATE, 2)
    h = draw(N_OBS, N_STATE, 3)
    r = torch.tensor([0.3, 1.0, 0.1, 2.0], dtype=torch.float64)
    return x, h, r, draw(1, N_OBS, 4)[0]


def perturbations_without_sampling_error(x, r):
    """Mean zero, covariance R, no covariance with the members: all to rounding."""
    taken = torch.cat([torch.ones((len(x), 1), dtype=torch.float64), x], dim=1)
    basis, _ = torch.linalg.qr(torch.cat([taken, draw(len(x), N_OBS, 5)], dim=1))
    return basis[:, taken.shape[1] :] * ((len(x) - 1) * r).sqrt()


def test_without_sampling_error_of_the_perturbations_every_member_is_that_of_the_batch_update():
    x, h, r, y = problem(20)
    perturbed = y + perturbations_without_sampling_error(x, r)
    moved, seen = serial_update(x, x @ h.T, perturbed, error_variance=r)
    anomalies, observed = x - x.mean(0), (x - x.mean(0)) @ h.T
    change, _ = sample_increments(anomalies, observed, perturbed - x @ h.T, error_variance=r)
    torch.testing.assert_close(moved, x + change, rtol=0, atol=1e-10)
    torch.testing.assert_close(seen, moved @ h.T, rtol=0, atol=1e-10)
    p = torch.cov(x.T)
    k = p @ h.T @ torch.linalg.inv(h @ p @ h.T + torch.diag(r))
    torch.testing.assert_close(moved.mean(0), x.mean(0) + k @ (y - h @ x.mean(0)), rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cov(moved.T), p - k @ h @ p, rtol=0, atol=1e-10)


def test_one_observation_is_the_batch_update_for_any_perturbations():
    x, h, r, y = problem(7)
    perturbed = y[:1] + draw(7, 1, 6)
    moved, _ = serial_update(x, x @ h[:1].T, perturbed, error_variance=r[:1])
    anomalies, observed = x - x.mean(0), (x - x.mean(0)) @ h[:1].T
    change, _ = sample_increments(anomalies, observed, perturbed - x @ h[:1].T, error_variance=r[:1])
    torch.testing.assert_close(moved, x + change, rtol=0, atol=1e-12)


def test_many_members_have_the_kalman_analysis_in_expectation():
    n_members = 20000
    x, h, r, y = problem(n_members)
    moved, _ = serial_update(x, x @ h.T, y + draw(n_members, N_OBS, 8) * r.sqrt(), error_variance=r)
    p = torch.cov(x.T)
    k = p @ h.T @ torch.linalg.inv(h @ p @ h.T + torch.diag(r))
    covariance = p - k @ h @ p
    # Standard errors of 20000 independent draws; the perturbations' own add as much: hence half of them.
    error = (covariance.diagonal() / (n_members / 2)).sqrt()
    assert float(((moved.mean(0) - x.mean(0) - k @ (y - h @ x.mean(0))).abs() / error).max()) < 5
    scale = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance**2) / (n_members / 2)).sqrt()
    assert float(((torch.cov(moved.T) - covariance).abs() / scale).max()) < 5


def analyse(background, observations, **options):
    scheme = EnkfSpec(inflation=1.0, **options).build(SchemeContext(background.layout))
    return scheme.analyse(Prior(background), observations, noise=Noise(1), carry={})


def test_localized_serial_and_batch_enkf_agree_for_observations_out_of_each_others_reach(
    make_layout, make_ensemble, make_observations
):
    layout = make_layout((40,), channels=("u", "v"))
    background = make_ensemble(layout, 8)
    observations = make_observations(layout, [4.0, 24.0], [1.0, -2.0], error=0.5)
    options = {"localization_radius_cells": 3.0}
    serial = analyse(background, observations, update="serial", **options).ensemble.latest
    batch = analyse(background, observations, **options).ensemble.latest
    torch.testing.assert_close(serial, batch, rtol=0, atol=1e-12)
    taper = gaspari_cohn((torch.arange(40) - 4).abs().clamp(max=20).double(), 3.0)
    assert torch.equal(serial[:, :, 12:16], background.latest[:, :, 12:16]) and float(taper[10]) == 0


def test_serial_localization_needs_no_dense_matrix(make_layout, make_ensemble, make_observations, monkeypatch):
    monkeypatch.setattr("cycler_da.schemes.enkf.MOST_NUMBERS", 10)
    layout = make_layout((12,))
    observations = make_observations(layout, [4.0, 5.0], [1.0, -2.0], error=0.5)
    analysis = analyse(make_ensemble(layout, 8), observations, update="serial", localization_radius_cells=3.0)
    assert 0 < analysis.diagnostics["dof_signal"] < 2


def test_an_unknown_update_is_refused():
    with pytest.raises(ConfigError, match="update is sequential; expected batch or serial"):
        EnkfSpec(update="sequential")
