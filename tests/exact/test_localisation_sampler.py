"""The sampler and conjugate guidance against closed forms; nothing here is trained."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cycler_da.generative.analytic import GaussianEndpoint
from cycler_da.generative.covariance import (
    FullCovariance,
    SpectralCovariance,
    WhiteCovariance,
    shells_from_residuals,
    spectral_from_shells,
)
from cycler_da.generative.guidance import ConjugateDraw, observation_covariance
from cycler_da.generative.localisation import GaussianDraw, MemberNoise, localise, tau_grid
from cycler_da.noise import Noise

N = 40_000
COVARIANCE = torch.tensor([[0.9, 0.4, 0.0], [0.4, 0.7, -0.2], [0.0, -0.2, 0.3]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


@dataclass(frozen=True)
class MatrixObservation:
    """y = H x + r of a flat state."""

    matrix: torch.Tensor
    values: torch.Tensor
    error_variance: torch.Tensor

    def linear(self, v):
        return v.reshape(v.shape[0], -1).to(torch.float64) @ self.matrix.T

    __call__ = linear

    def adjoint(self, v):
        return (v @ self.matrix)[:, None, :]


def _bulk_noise(seed: int, n: int) -> MemberNoise:
    """One generator for all draws of a statistical test (keyed noise for each member would be slow)."""

    class Bulk(MemberNoise):
        def normal(self, name, shape, *, step):
            return self.noise.shared_normal(f"{name}", (n, *shape), step=step, dtype=torch.float64)

    return Bulk(Noise(seed), range(n), "test")


def _model(n: int) -> GaussianEndpoint:
    return GaussianEndpoint(MEAN.expand(n, 1, 3), FullCovariance(COVARIANCE))


def _assert_moments(draws: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> None:
    """Within five standard errors of a Gaussian sample's mean and covariance."""
    flat = draws.reshape(len(draws), -1)
    scale = covariance.diagonal().sqrt()
    assert ((flat.mean(dim=0) - mean).abs() < 5 * scale / len(flat) ** 0.5).all()
    error = (torch.cov(flat.T) - covariance).abs()
    bound = 5 * (2.0 / len(flat)) ** 0.5 * scale[:, None] * scale[None, :]
    assert (error < bound).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_sampler_reproduces_a_gaussian_transition_in_any_number_of_steps(steps):
    noise = _bulk_noise(10 + steps, N)
    draws = localise(GaussianDraw(_model(N), noise), tau_grid(steps, 20.0), like=MEAN.expand(N, 1, 3), noise=noise)
    _assert_moments(draws, MEAN, COVARIANCE)


def test_drawing_the_mean_instead_of_the_endpoint_loses_spread():
    """The measured loss at five steps: about half of the covariance."""
    model, noise = _model(N), _bulk_noise(3, N)

    def mean_draw(tau, u, *, step):
        return model.mean(tau, u)

    draws = localise(mean_draw, tau_grid(5, 20.0), like=MEAN.expand(N, 1, 3), noise=noise)
    kept = torch.cov(draws.reshape(N, 3).T).trace() / COVARIANCE.trace()
    assert kept < 0.75


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_guided_sampler_equals_the_kalman_posterior(steps):
    matrix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    observation = MatrixObservation(
        matrix, torch.tensor([0.3, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.5], dtype=torch.float64)
    )
    innovation = matrix @ COVARIANCE @ matrix.T + torch.diag(observation.error_variance)
    gain = COVARIANCE @ matrix.T @ torch.linalg.inv(innovation)
    mean = MEAN + gain @ (observation.values - matrix @ MEAN)
    covariance = COVARIANCE - gain @ matrix @ COVARIANCE
    noise = _bulk_noise(20 + steps, N)
    draw = ConjugateDraw(_model(N), observation, noise)
    draws = localise(draw, tau_grid(steps, 20.0), like=MEAN.expand(N, 1, 3), noise=noise)
    _assert_moments(draws, mean, covariance)


def test_without_observations_guidance_is_bitwise_the_forecast():
    model, noise = _model(6), MemberNoise(Noise(5), range(6), "draw")
    nothing = MatrixObservation(
        torch.zeros((0, 3), dtype=torch.float64),
        torch.zeros(0, dtype=torch.float64),
        torch.zeros(0, dtype=torch.float64),
    )
    like = MEAN.expand(6, 1, 3)
    free = localise(GaussianDraw(model, noise), tau_grid(3), like=like, noise=noise)
    guided = localise(ConjugateDraw(model, nothing, noise), tau_grid(3), like=like, noise=noise)
    assert torch.equal(free, guided)


def test_guidance_vanishes_as_the_observation_error_grows():
    model, noise, like = _model(6), MemberNoise(Noise(5), range(6), "draw"), MEAN.expand(6, 1, 3)
    free = localise(GaussianDraw(model, noise), (0.0,), like=like, noise=noise)
    distances = []
    for variance in (1e2, 1e6, 1e10):
        seen = MatrixObservation(
            torch.eye(3, dtype=torch.float64),
            torch.full((3,), 9.0, dtype=torch.float64),
            torch.full((3,), variance, dtype=torch.float64),
        )
        guided = localise(ConjugateDraw(model, seen, noise), (0.0,), like=like, noise=noise)
        distances.append(float((guided - free).abs().max()))
    # The perturbation of y grows as the square root of its variance, so the pull falls as its inverse.
    assert distances[0] > 1e-2 > distances[1] > distances[2]
    assert distances[2] < 1e-4


def test_splitting_members_over_batches_changes_nothing():
    whole = MemberNoise(Noise(8), range(6), "draw")
    like = MEAN.expand(6, 1, 3)
    together = localise(GaussianDraw(_model(6), whole), tau_grid(3), like=like, noise=whole)
    parts = []
    for members in (range(0, 2), range(2, 6)):
        noise = MemberNoise(Noise(8), members, "draw")
        parts.append(
            localise(GaussianDraw(_model(len(members)), noise), tau_grid(3), like=like[: len(members)], noise=noise)
        )
    assert torch.allclose(together, torch.cat(parts), rtol=0, atol=1e-14)


def _spectral(n: int) -> tuple[SpectralCovariance, torch.Tensor]:
    k = torch.arange(n, dtype=torch.float64)
    amplitude = torch.exp(-k / 3.0)
    shells = torch.zeros(n, 2, 2, dtype=torch.float64)
    shells[:, 0, 0], shells[:, 1, 1] = amplitude, 0.5 * amplitude
    shells[:, 0, 1] = shells[:, 1, 0] = -0.4 * amplitude
    return spectral_from_shells(shells, n), shells


def _dense(covariance, n: int) -> torch.Tensor:
    units = torch.eye(2 * n * n, dtype=torch.float64).reshape(-1, 2, n, n)
    return covariance.apply(units).reshape(2 * n * n, -1)


def test_spectral_covariance_is_symmetric_positive_and_its_root_squares_to_it():
    covariance, _ = _spectral(8)
    dense = _dense(covariance, 8)
    assert torch.allclose(dense, dense.T, rtol=0, atol=1e-13)
    assert float(torch.linalg.eigvalsh(dense).min()) > -1e-12
    units = torch.eye(128, dtype=torch.float64).reshape(-1, 2, 8, 8)
    root = covariance.color(units).reshape(128, -1)
    assert torch.allclose(root @ root, dense, rtol=0, atol=1e-12)
    assert torch.allclose(covariance.variance()[0], dense[0, 0], rtol=1e-12)
    assert torch.allclose(covariance.variance()[1], dense[64, 64], rtol=1e-12)


@pytest.mark.parametrize("precision", [0.0, 0.3, 50.0])
def test_damped_covariance_equals_the_dense_formula(precision):
    covariance, _ = _spectral(8)
    dense = _dense(covariance, 8)
    identity = torch.eye(128, dtype=torch.float64)
    expected = dense @ torch.linalg.inv(identity + precision * dense)
    assert torch.allclose(_dense(covariance.damped(precision), 8), expected, rtol=0, atol=1e-12)
    full = FullCovariance(dense).damped(precision).matrix
    assert torch.allclose(full, expected, rtol=0, atol=1e-12)
    assert WhiteCovariance(2.0).damped(precision).level == pytest.approx(2.0 / (1.0 + 2.0 * precision))


def test_whitening_undoes_colouring():
    covariance, _ = _spectral(16)
    z = Noise(1).shared_normal("z", (3, 2, 16, 16), dtype=torch.float64)
    assert torch.allclose(covariance.whiten(covariance.color(z)), z, rtol=0, atol=1e-8)


def test_shells_measured_from_draws_give_the_covariance_back():
    covariance, shells = _spectral(16)
    z = Noise(2).shared_normal("z", (4000, 2, 16, 16), dtype=torch.float64)
    measured = shells_from_residuals(covariance.color(z))
    # Interpolation between shells bends the profile a little; 4000 draws times the modes of a shell.
    assert torch.allclose(measured[1:8], shells[1:8], rtol=0.08, atol=0.02)


def test_observation_covariance_equals_the_dense_product():
    covariance, _ = _spectral(8)
    generator = Noise(4).generator("h")
    matrix = torch.from_numpy(generator.standard_normal((7, 128)))
    zero = torch.zeros(7, dtype=torch.float64)

    class Flat(MatrixObservation):
        def adjoint(self, v):
            return (v @ self.matrix).reshape(-1, 2, 8, 8)

    built = observation_covariance(
        covariance, Flat(matrix, zero, zero + 1), like=torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    )
    assert torch.allclose(built, matrix @ _dense(covariance, 8) @ matrix.T, rtol=0, atol=1e-11)
