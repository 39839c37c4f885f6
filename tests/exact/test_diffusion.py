"""Schedules, likelihood scores, samplers and correctors against Gaussians, whose every answer is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cycler_da.bench.unit_draws import UnitDraws, every_step, moments
from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.composition import ComposedDenoiser, Composition
from cycler_da.generative.diffusion.corrector import ForwardDiffusion, Langevin
from cycler_da.generative.diffusion.denoiser import EpsilonDenoiser, clean_of_score, noise_in
from cycler_da.generative.diffusion.gaussian import GaussianDenoiser
from cycler_da.generative.diffusion.information import CellInformation
from cycler_da.generative.diffusion.likelihood import (
    KnownCovariance,
    MatrixMeasurement,
    MomentMatching,
    WidenedLikelihood,
    dps_widening,
    sda_widening,
    soad_widening,
)
from cycler_da.generative.diffusion.sampler import sample, sample_ancestral, sample_redrawn, sample_second_order
from cycler_da.generative.diffusion.schedule import (
    COSINE,
    COSINE_SQUARED,
    find_schedule,
    linear_times,
    ratio_times,
)
from cycler_da.generative.localisation import MemberNoise
from cycler_da.noise import Noise

N, N_OBS, BATCH = 6, 3, 4
TIMES = (0.03, 0.3, 0.6, 0.9)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prior(schedule=COSINE_SQUARED, n=N):
    root = randn(n, n, seed=1) / math.sqrt(n)
    return GaussianDenoiser(randn(n, seed=2), root @ root.T + 0.05 * torch.eye(n, dtype=torch.float64), schedule)


def measurement(n=N):
    variance = torch.tensor([0.01, 0.04, 0.25], dtype=torch.float64)
    return MatrixMeasurement(randn(BATCH, N_OBS, seed=3), variance, randn(N_OBS, n, seed=4))


def keyed(n_members, stream="test"):
    return MemberNoise(Noise(5), range(n_members), stream)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# ------------------------------------------------------------------ schedules and parametrisations


def test_schedules_have_the_published_ratios():
    for t, ratio in ((0.25, 0.596), (0.5, 1.66), (0.75, 6.03), (0.9, 29.4), (1.0, 1000.0)):
        assert COSINE_SQUARED.ratio(t) == pytest.approx(ratio, rel=2e-3)  # the source has three digits
    for schedule in (COSINE_SQUARED, COSINE):
        assert schedule.sigma(0.0) == pytest.approx(1e-3, rel=1e-12)
    assert COSINE.mu(1.0) == pytest.approx(math.sqrt(1e-3), rel=1e-12)


def test_ratio_times_are_equidistant_in_the_logarithm_of_the_ratio():
    times = ratio_times(COSINE, 8, low=0.02, high=20.0)
    logs = np.log([COSINE.ratio(t) for t in times])
    np.testing.assert_allclose(np.diff(logs), -math.log(1000.0) / 8, rtol=1e-9)


@pytest.mark.parametrize("make", [lambda: linear_times(0), lambda: ratio_times(COSINE, 4, low=2.0, high=1.0)])
def test_a_grid_of_times_that_cannot_be_is_refused(make):
    with pytest.raises(ConfigError, match="needs"):
        make()


def test_an_unknown_schedule_is_refused_with_the_valid_names():
    with pytest.raises(ConfigError, match=r"'sine'; valid: cosine_squared, cosine"):
        find_schedule("sine")


@pytest.mark.parametrize("t", TIMES)
def test_the_gaussian_denoiser_is_tweedies_formula_of_its_own_density(t):
    exact, z = prior(), randn(BATCH, N).requires_grad_()
    (score,) = torch.autograd.grad(exact.log_density(z, t).sum(), z)
    torch.testing.assert_close(exact(z, t), clean_of_score(z, score, COSINE_SQUARED, t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_a_noise_prediction_gives_the_denoiser_back(t):
    exact, z = prior(), randn(BATCH, N)
    wrapped = EpsilonDenoiser(lambda z, t: noise_in(z, exact(z, t), COSINE_SQUARED, t), COSINE_SQUARED)
    torch.testing.assert_close(wrapped(z, t), exact(z, t), rtol=1e-9, atol=1e-9)  # mu(0.9) is 0.03


# ------------------------------------------------------------------ likelihood scores


def scores_that_are_exact(exact, seen):
    yield MomentMatching(exact, COSINE_SQUARED, seen)
    yield KnownCovariance(exact, Informed(seen), lambda t: DenseLeft(symmetric_power(exact.left_covariance(t), 0.5)))


class Informed:
    """A measurement that is asked how much it says."""

    def __init__(self, seen):
        self.values, self.error_variance, self.hx, self.slope = seen.values, seen.error_variance, seen.hx, seen.slope

    def information(self, like):
        # A guess: the answer does not depend on it.
        return CellInformation(torch.linspace(0.5, 2.0, N, dtype=torch.float64))


class DenseLeft:
    """A covariance by its root."""

    def __init__(self, matrix):
        self.matrix = matrix

    def pushed(self, u, like):
        return u @ self.matrix.mT

    def pulled(self, v):
        return v @ self.matrix

    def colored(self, xi):
        return xi @ self.matrix.mT

    def informed(self, information, like):
        total = torch.eye(N).double() + self.matrix.mT @ (information.density[:, None] * self.matrix)
        return DenseLeft(self.matrix @ symmetric_power(total, -0.5))


def symmetric_power(matrix, power):
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0) ** power) @ vectors.mT


@pytest.mark.parametrize("t", TIMES)
def test_moment_matching_and_a_known_covariance_are_bayes_for_gaussians(t):
    exact, seen, z = prior(), measurement(), randn(BATCH, N)
    expected = exact.given(seen.values, seen.matrix, seen.error_variance)(z, t)
    for guided in scores_that_are_exact(exact, seen):
        assert relative(guided(z, t), expected) < 1e-10  # where conjugate gradients stop; 5e-12 is reached


@pytest.mark.parametrize("t", TIMES)
def test_soad_is_bayes_where_its_assumption_holds(t):
    """Prior covariance s^2 I and rows of A that are orthonormal."""
    std, matrix = 0.7, torch.linalg.qr(randn(N, N_OBS, seed=4))[0].T
    exact = GaussianDenoiser(randn(N, seed=2), std**2 * torch.eye(N, dtype=torch.float64), COSINE_SQUARED)
    seen = MatrixMeasurement(randn(BATCH, N_OBS, seed=3), torch.full((N_OBS,), 0.01, dtype=torch.float64), matrix)
    guided = WidenedLikelihood(exact, COSINE_SQUARED, seen, soad_widening(std))
    z = randn(BATCH, N)
    assert relative(guided(z, t), exact.given(seen.values, matrix, seen.error_variance)(z, t)) < 1e-12


def test_scalar_widenings_are_not_bayes_for_a_correlated_prior():
    """How far each is off at t = 0.6, where the correlated prior matters; moment matching is off by nothing."""
    exact, seen, z, t = prior(), measurement(), randn(BATCH, N), 0.6
    expected = exact.given(seen.values, seen.matrix, seen.error_variance)(z, t)
    for widening in (dps_widening(), sda_widening(0.01), soad_widening(1.0)):
        assert relative(WidenedLikelihood(exact, COSINE_SQUARED, seen, widening)(z, t), expected) > 0.05


@dataclass(frozen=True)
class Sine:
    """A nonlinear measurement, 1.5 sin(3 z) of every value."""

    values: torch.Tensor
    error_variance: torch.Tensor

    def hx(self, z):
        return 1.5 * torch.sin(3.0 * z)


@pytest.mark.parametrize(
    "widening", [dps_widening(), sda_widening(0.1), soad_widening(1.0)], ids=["dps", "sda", "soad"]
)
@pytest.mark.parametrize("t", [0.1, 0.5])
def test_likelihood_scores_are_the_gradients_of_their_densities(widening, t):
    exact, z = prior(), randn(1, N)
    seen = Sine(randn(1, N, seed=7), torch.full((N,), 0.04, dtype=torch.float64))

    def log_p(z):
        misfit = seen.values - seen.hx(exact(z, t))
        variance = seen.error_variance + widening.variance(COSINE_SQUARED.ratio(t))
        return float(-0.5 * (misfit**2 / variance).sum())

    step, unit = 1e-5, torch.eye(N, dtype=torch.float64)[:, None]
    gradient = torch.tensor([(log_p(z + step * e) - log_p(z - step * e)) / (2 * step) for e in unit])
    guided = WidenedLikelihood(exact, COSINE_SQUARED, seen, widening)
    found = (guided(z, t) - exact(z, t)) * COSINE_SQUARED.mu(t) / COSINE_SQUARED.sigma(t) ** 2
    assert relative(found[0], gradient) < 1e-7  # central differences: step^2 and rounding / step


def test_the_clip_bounds_each_state_by_itself():
    exact, t = prior(), 0.5
    far = measurement().values * torch.tensor([[1.0], [1e3], [1e3], [1e3]], dtype=torch.float64)
    seen = MatrixMeasurement(far, measurement().error_variance, measurement().matrix)
    z = randn(BATCH, N)
    free = WidenedLikelihood(exact, COSINE_SQUARED, seen, soad_widening(1.0))(z, t) - exact(z, t)
    bound = 2.0 * float(COSINE_SQUARED.mu(t) * free[0].abs().max())  # the first state is within it
    held = WidenedLikelihood(exact, COSINE_SQUARED, seen, soad_widening(1.0), clip=bound)(z, t) - exact(z, t)
    torch.testing.assert_close(held[0], free[0], rtol=1e-12, atol=1e-12)
    largest = (COSINE_SQUARED.mu(t) * held[1:]).abs().amax(dim=1)
    torch.testing.assert_close(largest, torch.full_like(largest, bound), rtol=1e-10, atol=0)


def test_likelihood_scores_work_in_inference_mode_as_cycles_run():
    exact, seen = prior(), measurement()
    with torch.inference_mode():
        z = randn(BATCH, N)
        found = WidenedLikelihood(exact, COSINE_SQUARED, seen, sda_widening(0.01))(z, 0.3)
    assert bool(found.isfinite().all())


# ------------------------------------------------------------------ samplers


def flow(schedule, variance, t_from, t_to):
    """The exact probability flow of N(0, variance): a factor."""
    total = [schedule.mu(t) ** 2 * variance + schedule.sigma(t) ** 2 for t in (t_from, t_to)]
    return math.sqrt(total[1] / total[0])


@pytest.mark.parametrize(("sampler", "order"), [(sample, 1), (sample_second_order, 2)], ids=["first", "second"])
@pytest.mark.parametrize("schedule", [COSINE_SQUARED, COSINE], ids=lambda s: s.name)
def test_samplers_converge_to_the_exact_flow_at_their_order(sampler, order, schedule):
    variance = 0.6
    exact = GaussianDenoiser(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), variance).double(), schedule)
    start, errors = torch.ones(1, 1, dtype=torch.float64), []
    for n_steps in (64, 128):
        times = ratio_times(schedule, n_steps, low=0.05, high=10.0)
        end = sampler(exact, schedule, times, start).state
        errors.append(abs(float(end) - flow(schedule, variance, times[0], times[-1])))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


class OneAtATime:
    """Draws of which state k has the k-th alone, so that a linear chain tells its own variance."""

    def normal(self, name, shape, *, step):
        return torch.eye(N_STEPS[-1] + 1, dtype=torch.float64)[:, step + 1, None]


N_STEPS = (50, 100)


def test_the_reverse_chain_converges_to_the_law_of_its_prior():
    variance, schedule, errors = 0.6, COSINE, []
    exact = GaussianDenoiser(torch.zeros(1).double(), torch.full((1, 1), variance).double(), schedule)
    start = torch.eye(N_STEPS[-1] + 1, dtype=torch.float64)[:, :1]
    for n_steps in N_STEPS:
        times = ratio_times(schedule, n_steps, low=0.01, high=30.0)
        end = sample_ancestral(exact, schedule, times, start, draws=OneAtATime()).state
        total = schedule.mu(times[-1]) ** 2 * variance + schedule.sigma(times[-1]) ** 2
        errors.append(abs(float(end.square().sum()) - total))
    assert errors[1] < variance * math.log(30.0 / 0.01) / N_STEPS[-1]  # one step in log r
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("n_steps", [1, 3, 8])
def test_the_chain_that_draws_anew_is_bayes_for_gaussians_in_any_number_of_steps(n_steps):
    exact, seen = prior(COSINE), measurement()
    seen = MatrixMeasurement(seen.values[:1], seen.error_variance, seen.matrix)
    posterior = exact.given(seen.values, seen.matrix, seen.error_variance)
    guided = KnownCovariance(
        exact, Informed(seen), lambda t: DenseLeft(symmetric_power(exact.left_covariance(t), 0.5)), tolerance=1e-13
    )
    low, eye = 1e-3, torch.eye(N, dtype=torch.float64)
    draws = UnitDraws({("start", 0): N, **every_step({"left": N, "seen": N_OBS, "redrawn": N}, n_steps)})
    times = ratio_times(COSINE, n_steps, low=low, high=30.0)
    root = symmetric_power(posterior.covariance + COSINE.ratio(times[0]) ** 2 * eye, 0.5)
    start = COSINE.mu(times[0]) * (posterior.mean + draws.normal("start", (N,), step=0) @ root)
    end = sample_redrawn(guided, COSINE, times, start, draws=draws).state / COSINE.mu(times[-1])
    mean, covariance = moments(end)
    # A solve stops at 1e-13; what is left of it adds up over the steps.
    assert relative(mean, posterior.mean[0]) < 1e-10
    assert relative(covariance, posterior.covariance + low**2 * eye) < 1e-10


def test_the_chain_that_takes_the_estimate_for_known_loses_variance():
    """The numbers that `sampler` gives: of N(0, 1) on the grid of the schemes."""
    exact = GaussianDenoiser(torch.zeros(1).double(), torch.ones(1, 1).double(), COSINE)
    for n_steps, expected in ((8, 0.431), (16, 0.632), (32, 0.787)):
        times, draws = (
            ratio_times(COSINE, n_steps, low=0.01, high=30.0),
            UnitDraws(every_step({"ancestral": 1}, n_steps)),
        )
        start = torch.zeros(draws.n_states, 1).double()  # noise of the start is forgotten to a thousandth
        _, variance = moments(sample_ancestral(exact, COSINE, times, start, draws=draws).clean)
        assert float(variance) == pytest.approx(expected, abs=2e-3)


def test_a_guided_flow_ends_in_the_posterior():
    """With an exact score the flow is linear: at 0 it is the posterior mean, its matrix a root of the covariance."""
    exact, seen = prior(), measurement()
    one = MatrixMeasurement(seen.values[:1], seen.error_variance, seen.matrix)
    posterior = exact.given(one.values, one.matrix, one.error_variance)
    times = ratio_times(COSINE_SQUARED, 200, low=1e-3, high=1e3)
    start = torch.cat([torch.zeros(1, N), torch.eye(N)]).to(torch.float64)
    end = sample_second_order(MomentMatching(exact, COSINE_SQUARED, one), COSINE_SQUARED, times, start).clean
    root = end[1:] - end[:1]
    # mu(1) = 1e-3 of the mean is missing at the start; the solver's own error is smaller.
    torch.testing.assert_close(end[:1], posterior.mean, rtol=0, atol=3e-3)
    torch.testing.assert_close(root.T @ root, posterior.covariance, rtol=0, atol=3e-3)


# ------------------------------------------------------------------ correctors


@pytest.mark.parametrize(("score", "expected"), [("fresh", 1.125), ("stale", 1.625)])
def test_langevin_moves_have_the_stationary_variance_of_theory(score, expected):
    """1 + tau / 2 with a fresh score, 1 + steps tau / 2 with the one of the published code."""
    t, n = 0.5, 40_000

    def nothing_but_noise(z, t):
        return torch.zeros_like(z)

    langevin = Langevin(COSINE_SQUARED, keyed(1), steps=5, tau=0.25, score=score)
    z, clean = COSINE_SQUARED.sigma(t) * randn(1, n), torch.zeros(1, n).double()
    for step in range(30):
        z, _ = langevin(z, clean, t, denoiser=nothing_but_noise, step=step)
    assert float(z.var()) / COSINE_SQUARED.sigma(t) ** 2 == pytest.approx(expected, rel=4 * math.sqrt(2 / n))


def test_a_stale_score_is_the_one_of_the_next_step():
    """The published predictor takes the noise that was predicted before the moves."""
    exact, z, t = prior(), randn(BATCH, N), 0.5
    langevin = Langevin(COSINE_SQUARED, keyed(BATCH), steps=3, tau=0.2, score="stale")
    moved, clean = langevin(z, exact(z, t), t, denoiser=exact, step=0)
    before, after = noise_in(z, exact(z, t), COSINE_SQUARED, t), noise_in(moved, clean, COSINE_SQUARED, t)
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)


def test_forward_diffusion_has_the_moments_of_a_noised_observation():
    t, n, error = 0.4, 40_000, 0.1
    mu, sigma = COSINE_SQUARED.mu(t), COSINE_SQUARED.sigma(t)
    y, variance = torch.full((n,), 0.8).double(), torch.full((n,), error**2).double()
    seen = torch.arange(n) % 2 == 0
    z = ForwardDiffusion(COSINE_SQUARED, keyed(1), "fdc", y, variance, seen)(torch.zeros(1, n).double(), t, 0)[0]
    assert float(z[seen].mean()) == pytest.approx(mu * 0.8, abs=4 * sigma / math.sqrt(n / 2))
    total = float(z[seen].var()) + mu**2 * error**2  # with the error that y itself has
    assert total == pytest.approx(sigma**2, rel=4 * math.sqrt(4 / n))
    assert not z[~seen].any()


def test_forward_diffusion_stops_where_the_noise_is_smaller_than_the_error():
    t = COSINE_SQUARED.time_of(0.05)
    z = randn(1, 9)
    seen, variance = torch.ones(9, dtype=torch.bool), torch.full((9,), 0.1**2).double()
    corrector = ForwardDiffusion(COSINE_SQUARED, keyed(1), "fdc", torch.zeros(9).double(), variance, seen)
    assert torch.equal(corrector(z, t, 0), z)


@pytest.mark.parametrize("change", [{"score": "old"}, {"steps": -1}, {"tau": 0.0}])
def test_langevin_options_that_make_no_sense_are_refused(change):
    with pytest.raises(ConfigError, match="langevin"):
        Langevin(COSINE, keyed(1), **{"steps": 1, "tau": 0.25, **change})


# ------------------------------------------------------------------ composition


def test_every_frame_comes_from_the_window_around_it():
    assert Composition(7, 3).sources == ((0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (4, 2))
    assert Composition(9, 5, stride=2).starts == (0, 2, 4)
    assert Composition(8, 5, stride=2).starts == (0, 2, 3)


def test_composition_joins_what_it_split():
    z = randn(2, 9, 3)
    for stride in (1, 2, 4):
        composition = Composition(9, 5, stride)
        assert torch.equal(composition.join(composition.split(z)), z)


def chain(n_frames, correlation):
    lags = (torch.arange(n_frames)[:, None] - torch.arange(n_frames)).abs().double()
    return GaussianDenoiser(torch.zeros(n_frames).double(), correlation**lags, COSINE)


def composition_error(window, ratio, n_frames=11, frames=slice(None)):
    """Relative error of some frames of a first-order chain from its windows."""
    t, z = COSINE.time_of(ratio), randn(50, n_frames, 1)
    composed = ComposedDenoiser(chain(window, 0.9), Composition(n_frames, window))
    return relative(composed(z, t)[:, frames], chain(n_frames, 0.9)(z, t)[:, frames])


def test_composition_is_exact_for_frames_that_are_independent():
    t, z = COSINE.time_of(0.5), randn(3, 7, 1)
    composed = ComposedDenoiser(chain(3, 0.0), Composition(7, 3))
    torch.testing.assert_close(composed(z, t), chain(7, 0.0)(z, t), rtol=1e-12, atol=1e-12)


def test_composition_of_a_markov_chain_is_good_at_small_noise_and_in_wide_windows():
    assert composition_error(5, 0.05) < 1e-4
    assert composition_error(5, 1.0) < composition_error(3, 1.0)
    assert composition_error(3, 1.0) > 0.05


def forgotten(ratio, correlation=0.9):
    """Weight of a frame in the estimate of its neighbour, in units of its own: correlation (l + 1 / l) = b, l < 1."""
    b = 1.0 + correlation**2 + (1.0 - correlation**2) / ratio**2
    return (b - math.sqrt(b**2 - 4.0 * correlation**2)) / (2.0 * correlation)


def test_composition_of_a_markov_chain_is_exact_where_the_blanket_is_wider_than_its_memory():
    # What is left out behind half a window of k frames is of the size l^(k + 1): 1e-16 here, below rounding.
    assert forgotten(0.05) ** 8 < 1e-15
    assert composition_error(15, 0.05, n_frames=31) < 1e-12
    # And where it is not, two frames more of the blanket, one each way, are worth a factor l: of the middle frame of a
    # long chain, for the error is a sum over the chain beyond, of which 50 draws know a ratio to some per cent.
    errors = [composition_error(window, 1.0, 61, slice(30, 31)) for window in (9, 11, 13, 15)]
    assert (errors[3] / errors[0]) ** (1 / 3) == pytest.approx(forgotten(1.0), rel=0.1)


@pytest.mark.parametrize("bad", [(3, 5, 1), (5, 0, 1), (5, 3, 0)])
def test_windows_that_cannot_cover_are_refused(bad):
    with pytest.raises(ConfigError, match="cannot cover"):
        Composition(*bad)
