"""The samplers in interpolant time and their guidance against closed forms; nothing here is trained."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cycler_da.generative.analytic import GaussianEndpoint
from cycler_da.generative.covariance import FullCovariance
from cycler_da.generative.drift_sampler import EndpointDrift, GuidePoint, sample_ode, sample_sde
from cycler_da.generative.endpoint_guidance import MomentMatchingGuidance, PosteriorSamplingGuidance
from cycler_da.generative.interpolant import Interpolant
from cycler_da.generative.localisation import SharedNoise
from cycler_da.generative.monte_carlo_guidance import MonteCarloGuidance
from cycler_da.noise import Noise

COVARIANCE = torch.tensor([[0.9, 0.4, 0.0], [0.4, 0.7, -0.2], [0.0, -0.2, 0.3]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
START = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
ONE = torch.ones(1, dtype=torch.float64)


@dataclass(frozen=True)
class Scalar:
    """y = x + r of one number."""

    y: float
    variance: float

    @property
    def values(self):
        return self.y * ONE

    @property
    def error_variance(self):
        return self.variance * ONE

    def __call__(self, x):
        return x.flatten(1)

    linear = __call__

    def adjoint(self, v):
        return v[:, None, :]


def _drift(n: int, beta_power: int = 2, diffusion: str = "sigma") -> EndpointDrift:
    model = GaussianEndpoint(MEAN.expand(n, 1, 3), FullCovariance(COVARIANCE))
    return EndpointDrift(model, Interpolant(beta_power), START.expand(n, 1, 3).clone(), diffusion)


def _moment_errors(draws: torch.Tensor) -> tuple[float, float]:
    flat = draws[:, 0]
    return float((flat.mean(dim=0) - MEAN).abs().max()), float((torch.cov(flat.T) - COVARIANCE).abs().max())


@pytest.mark.parametrize(("steps", "mean_error"), [(50, 0.07), (1000, 0.035)])
def test_the_sde_reproduces_a_gaussian_transition_as_steps_grow_small(steps, mean_error):
    """Discretisation error of the mean about .034 and .003; five standard errors of 20 000 draws are .034."""
    n = 20_000
    mean, covariance = _moment_errors(sample_sde(_drift(n), n_steps=steps, noise=SharedNoise(Noise(1), range(n), "t")))
    assert mean < mean_error
    assert covariance < (0.06 if steps == 50 else 0.035)


@pytest.mark.parametrize("beta_power", [1, 2])
def test_the_foellmer_process_has_the_same_endpoints(beta_power):
    n, drift = 20_000, _drift(20_000, beta_power, "foellmer")
    assert drift.scale(0.3) == pytest.approx((0.7 * (2.7 if beta_power == 2 else 1.3)) ** 0.5)
    mean, covariance = _moment_errors(sample_sde(drift, n_steps=400, noise=SharedNoise(Noise(8), range(n), "t")))
    assert mean < 0.04
    assert covariance < 0.04


def test_the_drift_of_the_foellmer_process_goes_on_to_the_start():
    for beta_power in (1, 2):
        drift = _drift(1, beta_power, "foellmer")
        s = 1e-7
        torch.testing.assert_close(drift(s, drift.start), drift(0.0, drift.start), rtol=0, atol=1e-5)


@pytest.mark.parametrize("beta_power", [1, 2])
def test_the_probability_flow_reproduces_a_gaussian_transition(beta_power):
    n = 20_000
    draws = sample_ode(_drift(n, beta_power), n_steps=100, noise=SharedNoise(Noise(2), range(n), "t"))
    mean, covariance = _moment_errors(draws)
    assert mean < 0.03
    assert covariance < 0.05


def _scalar_drift(n: int, diffusion: str = "sigma") -> EndpointDrift:
    """x1 ~ N(2, 0.5), started at 1."""
    model = GaussianEndpoint((2.0 * ONE).expand(n, 1, 1), FullCovariance(0.5 * torch.eye(1, dtype=torch.float64)))
    return EndpointDrift(model, Interpolant(), torch.ones(n, 1, 1, dtype=torch.float64), diffusion)


@pytest.mark.parametrize(
    ("variance", "diffusion"), [(0.05, "sigma"), (0.2, "sigma"), (1.0, "sigma"), (0.2, "foellmer")]
)
def test_moment_matching_is_the_exact_posterior_whatever_the_observation_error(variance, diffusion):
    n, noise = 20_000, SharedNoise(Noise(3), range(20_000), "t")
    draws = sample_sde(
        _scalar_drift(n, diffusion), n_steps=500, noise=noise, guide=MomentMatchingGuidance(Scalar(3.0, variance))
    ).flatten()
    gain = 0.5 / (0.5 + variance)
    assert float(draws.mean()) == pytest.approx(2.0 + gain, abs=0.03)
    assert float(draws.var()) == pytest.approx((1.0 - gain) * 0.5, rel=0.06)


@dataclass(frozen=True)
class TwoSums:
    """Two sums of three numbers."""

    matrix: torch.Tensor
    values: torch.Tensor
    error_variance: torch.Tensor

    def __call__(self, x):
        return x.flatten(1) @ self.matrix.T

    linear = __call__

    def adjoint(self, v):
        return (v @ self.matrix)[:, None, :]


@pytest.mark.parametrize("s", [0.1, 0.6, 0.95])
def test_the_derivative_of_the_mean_guides_as_the_covariance_does(s):
    matrix = torch.tensor([[1.0, 0.0, 2.0], [0.5, -1.0, 0.0]], dtype=torch.float64)
    seen = TwoSums(matrix, torch.tensor([2.0, 1.0], dtype=torch.float64), torch.tensor([0.3, 0.1], dtype=torch.float64))
    drift = _drift(4)
    at = drift.start + torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def moved(guide):
        leaf = at.clone().requires_grad_()
        return guide(GuidePoint(drift, s, 0.01, leaf, drift(s, leaf), leaf[:, None], 0))

    ours, theirs = (MomentMatchingGuidance(seen, from_derivative=flag) for flag in (True, False))
    torch.testing.assert_close(moved(ours), moved(theirs), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("objective", ["squared", "norm"])
def test_monte_carlo_guidance_pulls_by_the_step_size_and_not_by_the_observation_error(order, objective):
    """The documented defect: with one endpoint (no weights) the result does not know R at all."""
    n = 2000

    def mean(zeta: float, variance: float) -> float:
        noise = SharedNoise(Noise(4), range(n), "t")
        guide = MonteCarloGuidance(
            Scalar(3.0, variance), noise, zeta, n_endpoints=1, order=order, objective=objective, fallback_from=1.0
        )
        return float(sample_sde(_scalar_drift(n), n_steps=100, noise=noise, guide=guide).mean())

    free, pulled = mean(0.0, 0.2), mean(5e-3, 0.2)
    assert free == pytest.approx(2.0, abs=0.06)
    assert free + 0.05 < pulled < 3.1
    assert mean(5e-3, 50.0) == pulled


def test_guides_without_strength_leave_the_forecast():
    n, noise = 50, SharedNoise(Noise(5), range(50), "t")
    free = sample_sde(_scalar_drift(n), n_steps=40, noise=noise)
    for guide in (MonteCarloGuidance(Scalar(3.0, 0.2), noise, 0.0), PosteriorSamplingGuidance(Scalar(3.0, 0.2), 0.0)):
        assert torch.equal(sample_sde(_scalar_drift(n), n_steps=40, noise=noise, guide=guide), free)


def test_posterior_sampling_is_over_confident():
    """Tuned to the exact posterior mean, its variance is below the exact one: V was left out."""
    n, noise, variance = 4000, SharedNoise(Noise(6), range(4000), "t"), 0.2
    exact = 2.0 + 0.5 / 0.7
    results = {
        zeta: sample_sde(
            _scalar_drift(n), n_steps=200, noise=noise, guide=PosteriorSamplingGuidance(Scalar(3.0, variance), zeta)
        ).flatten()
        for zeta in (2.5e-3, 3e-3, 4e-3, 4.5e-3, 5e-3)
    }
    nearest = min(results.values(), key=lambda draws: abs(float(draws.mean()) - exact))
    assert abs(float(nearest.mean()) - exact) < 0.1
    assert float(nearest.var()) < 0.5 * 0.2 / 0.7


def test_collapsed_weights_are_drawn_again_and_then_replaced_by_the_mean_endpoint():
    """Observation error 1e-4: one weight takes all, and the fallback pulls by the mean endpoint."""
    n = 64
    results = []
    for start in (0.5, 1.0):
        noise = SharedNoise(Noise(7), range(n), "t")
        guide = MonteCarloGuidance(Scalar(3.0, 1e-8), noise, 1e-2, spread="exact", fallback_from=start)
        results.append(sample_sde(_scalar_drift(n), n_steps=50, noise=noise, guide=guide))
    assert not torch.equal(results[0], results[1])
    assert bool(results[0].isfinite().all())
