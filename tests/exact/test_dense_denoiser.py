"""Endpoints of a residual that is not Gaussian, with a denoiser that is known: two modes in every direction.

r_i = sqrt(1 - s^2) e_i + s z_i,  e_i = +-1:   E[r_i | U] = (m t + s^2 U) / (1 + tau s^2),
t = tanh(m U / (1 + tau s^2)),  m^2 = 1 - s^2,   Cov = s^2 / (1 + tau s^2) + m^2 (1 - t^2) / (1 + tau s^2)^2
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cycler_da.generative.denoiser import NetworkDenoiser, denoising_loss, fit_denoiser
from cycler_da.generative.dense_denoiser import DenoisedEndpoint
from cycler_da.generative.dense_transition import DensePrediction, DenseTransition
from cycler_da.generative.gauss_newton import GaussNewtonDraw
from cycler_da.generative.localisation import GaussianDraw, SharedNoise, localise, moments, tau_grid
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.path_weights import RecordedEndpoint, log_normal, path_weights
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.state_path import has_state_path
from cycler_da.generative.training import TrainSettings
from cycler_da.noise import Noise

SMALL = 0.3  # s
MODE = (1.0 - SMALL**2) ** 0.5


class TwoModes(nn.Module):
    """F of the two modes, whatever the state."""

    def forward(self, x, tau):
        tau, w = tau[:, None, None], x[:, x.shape[1] // 2 :]
        u, left = w * torch.sqrt(tau * (1.0 + tau)), 1.0 + tau * SMALL**2
        mean = (MODE * torch.tanh(MODE * u / left) + SMALL**2 * u) / left
        return torch.sqrt(1.0 + tau) * (mean - u / (1.0 + tau))


DENOISER = NetworkDenoiser(TwoModes())


def noise_of(n):
    return SharedNoise(Noise(7), range(n), "test")


def endpoint(n, size=1):
    return DenoisedEndpoint(DENOISER, torch.zeros(n, size, 1))


@pytest.mark.parametrize("tau", [0.3, 3.0, 40.0])
def test_the_derivative_of_the_mean_is_the_covariance(tau):
    u = 2.0 * tau**0.5 * torch.randn(150, 2, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, covariance = moments(endpoint(150, 2), tau, u)
    left = 1.0 + tau * SMALL**2
    t = torch.tanh(MODE * u / left)
    variance = SMALL**2 / left + (MODE / left) ** 2 * (1.0 - t.square())
    # The network works in single precision, on w, and the derivative is divided by sqrt(tau) again.
    torch.testing.assert_close(mean, (MODE * t + SMALL**2 * u) / left, rtol=0, atol=2e-5)
    for i in range(2):
        unit = torch.zeros_like(u)
        unit[:, i] = 1.0
        expected = torch.zeros_like(u)
        expected[:, i] = variance[:, i]
        torch.testing.assert_close(covariance.apply(unit), expected, rtol=0, atol=2e-5)


def test_the_chain_draws_two_modes_that_one_point_has_not():
    n = 6000
    model, blank, share = endpoint(n), torch.zeros(n, 1, 1, dtype=torch.float64), []
    for points, tau_max in ((1, 3.0), (5, 20.0), (10, 60.0)):
        r = localise(GaussianDraw(model, noise_of(n)), tau_grid(points, tau_max), like=blank, noise=noise_of(n))
        share.append(float((r.abs() < 0.5).double().mean()))
        # Moment matching keeps the first two moments; 6000 draws: standard errors 1.3 % and 1.8 %.
        assert float(r.mean()) == pytest.approx(0.0, abs=0.04)
        assert float(r.var()) == pytest.approx(1.0, abs=0.06)
    # Between the modes lie 6.5 % of the law, 38.3 % of a Gaussian: standard errors 0.3 % and 0.6 %; of ten points a
    # fifth more is left there, of five two fifths.
    assert share[0] == pytest.approx(0.383, abs=0.025)
    assert share[1] == pytest.approx(0.065, abs=0.04) and share[2] == pytest.approx(0.065, abs=0.025)


def test_members_do_not_depend_on_their_batch_nor_on_the_mode_of_autograd():
    u = torch.randn(150, 2, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    denoiser = NetworkDenoiser(trained_network(2))
    states = torch.randn(150, 2, 1, generator=torch.Generator().manual_seed(3))
    mean, covariance = DenoisedEndpoint(denoiser, states).moments(2.0, u)
    for part in (slice(0, 1), slice(60, 70)):
        with torch.inference_mode():
            inside = DenoisedEndpoint(denoiser, states[part].clone()).moments(2.0, u[part].clone())
        assert torch.equal(inside[0], mean[part])
        assert torch.equal(inside[1].color(u[part]), covariance.color(u)[part])


def trained_network(size):
    net = build_network(NetworkSpec("residual_mlp", {"size": size, "width": 8, "depth": 1}))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return net


def test_an_untrained_denoiser_is_the_gaussian_and_a_trained_one_is_it_at_tau_zero():
    fresh = NetworkDenoiser(build_network(NetworkSpec("residual_mlp", {"size": 2, "width": 8, "depth": 1})))
    r = torch.randn(4000, 2, 1, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        loss = denoising_loss(fresh, r, r, torch.Generator().manual_seed(6), at_zero=0.0)
    assert float(loss) == pytest.approx(1.0, abs=4 * (2.0 / r.numel()) ** 0.5)  # 4 sigma of a mean square
    transition = DenseTransition(mean_and_root(), SCALING, denoiser=NetworkDenoiser(trained_network(2)))
    frames = r[:100, None].double()
    with_one, without = (t.predict(frames) for t in (transition, DenseTransition(mean_and_root(), SCALING)))
    for taus, agree in (((0.0,), True), ((0.0, 3.0), False)):
        draws = [
            p.to_state(localise(GaussianDraw(p.endpoint, noise_of(100)), taus, like=p.mean, noise=noise_of(100)))
            for p in (with_one, without)
        ]
        assert torch.equal(*draws) is agree


def test_a_fit_that_was_stopped_ends_with_the_same_weights(tmp_path):
    spec = NetworkSpec("residual_mlp", {"size": 1, "width": 8, "depth": 1})
    settings = TrainSettings(spec, steps=20, batch=16, checkpoint_every=10)
    r = torch.randn(100, 1, 1, generator=torch.Generator().manual_seed(8)).exp()
    whole, _ = fit_denoiser(r, r, settings, at_zero=0.0)

    class Stopped(Exception):
        pass

    def stop(step, loss, seconds):
        raise Stopped

    with pytest.raises(Stopped):
        fit_denoiser(r, r, settings, folder=tmp_path, at_zero=0.0, tell=stop)
    parts, _ = fit_denoiser(r, r, settings, folder=tmp_path, at_zero=0.0)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert any(bool(weight.any()) for weight in whole.network.tower[-1].parameters())


SCALING = Scaling((0.0, 0.0), (1.0, 1.0))


def mean_and_root():
    return build_network(NetworkSpec("mlp", {"size": 2, "width": 8, "depth": 1}))


def test_only_a_gaussian_transition_has_a_path_from_state_to_state():
    assert has_state_path(DenseTransition(mean_and_root(), SCALING))
    denoised = DenseTransition(mean_and_root(), SCALING, denoiser=NetworkDenoiser(trained_network(2)))
    assert not has_state_path(denoised)
    assert denoised.predicts is DensePrediction


class Seen:
    """y = r_1 + error, a linear observation of the first value."""

    values = torch.tensor([0.8], dtype=torch.float64)
    error_variance = torch.tensor([0.8], dtype=torch.float64)

    def __call__(self, x):
        return x[:, :1, 0].to(torch.float64)

    def known_slope(self):
        return None


def test_path_weights_make_guided_draws_those_of_bayes_where_modes_compete():
    n = 4000
    noise, blank, taus = noise_of(n), torch.zeros(n, 1, 1, dtype=torch.float64), tau_grid(12, 60.0)
    recorded = RecordedEndpoint(endpoint(n))
    r = localise(GaussNewtonDraw(recorded, Seen(), noise, iterations=1), taus, like=blank, noise=noise)

    def log_likelihood(x):
        return log_normal(Seen.values - x[:, :, 0], torch.diag(Seen.error_variance))

    log_w = path_weights(recorded, r, log_likelihood=log_likelihood)
    w, right = torch.softmax(log_w, dim=0), (r[:, 0, 0] > 0).double()
    # Given the sign y ~ N(+-m, s^2 + R).
    variance = SMALL**2 + Seen.error_variance
    either = torch.exp(-0.5 * (Seen.values - torch.tensor([MODE, -MODE])) ** 2 / variance)
    evidence = either.mean() / (2.0 * torch.pi * variance).sqrt()
    # Effective share of the weights 0.9: standard errors 0.6 % and 0.6 %, and what twelve points leave of the law.
    assert float((w * right).sum()) == pytest.approx(float(either[0] / either.sum()), abs=0.03)
    assert float(log_w.exp().mean()) == pytest.approx(float(evidence), rel=0.06)
    # Without weights draws are not sure enough of the mode, for every step is guided as if the residual were Gaussian.
    assert float(right.mean()) < float((w * right).sum()) - 0.03
