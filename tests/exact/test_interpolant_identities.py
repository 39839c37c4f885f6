"""Identities of the interpolant for a Gaussian transition, where every quantity is known."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.interpolant import Interpolant

VARIANCE, MEAN, START = 0.7, 1.3, -0.4


def _known(interpolant: Interpolant, s: float, x: torch.Tensor):
    """Endpoint mean, density of I_s and conditional variance for x1 | x0 ~ N(MEAN, VARIANCE)."""
    alpha, beta, sigma = interpolant.alpha(s), interpolant.beta(s), interpolant.sigma(s)
    spread = beta**2 * VARIANCE + s * sigma**2
    centre = alpha * START + beta * MEAN
    m = MEAN + beta * VARIANCE / spread * (x - centre)
    score = -(x - centre) / spread
    return m, score, VARIANCE - (beta * VARIANCE) ** 2 / spread, beta * VARIANCE / spread


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("s", [0.05, 0.3, 0.7, 0.95])
def test_drift_score_and_endpoint_mean_agree(power, s):
    interpolant = Interpolant(beta_power=power, noise_scale=0.8)
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    start = torch.full_like(x, START)
    m, score, variance, slope = _known(interpolant, s, x)
    drift = interpolant.drift(s, x, start, m)
    assert torch.allclose(interpolant.endpoint_mean(s, x, start, drift), m, rtol=0, atol=1e-10)
    assert torch.allclose(interpolant.score(s, x, start, m), score, rtol=0, atol=1e-10)
    tweedie = s * interpolant.sigma(s) ** 2 / interpolant.beta(s) * slope
    assert tweedie == pytest.approx(variance, abs=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_drift_equals_the_closed_form_for_a_gaussian_transition(power):
    """b = alpha' x0 + beta' m0 + (beta' beta P + sigma' sigma s)(beta^2 P + sigma^2 s)^-1 (x - alpha x0 - beta m0)."""
    interpolant, s = Interpolant(beta_power=power, noise_scale=0.5), 0.4
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    start = torch.full_like(x, START)
    alpha, beta, sigma = interpolant.alpha(s), interpolant.beta(s), interpolant.sigma(s)
    da, db, dsig = interpolant.slopes(s)
    gain = (db * beta * VARIANCE + dsig * sigma * s) / (beta**2 * VARIANCE + sigma**2 * s)
    expected = da * START + db * MEAN + gain * (x - alpha * START - beta * MEAN)
    m, *_ = _known(interpolant, s, x)
    assert torch.allclose(interpolant.drift(s, x, start, m), expected, rtol=0, atol=1e-12)


def test_localisation_has_the_marginals_of_the_interpolant():
    """I_s = alpha x0 + beta U / tau: mean and variance of both sides for fixed x1 are equal."""
    interpolant, s, x1 = Interpolant(noise_scale=0.6), 0.35, 2.0
    tau = interpolant.snr(s)
    start = torch.tensor([START], dtype=torch.float64)
    mean_u = torch.tensor([tau * x1], dtype=torch.float64)
    there = interpolant.from_localisation(s, mean_u, start)
    assert float(there) == pytest.approx(interpolant.alpha(s) * START + interpolant.beta(s) * x1, abs=1e-14)
    variance = (interpolant.beta(s) / tau) ** 2 * tau
    assert variance == pytest.approx(s * interpolant.sigma(s) ** 2, rel=1e-14)
    tau_back, u_back = interpolant.to_localisation(s, there, start)
    assert tau_back == tau
    assert torch.allclose(u_back, mean_u, rtol=1e-14)
