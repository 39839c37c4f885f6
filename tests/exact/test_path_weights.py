"""Path weights against the Kalman posterior and evidence, for every number of steps and for wrong covariances.

With a wrong covariance the unguided chain is another Gaussian than the transition; its mean and covariance follow
exactly from the linear recursion of the chain, and the weighted draws must be the Kalman posterior of that chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from cycler_da.generative.analytic import GaussianEndpoint
from cycler_da.generative.covariance import FullCovariance
from cycler_da.generative.gauss_newton import GaussNewtonDraw
from cycler_da.generative.guidance import ConjugateDraw
from cycler_da.generative.localisation import SharedNoise, localise, tau_grid
from cycler_da.generative.path_weights import RecordedEndpoint, linear_path_weights, log_normal, path_weights
from cycler_da.generative.resampling import (
    effective_share,
    log_evidence,
    normalised,
    systematic_resampling,
    tempering_exponent,
)
from cycler_da.noise import Noise

N = 40_000
COVARIANCE = torch.tensor([[0.9, 0.4, 0.0], [0.4, 0.7, -0.2], [0.0, -0.2, 0.3]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
MATRIX = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
VALUES = torch.tensor([0.3, 0.2], dtype=torch.float64)
ERROR_VARIANCE = torch.tensor([0.2, 0.5], dtype=torch.float64)


@dataclass(frozen=True)
class MatrixObservation:
    """y = H x + r of a flat state."""

    matrix: torch.Tensor = MATRIX
    values: torch.Tensor = VALUES
    error_variance: torch.Tensor = ERROR_VARIANCE

    def linear(self, v):
        return v.reshape(v.shape[0], -1).to(torch.float64) @ self.matrix.T

    __call__ = linear

    def adjoint(self, v):
        return (v @ self.matrix)[:, None, :]


@dataclass(frozen=True)
class WrongCovariance:
    """The exact mean with another covariance model."""

    exact: GaussianEndpoint
    kind: str

    def mean(self, tau, u):
        return self.exact.mean(tau, u)

    def covariance(self, tau):
        right = self.exact.covariance(tau).matrix
        if self.kind == "exact":
            return FullCovariance(right)
        if self.kind == "diagonal":
            return FullCovariance(torch.diag(right.diagonal()))
        return FullCovariance(right.diagonal().mean() * torch.eye(3, dtype=torch.float64))


def _model(kind: str, n: int) -> WrongCovariance:
    return WrongCovariance(GaussianEndpoint(MEAN.expand(n, 1, 3), FullCovariance(COVARIANCE)), kind)


def _chain_moments(model: WrongCovariance, taus) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the unguided chain's last endpoint, from its linear recursion."""
    mean, cov = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64)
    for tau, after in pairwise([*taus, None]):
        slope = model.exact.covariance(tau).matrix  # m is affine in U with this slope
        centre = MEAN + slope @ (mean - tau * MEAN)
        if after is None:
            return centre, slope @ cov @ slope + model.covariance(tau).matrix
        dt = after - tau
        forward = identity + dt * slope
        mean = mean + dt * centre
        cov = forward @ cov @ forward.T + dt**2 * model.covariance(tau).matrix + dt * identity
    raise AssertionError


def _kalman(mean: torch.Tensor, cov: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    spread = MATRIX @ cov @ MATRIX.T + torch.diag(ERROR_VARIANCE)
    gain = cov @ MATRIX.T @ torch.linalg.inv(spread)
    innovation = VALUES - MATRIX @ mean
    return mean + gain @ innovation, cov - gain @ MATRIX @ cov, float(log_normal(innovation[None], spread))


def _weighted(kind: str, steps: int, *, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, tuple[float, ...]]:
    noise, taus = SharedNoise(Noise(seed), range(n), "test"), tau_grid(steps, 20.0)
    recorded = RecordedEndpoint(_model(kind, n))
    draw = ConjugateDraw(recorded, MatrixObservation(), noise)
    ends = localise(draw, taus, like=MEAN.expand(n, 1, 3), noise=noise)
    return ends[:, 0], linear_path_weights(recorded, MatrixObservation())[0], taus


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("kind", ["exact", "diagonal", "scalar"])
def test_weighted_guided_draws_are_the_kalman_posterior_and_evidence(kind, steps):
    ends, log_w, taus = _weighted(kind, steps, n=N, seed=30 + steps)
    mean, cov, evidence = _kalman(*_chain_moments(_model(kind, 1), taus))
    weights = normalised(log_w)
    measured = weights @ ends
    anomalies = ends - measured
    # Five standard errors of N draws with the effective share of the weights (at least 0.8 here).
    tolerance = 5 / (0.8 * N) ** 0.5
    assert effective_share(log_w) > 0.8
    assert ((measured - mean).abs() < tolerance * cov.diagonal().sqrt()).all()
    scale = cov.diagonal().sqrt()
    error = ((weights * anomalies.T) @ anomalies - cov).abs()
    assert (error < 2**0.5 * tolerance * scale[:, None] * scale).all()
    assert abs(log_evidence(log_w) - evidence) < tolerance


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_every_weight_is_the_evidence_when_the_covariance_is_exact(steps):
    _, log_w, _ = _weighted("exact", steps, n=200, seed=1)
    evidence = _kalman(MEAN, COVARIANCE)[2]
    assert torch.allclose(log_w, torch.full_like(log_w, evidence), rtol=0, atol=1e-9)
    assert effective_share(log_w) == pytest.approx(1.0, abs=1e-12)


def test_the_general_formula_equals_the_linear_one():
    noise = SharedNoise(Noise(5), range(50), "test")
    recorded, observation = RecordedEndpoint(_model("scalar", 50)), MatrixObservation()
    draw = GaussNewtonDraw(recorded, observation, noise)
    ends = localise(draw, tau_grid(5, 20.0), like=MEAN.expand(50, 1, 3), noise=noise)
    linear, _ = linear_path_weights(recorded, observation)

    def log_likelihood(x):
        return log_normal(VALUES - observation(x), torch.diag(ERROR_VARIANCE))

    general = path_weights(recorded, ends, log_likelihood=log_likelihood)
    assert torch.allclose(general, linear, rtol=0, atol=1e-10)


def test_gauss_newton_draws_of_linear_observations_are_the_conjugate_draws():
    noise, like = SharedNoise(Noise(5), range(50), "test"), MEAN.expand(50, 1, 3)
    one = localise(ConjugateDraw(_model("exact", 50), MatrixObservation(), noise), (0.0, 3.0), like=like, noise=noise)
    two = localise(GaussNewtonDraw(_model("exact", 50), MatrixObservation(), noise), (0.0, 3.0), like=like, noise=noise)
    assert torch.allclose(one, two, rtol=0, atol=1e-12)


def test_the_evidence_is_unbiased_and_its_error_falls_with_the_root_of_the_number_of_draws():
    _, log_w, taus = _weighted("scalar", 5, n=64_000, seed=9)
    evidence = math.exp(_kalman(*_chain_moments(_model("scalar", 1), taus))[2])
    w = log_w.exp() / evidence
    errors = {n: w.reshape(-1, n).mean(dim=1) - 1.0 for n in (10, 1000)}
    assert abs(float(w.mean()) - 1.0) < 5 * float(w.std()) / len(w) ** 0.5
    # 6400 and 64 estimates: the ratio of their deviations is 10 within 5 / sqrt(2 * 64).
    assert float(errors[10].std() / errors[1000].std()) == pytest.approx(10.0, rel=0.45)


@pytest.mark.parametrize("kind", ["arctan", "cubic"])
@pytest.mark.parametrize("steps", [1, 3])
def test_weighted_gauss_newton_draws_are_the_posterior_of_nonlinear_observations(kind, steps):
    """One dimension, prior N(0.4, 0.6^2), observation error 0.5: quadrature on 20 001 points is the answer."""
    prior_mean, prior_std, error, y = 0.4, 0.6, 0.5, 0.8
    h, caution = {"arctan": (torch.atan, 1.0), "cubic": (lambda x: x**3, 4.0)}[kind]

    @dataclass(frozen=True)
    class Nonlinear:
        values: torch.Tensor
        error_variance: torch.Tensor

        def __call__(self, x):
            return h(x.flatten(1))

    one = torch.ones(1, dtype=torch.float64)
    observation, noise = Nonlinear(y * one, error**2 * one), SharedNoise(Noise(14), range(N), "test")
    start = (prior_mean * one).expand(N, 1, 1)
    recorded = RecordedEndpoint(GaussianEndpoint(start, FullCovariance(prior_std**2 * torch.eye(1).double())))
    ends = localise(
        GaussNewtonDraw(recorded, observation, noise, caution=caution), tau_grid(steps, 5.0), like=start, noise=noise
    )

    def log_likelihood(x):
        return log_normal(y - h(x.flatten(1)), error**2 * torch.eye(1, dtype=torch.float64))

    log_w = path_weights(recorded, ends, log_likelihood=log_likelihood)
    grid = torch.linspace(-4.0, 5.0, 20_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((grid - prior_mean) / prior_std) ** 2 - 0.5 * ((y - h(grid)) / error) ** 2)
    mass = density.sum()
    mean = float((grid * density).sum() / mass)
    std = float((((grid - mean) ** 2 * density).sum() / mass).sqrt())
    evidence = float(mass * (grid[1] - grid[0])) / (2 * math.pi * prior_std * error)
    weights = normalised(log_w)
    share = effective_share(log_w)
    tolerance = 5 / (share * N) ** 0.5
    assert share > 0.2
    measured = float(weights @ ends.flatten())
    assert abs(measured - mean) < tolerance * std
    assert float((weights @ (ends.flatten() - measured) ** 2).sqrt()) == pytest.approx(std, rel=2 * tolerance)
    assert abs(log_evidence(log_w) - math.log(evidence)) < 2 * tolerance


def test_systematic_resampling_takes_each_member_as_often_as_its_weight_says():
    weights = torch.tensor([0.5, 0.05, 0.25, 0.2], dtype=torch.float64)
    comb = torch.arange(1000, dtype=torch.float64) / 1000
    counts = torch.stack(
        [torch.bincount(systematic_resampling(weights.log(), uniform=float(u)), minlength=4) for u in comb]
    ).double()
    assert torch.allclose(counts.mean(dim=0), 4 * weights, rtol=0, atol=4e-3)  # the comb's own step
    assert (counts >= (4 * weights).floor()).all()
    assert (counts <= (4 * weights).ceil()).all()


def test_equal_weights_leave_every_member_in_its_place():
    kept = systematic_resampling(torch.full((7,), -3.0, dtype=torch.float64), uniform=0.4)
    assert kept.tolist() == list(range(7))


def test_the_tempering_exponent_keeps_the_wanted_share():
    log_w = 3.0 * Noise(2).shared_normal("w", (500,), dtype=torch.float64)
    exponent = tempering_exponent(log_w, share=0.5)
    assert 0 < exponent < 1
    assert effective_share(exponent * log_w) == pytest.approx(0.5, abs=1e-6)
    assert tempering_exponent(0.01 * log_w, share=0.5) == 1.0
