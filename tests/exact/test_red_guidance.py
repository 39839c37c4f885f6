"""RED on a linear-Gaussian problem: its fixed point, its spread, and what the published weight does instead."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cycler_da.generative.gaussian_transition import WhiteEndpoint
from cycler_da.generative.guidance import ConjugateDraw
from cycler_da.generative.localisation import MemberNoise, localise
from cycler_da.generative.red_guidance import LEVELS, SILENT, RedDraw
from cycler_da.noise import Noise

N, N_OBS, MEMBERS = 4, 2, 20_000
H = torch.randn(N_OBS, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
R = torch.tensor([0.3, 0.8], dtype=torch.float64)
Y = torch.tensor([1.5, -0.7], dtype=torch.float64)


@dataclass(frozen=True)
class Seen:
    """y = H x + r."""

    values: torch.Tensor = Y
    error_variance: torch.Tensor = R

    def __call__(self, x):
        return self.linear(x)

    def linear(self, v):
        return v.flatten(1) @ H.T

    def adjoint(self, v):
        return (v @ H).reshape(-1, N, 1)


def minimum(spread, *, members=1, weight="precision", iterations=1, levels=LEVELS):
    keyed = MemberNoise(Noise(5), range(members), "red", silent=SILENT[spread])
    draw = ConjugateDraw(WhiteEndpoint(), Seen(), keyed)
    like = torch.zeros(members, N, 1, dtype=torch.float64)
    red = RedDraw(draw, keyed, iterations, weight, levels)
    return localise(red, (0.0,), like=like, noise=keyed).flatten(1)


def kalman(prior_variance=1.0):
    c = prior_variance * torch.eye(N, dtype=torch.float64)
    gain = c @ H.T @ torch.linalg.inv(H @ c @ H.T + torch.diag(R))
    return gain @ Y, gain, c - gain @ H @ c


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("levels", [(0.1,), (1.0, 10.0), (300.0,)])
def test_the_fixed_point_is_the_posterior_mean_at_every_level(levels, iterations):
    found = minimum("none", iterations=iterations, levels=levels)
    torch.testing.assert_close(found[0], kalman()[0], rtol=0, atol=1e-11)


def test_the_published_weight_overfits_as_a_prior_that_is_too_wide_does():
    tau = 2.0
    found = minimum("none", weight="snr", iterations=200, levels=(tau,))
    torch.testing.assert_close(found[0], kalman((1.0 + tau) / tau)[0], rtol=0, atol=1e-9)
    assert float((H @ found[0] - Y).norm()) < float((H @ kalman()[0] - Y).norm())


def test_with_full_perturbations_members_are_draws_of_the_posterior():
    found = minimum("full", members=MEMBERS)
    mean, _, covariance = kalman()
    # Sampling errors of a mean and of a covariance of 20 000 members: 4 sigma.
    torch.testing.assert_close(found.mean(dim=0), mean, rtol=0, atol=4 * MEMBERS**-0.5)
    torch.testing.assert_close(found.T.cov(), covariance, rtol=0, atol=4 * (2.0 / MEMBERS) ** 0.5)


def test_perturbed_observations_alone_give_too_little_spread():
    found = minimum("observations", members=MEMBERS)
    _, gain, covariance = kalman()
    spread = gain @ torch.diag(R) @ gain.T
    torch.testing.assert_close(found.T.cov(), spread, rtol=0, atol=4 * (2.0 / MEMBERS) ** 0.5)
    assert float(spread.trace()) < 0.5 * float(covariance.trace())


def test_another_tau_is_refused():
    keyed = MemberNoise(Noise(5), range(1), "red")
    with pytest.raises(ValueError, match="tau = 0"):
        RedDraw(ConjugateDraw(WhiteEndpoint(), Seen(), keyed), keyed)(1.0, torch.zeros(1, N, 1).double(), step=0)
