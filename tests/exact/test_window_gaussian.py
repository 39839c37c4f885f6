"""The space-time Gaussian of a window, wave by wave, against the same with dense matrices."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.information import CellInformation, WaveInformation
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.generative.diffusion.window import WindowDenoiser
from cycler_da.generative.diffusion.window_gaussian import measure_lags, persistent_lags, window_gaussian
from cycler_da.generative.window_weights import pack_lags, unpack_lags

N_TIMES, CHANNELS, ROWS, COLUMNS, FRAMES = 12, 2, 4, 6, 3


def trajectories(seed=0):
    """Noise that drifts along x, so that waves travel and Gamma is complex."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(CHANNELS, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    frames = []
    for _ in range(N_TIMES):
        x = 0.8 * torch.roll(x, 1, dims=-1) + 0.6 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        frames.append(x)
    return torch.stack(frames)[None]


def lags(n=FRAMES, mirror=False):
    return measure_lags(trajectories(), n, mirror=mirror)


def dense(gaussian):
    """C as a matrix: what is left at a ratio at which nothing is seen."""
    n = gaussian.frames * gaussian.channels * ROWS * COLUMNS
    units = torch.eye(n, dtype=torch.float64).view(n, gaussian.frames, gaussian.channels, ROWS, COLUMNS)
    return gaussian.left(units, 1e8).flatten(1)


def test_gamma_is_the_covariance_over_all_shifts_and_times():
    x = trajectories()[0].to(torch.float32).to(torch.float64)  # sums are taken of single precision
    expected = torch.zeros(FRAMES, CHANNELS, ROWS, COLUMNS, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    for dy in range(ROWS):
        for dx in range(COLUMNS):
            rolled = torch.roll(x, (dy, dx), dims=(-2, -1))
            for f in range(FRAMES):
                for g in range(f + 1):
                    later, earlier = rolled[f - g :], rolled[: N_TIMES - (f - g)]
                    part = torch.einsum("tcyx,tdvu->cyxdvu", later, earlier) / (N_TIMES * ROWS * COLUMNS)
                    expected[f, :, :, :, g] += part
                    if f != g:
                        expected[g, :, :, :, f] += part.permute(3, 4, 5, 0, 1, 2)
    found = dense(window_gaussian(lags(), FRAMES)).view(expected.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # transforms in single precision


def test_block_toeplitz_covariances_have_no_negative_eigenvalue():
    n = FRAMES * CHANNELS * ROWS * COLUMNS
    assert float(torch.linalg.eigvalsh(dense(window_gaussian(lags(), FRAMES))).min()) > -1e-12 * n


@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
def test_denoising_is_the_wiener_filter(ratio):
    gaussian = window_gaussian(lags(), FRAMES)
    c, x = dense(gaussian), torch.randn(5, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    shrink = c @ torch.linalg.inv(c + ratio**2 * torch.eye(len(c), dtype=torch.float64))
    expected = (x.flatten(1) @ shrink.mT).view(x.shape)
    torch.testing.assert_close(gaussian.denoise(x, ratio), expected, rtol=0, atol=1e-8)
    each = gaussian.denoise(x, torch.full((5,), ratio, dtype=torch.float64))
    torch.testing.assert_close(each, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(gaussian.left(x, ratio), ratio**2 * expected, rtol=0, atol=1e-8 * max(1, ratio**2))


@pytest.mark.parametrize("ratio", [0.05, 1.0, 20.0])
def test_what_is_left_has_the_tabulated_deviation(ratio):
    gaussian = window_gaussian(lags(), FRAMES)
    c = dense(gaussian)
    left = ratio**2 * c @ torch.linalg.inv(c + ratio**2 * torch.eye(len(c), dtype=torch.float64))
    expected = left.diagonal().view(FRAMES, CHANNELS, -1).mean(dim=-1).sqrt()
    found = gaussian.left_std(torch.tensor([ratio], dtype=torch.float64))[0]
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)  # interpolated between ten ratios a decade


def test_frames_that_are_given_leave_the_conditional_gaussian():
    whole = window_gaussian(lags(), FRAMES)
    rest, n = whole.given(1), CHANNELS * ROWS * COLUMNS
    c, known = dense(whole), torch.randn(4, 1, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    gain = c[n:, :n] @ torch.linalg.inv(c[:n, :n])
    torch.testing.assert_close(rest.mean_given(known).flatten(1), known.flatten(1) @ gain.mT, rtol=0, atol=1e-7)
    torch.testing.assert_close(dense(rest), c[n:, n:] - gain @ c[:n, n:], rtol=0, atol=1e-7)


def test_the_denoiser_without_a_network_is_the_gaussian():
    gaussian, z = window_gaussian(lags(), FRAMES), torch.randn(2, FRAMES, CHANNELS, ROWS, COLUMNS, dtype=torch.float64)
    denoiser, t = WindowDenoiser(gaussian, COSINE), 0.4
    expected = gaussian.denoise(z / COSINE.mu(t), COSINE.ratio(t))
    assert torch.equal(denoiser(z, t), expected)


def test_some_channels_have_the_marginal_covariance():
    n = FRAMES * ROWS * COLUMNS
    part = dense(window_gaussian(lags(), FRAMES, channels=(1,)))
    whole = dense(window_gaussian(lags(), FRAMES)).view(FRAMES, CHANNELS, ROWS * COLUMNS, FRAMES, CHANNELS, -1)
    torch.testing.assert_close(part, whole[:, 1, :, :, 1].reshape(n, n), rtol=0, atol=1e-10)


def test_mirrored_lags_are_those_of_both_orientations_and_pack_in_half():
    both = torch.cat([trajectories(), -trajectories().flip(-2)])
    expected, found = measure_lags(both, FRAMES, mirror=False), lags(mirror=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # transforms in single precision
    packed = pack_lags(found, mirror=True)
    torch.testing.assert_close(unpack_lags(packed, ROWS, mirror=True), found, rtol=0, atol=1e-12)
    assert packed.numel() < 0.8 * pack_lags(found, mirror=False).numel()


def test_persistent_lags_lose_the_same_part_in_every_frame():
    base = lags(1)[0].permute(2, 3, 0, 1)
    c = dense(window_gaussian(persistent_lags(base, 0.9, FRAMES), FRAMES))
    n = CHANNELS * ROWS * COLUMNS
    torch.testing.assert_close(c[2 * n :, :n], 0.81 * c[:n, :n], rtol=0, atol=1e-8)


@pytest.mark.parametrize("frames", [0, FRAMES + 1])
def test_more_frames_than_lags_are_refused(frames):
    with pytest.raises(ConfigError, match="needs covariances at lags up to"):
        window_gaussian(lags(), frames)


def test_roots_are_those_of_what_is_left_with_and_without_more_information():
    gaussian, ratio = window_gaussian(lags(), FRAMES), 0.7
    left, shape = gaussian.left_covariance(ratio), (FRAMES, CHANNELS, ROWS, COLUMNS)
    n = FRAMES * CHANNELS * ROWS * COLUMNS
    units = torch.eye(n, dtype=torch.float64).view(n, *shape)
    pulled = left.pulled(units)  # L^T of every unit: the rows of L
    torch.testing.assert_close(pulled @ pulled.mT, gaussian.left(units, ratio).flatten(1), rtol=0, atol=1e-10)
    v = torch.randn(3, *shape, dtype=torch.float64)
    torch.testing.assert_close(left.pushed(left.pulled(v), v), gaussian.left(v, ratio), rtol=0, atol=1e-10)
    information = torch.rand(FRAMES, CHANNELS, dtype=torch.float64)
    every_cell = information.flatten().repeat_interleave(ROWS * COLUMNS)
    matrix = torch.eye(pulled.shape[1], dtype=torch.float64) + pulled.mT @ (every_cell[:, None] * pulled)
    more = left.informed(CellInformation(information), v)
    expected = pulled @ torch.linalg.solve(matrix, left.pulled(v).mT)
    torch.testing.assert_close(more.pushed(more.pulled(v), v).flatten(1), expected.mT, rtol=0, atol=1e-10)


def test_roots_know_information_of_waves():
    left, shape = window_gaussian(lags(), FRAMES).left_covariance(0.7), (FRAMES, CHANNELS, ROWS, COLUMNS)
    n, frames = CHANNELS - 1, (FRAMES - 1, 0)
    waves = torch.fft.rfft2(torch.randn(len(frames), n, n, ROWS, COLUMNS, dtype=torch.float64))
    factor = waves.permute(0, 3, 4, 1, 2)
    information = WaveInformation(torch.rand(FRAMES, CHANNELS, dtype=torch.float64), frames, factor.mH @ factor)
    units = torch.eye(FRAMES * CHANNELS * ROWS * COLUMNS, dtype=torch.float64).view(-1, *shape)
    pulled, dense = left.pulled(units), information.times(units).flatten(1)
    torch.testing.assert_close(dense, dense.mT, rtol=0, atol=1e-10)
    matrix = torch.eye(pulled.shape[1], dtype=torch.float64) + pulled.mT @ dense @ pulled
    v = torch.randn(3, *shape, dtype=torch.float64)
    more = left.informed(information, v)
    expected = pulled @ torch.linalg.solve(matrix, left.pulled(v).mT)
    torch.testing.assert_close(more.pushed(more.pulled(v), v).flatten(1), expected.mT, rtol=0, atol=1e-10)
