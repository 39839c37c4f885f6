"""The smoother of windows around a transition: exact where the transition is linear and all is Gaussian."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.diffusion.smoother import Smoother, TableGains
from cycler_da.generative.diffusion.window_gaussian import persistent_lags, window_gaussian
from cycler_da.generative.kept_tables import KeptTables
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.shells import Shells, resampled
from cycler_da.generative.smoother_training import FittedGains, SmootherFit, estimates
from cycler_da.generative.window_smoother import WindowSmoother
from cycler_da.generative.window_training import Task, WindowData

SIZE, FRAMES, RATIO = 8, 4, 0.7


def white(n: int, *shape: int) -> torch.Tensor:
    return torch.randn(n, *shape, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def shifted(x: torch.Tensor) -> torch.Tensor:
    return torch.roll(x, 1, dims=-1)


def moving(n: int) -> torch.Tensor:
    """White fields that move by one cell in every frame, without error."""
    x = [white(n, 1)]
    for _ in range(FRAMES - 1):
        x.append(shifted(x[-1]))
    return torch.stack(x, dim=1)


def test_a_white_field_that_moves_is_averaged_along_its_path():
    """All frames tell of one field: its posterior mean is that of the noisy frames moved onto each other, shrunk."""
    truth = moving(400)
    blind = window_gaussian(persistent_lags(torch.ones(SIZE, 5, 1, 1), 0.0, FRAMES), FRAMES)  # knows of no motion
    noisy, estimate = estimates(blind, truth, white(401, FRAMES, 1)[:400], RATIO, 0)
    better = Smoother(shifted, SIZE, SIZE, 1).smooth(noisy, estimate, FittedGains(truth, 1, SIZE, 0))
    onto = [torch.roll(noisy[:, frame], -frame, dims=-1) for frame in range(FRAMES)]
    first = torch.stack(onto).mean(dim=0) / (1.0 + RATIO**2 / FRAMES)
    exact = torch.stack([torch.roll(first, frame, dims=-1) for frame in range(FRAMES)], dim=1)
    # Gains come from 400 x 4 values in the smallest shell: one part in forty.
    torch.testing.assert_close(better, exact, rtol=0, atol=0.12)
    assert (better - exact).square().mean() < 1e-3 * (estimate - exact).square().mean()


def test_frames_that_are_given_stay_and_lead_the_others():
    truth = moving(50)
    blind = window_gaussian(persistent_lags(torch.ones(SIZE, 5, 1, 1), 0.0, FRAMES), FRAMES).given(1)
    noisy, estimate = estimates(blind, truth, white(51, FRAMES, 1)[:50], RATIO, 1)
    better = Smoother(shifted, SIZE, SIZE, 1).smooth(noisy, estimate, FittedGains(truth, 1, SIZE, 1), 1)
    assert torch.equal(better[:, 0], truth[:, 0])
    torch.testing.assert_close(better, truth, rtol=0, atol=1e-3)  # the ridge of a fit that needs no correction


def test_a_fit_leaves_less_than_the_gaussian_and_its_tables_do_the_same_again():
    network = build_network(
        NetworkSpec("quadratic_spectral", {"size": SIZE, "channels": 1, "products": 2, "stages": 1})
    )
    small = network.resized(SIZE)
    x = [white(6, 1).float()]
    for _ in range(20):
        x.append(shifted(x[-1]))
    lags = persistent_lags(torch.ones(SIZE, 5, 1, 1), 0.0, FRAMES)
    data = WindowData(torch.stack(x, dim=1), torch.stack(x, dim=1), lags, 1)
    smoother = Smoother(lambda x: shifted(x) + small(x), SIZE, SIZE, 1)
    fit = SmootherFit(data, {(0,): smoother}, n_windows=64, n_ratios=3, shortest=2, seed=1)
    tables, _ = fit.tables(KeptTables(None, ""))
    left = fit.scores(tables)["left"]
    assert left["4 frames"]["0.3"] < 0.6  # the answer for four frames is a quarter, at the ratios between tables more
    again = WindowSmoother(smoother, tables, fit.ratios, FRAMES, (0,), 1)
    task, ratio = Task((0,), FRAMES), float(fit.ratios[1])
    clean = data.draw(data.training, task, 64, torch.Generator().manual_seed(3))
    noisy, estimate = estimates(data.gaussian(task), clean, torch.randn(clean.shape), ratio, 0)
    std = torch.ones(64, FRAMES, 1, 1, 1)
    found = again.improved(noisy, estimate, std, ratio)
    part = float((found - clean).square().sum() / (estimate - clean).square().sum())
    assert part == pytest.approx(again.left(ratio), rel=0.1)  # 64 x 4 x 64 values, from other windows


def test_the_estimate_is_differentiable_in_the_noisy_frames():
    truth = moving(4)
    gaussian = window_gaussian(persistent_lags(torch.ones(SIZE, 5, 1, 1), 0.5, FRAMES), FRAMES)
    noisy, estimate = estimates(gaussian, truth, white(5, FRAMES, 1)[:4], RATIO, 0)
    gains = FittedGains(truth, 1, SIZE, 0)
    smoother = Smoother(lambda x: shifted(x) + 0.1 * x * x, SIZE, SIZE, 1)
    smoother.smooth(noisy, estimate, gains)
    tables = gains.tables()

    def answer(x: torch.Tensor) -> torch.Tensor:
        return smoother.smooth(x, gaussian.denoise(x, RATIO), TableGains(tables))

    x, direction, step = noisy[:1].clone().requires_grad_(True), white(1, FRAMES, 1), 1e-5
    (gradient,) = torch.autograd.grad(answer(x).square().sum(), x)
    moved = [float(answer(noisy[:1] + sign * step * direction).square().sum()) for sign in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-6)


def test_between_two_ratios_the_nearer_one_serves_whole():
    """Gains of one fit belong together: no mean of two sets of them."""
    shells, gains = Shells(SIZE).count, {"spread": 1, "forward": 2, "back": 3}
    sizes = torch.tensor([0.1, 0.3]).double()[:, None, None, None, None]
    tables = {f"states.{FRAMES}.{name}": sizes.expand(2, FRAMES, shells, 1, p) for name, p in gains.items()}
    smoother, std = Smoother(shifted, SIZE, SIZE, 1), torch.ones(2, FRAMES, 1, 1, 1)

    known = WindowSmoother(smoother, tables, torch.tensor([0.1, 1.6]).double(), FRAMES, (0,), 1)

    def answer(ratio):
        return known.improved(white(3, FRAMES, 1)[:2], moving(2), std, ratio)

    # Their geometric mean is 0.4.
    assert torch.equal(answer(0.39), answer(0.1)) and torch.equal(answer(0.41), answer(1.6))
    assert not torch.equal(answer(0.39), answer(0.41))


def test_noise_above_the_tables_tells_less_and_less():
    """At any noise the answer is finite, and in the end the Gaussian's carried by the transition alone."""
    shells, gains = Shells(SIZE).count, {"spread": 1, "forward": 2, "back": 3}
    tables = {
        f"states.{FRAMES}.{name}": torch.full((2, FRAMES, shells, 1, p), 0.1).double() for name, p in gains.items()
    }
    known = WindowSmoother(
        Smoother(shifted, SIZE, SIZE, 1), tables, torch.tensor([0.02, 20.0]).double(), FRAMES, (0,), 1
    )
    estimate, noise, std = moving(2), white(3, FRAMES, 1)[:2], torch.ones(2, FRAMES, 1, 1, 1)
    clean = known.improved(estimate, estimate, std, 20.0)
    far = [known.improved(estimate + ratio * noise, estimate, std, ratio) for ratio in (200.0, 2000.0)]
    left = [float((answer - clean).abs().max()) for answer in far]
    assert left[1] == pytest.approx(0.1 * left[0], rel=1e-6)  # r / r^2


def test_matrices_of_shells_are_the_least_squares_of_their_spectra():
    features, shells = white(30, 2), Shells(SIZE)
    matrices = torch.randn(shells.count, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = shells.fit(features, shells.apply(matrices, features))
    torch.testing.assert_close(found, matrices, rtol=0, atol=2e-3)  # the ridge


def test_variance_is_the_sum_of_a_shells_spectrum():
    x, shells = white(3, 1), Shells(SIZE)
    weight = torch.fft.fftfreq(SIZE, 1.0 / SIZE, dtype=torch.float64)
    counts = torch.bincount(torch.sqrt(weight[:, None] ** 2 + weight[None] ** 2).round().long().flatten())
    total = float((shells.cross(x, x)[:, 0, 0] * counts).sum()) / SIZE**2
    assert total == pytest.approx(float(x.square().mean()), rel=1e-12)


def test_a_finer_grid_and_back_keeps_the_waves_that_both_have():
    x = resampled(white(2, 3), 6)
    torch.testing.assert_close(resampled(resampled(x, 16), 6), x, rtol=0, atol=1e-12)
    assert float(resampled(x, 16).square().mean()) == pytest.approx(float(x.square().mean()), rel=1e-12)


def test_a_network_on_a_smaller_grid_has_the_same_filters():
    spec = NetworkSpec("quadratic_spectral", {"size": 32, "channels": 2, "products": 2, "stages": 1})
    network = build_network(spec, seed=3)
    for name, profile in network.named_parameters():
        if "returns" in name:
            torch.nn.init.normal_(profile)
    x = resampled(torch.randn(1, 2, 6, 6, dtype=torch.float32), 32)
    with torch.no_grad():
        large, small = network(x), network.resized(16)(resampled(x, 16))
    torch.testing.assert_close(resampled(large, 16), small, rtol=0, atol=1e-4 * float(large.abs().max()))
