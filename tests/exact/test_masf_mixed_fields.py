"""MASF's published mixture for fields: heads by FFT, and the network on them, against the dense Gaussian of z."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.covariance import SpectralCovariance, blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import Multiplier
from cycler_da.generative.mixed_denoiser import FieldHeads, MixedDenoiser
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.two_head_sampling import sample_dual_head
from cycler_da.generative.two_heads import GaussianHeads, Mixed, pair_of_covariance
from cycler_da.generative.wiener_heads import WienerHeads
from cycler_da.noise import Noise

N, CELLS, ERROR = 8, 64, 0.3
#: Two channels of x, of which the second is seen by the one field of h; both next to each other in a dense z = (x, h).
CHANNELS = (1,)
PLACES = torch.cat([torch.arange(2 * CELLS), torch.arange(3 * CELLS, 4 * CELLS)])


@pytest.fixture(scope="module")
def covariance() -> SpectralCovariance:
    """Of smooth fields; h is a shifted mixture of both channels with noise of its own, so that blocks are complex."""
    white = Noise(1).normal("white", (3, N, N), members=range(60), dtype=torch.float64)
    x = white[:, :2] + white[:, :2].roll(1, -1) + 0.5 * white[:, :2].roll((1, 2), (1, -2))
    h = 0.7 * x[:, :1] + 0.4 * x[:, 1:].roll(1, -2) + 0.2 * white[:, 2:]
    blocks = blocks_from_residuals(torch.cat([x, h], dim=1))
    assert float(blocks.imag.abs().max()) > 0.1
    return spectral_from_blocks(blocks)


def dense_heads(covariance: SpectralCovariance, mask: torch.Tensor) -> GaussianHeads:
    """Of z = (x, h) with a value of h for every value of x, 0 in the first channel."""
    eye = torch.eye(3 * CELLS, dtype=torch.float64).view(-1, 3, N, N)
    whole = torch.zeros(4 * CELLS, 4 * CELLS, dtype=torch.float64)
    whole[PLACES[:, None], PLACES] = covariance.apply(eye).flatten(1)
    placed = torch.cat([torch.zeros(CELLS, dtype=torch.float64), mask.flatten()])
    process = Mixed(placed[None], torch.full((2 * CELLS,), ERROR**2, dtype=torch.float64))
    return GaussianHeads(pair_of_covariance(torch.zeros(4 * CELLS, dtype=torch.float64), whole), process)


def some_cells(part: float) -> torch.Tensor:
    return (Noise(2).shared_normal("mask", (1, N, N), dtype=torch.float64).abs() < 3.0 * part).to(torch.float64)


def mixtures(count: int) -> torch.Tensor:
    return Noise(3).normal("u", (2, N, N), members=range(count), dtype=torch.float64)


@pytest.mark.parametrize("part", [0.0, 0.03, 0.3, 2.0])
@pytest.mark.parametrize("a", [0.0, 0.0125, 0.5, 0.99, 0.999999])
def test_heads_by_fft_equal_those_of_the_dense_gaussian(covariance, part, a):
    mask, u = some_cells(part), mixtures(3)
    level = torch.tensor([a], dtype=torch.float64)
    heads, dense = WienerHeads(covariance, CHANNELS, ERROR), dense_heads(covariance, mask)
    expected, std = dense.moments(u.flatten(1), level[:, None])
    # Rounding, times the condition of Cov(u): variance of x over that of its noise, 1e7 at the last level.
    torch.testing.assert_close(heads.mean(u, level, mask).flatten(1), expected[:, PLACES], rtol=0, atol=1e-8)
    if part == 0.0:
        variance = heads.variance(level).expand(1, 3, N, N).reshape(1, -1)
        torch.testing.assert_close(variance, std[:, PLACES] ** 2, rtol=1e-6, atol=1e-9)


def test_every_mixture_may_have_a_level_of_its_own(covariance):
    heads, mask, u, a = WienerHeads(covariance, CHANNELS, ERROR), some_cells(0.3), mixtures(3), [0.0, 0.4, 0.9]
    alone = [heads.mean(u[i : i + 1], torch.tensor([a[i]]), mask) for i in range(3)]
    torch.testing.assert_close(heads.mean(u, torch.tensor(a), mask), torch.cat(alone), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def model(covariance) -> MixedDenoiser:
    """Not trained: F is 0."""
    arguments = {"fields": 3, "channels": [8], "patch": 2, "padding": "periodic"}
    network = build_network(NetworkSpec("bridge_unet", arguments), seed=0)
    return MixedDenoiser(network, WienerHeads(covariance, CHANNELS, ERROR))


def longer_mask(mask: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(2, N, N, dtype=torch.float64), mask])


def test_an_untrained_network_is_sampled_as_the_dense_gaussian_is(covariance, model):
    mask = some_cells(0.1)
    seen = cell_interpolation(covariance, longer_mask(mask), noise_std=ERROR)
    dense, keyed = dense_heads(covariance, mask), MemberNoise(Noise(4), (0, 1, 2), "test")
    members = torch.zeros(3, 4 * CELLS, dtype=torch.float64)
    members[:, PLACES] = Noise(5).normal("members", (3 * CELLS,), members=range(3), dtype=torch.float64)
    observed = Noise(6).shared_normal("observed", (2 * CELLS,), dtype=torch.float64)
    drawn = [
        sample_dual_head(
            dense.process,
            heads,
            observed,
            members,
            noise=keyed,
            n_steps=12,
            prior=Multiplier(0.95, 1.5),
            guidance=Multiplier(1.1, 1.5, 2.0),
        )
        for heads in (FieldHeads(model, seen), dense)
    ]
    assert 0 < int(mask.sum()) < CELLS
    # Rounding as for the heads; the guidance goes through them and is not damped.
    torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-6, atol=1e-6)


def test_the_unit_of_the_target_is_exact_at_the_observation(covariance, model):
    mask = some_cells(0.1)
    seen = cell_interpolation(covariance, longer_mask(mask), noise_std=ERROR)
    _, std = dense_heads(covariance, mask).moments(mixtures(1).flatten(1), torch.zeros(1, 1, dtype=torch.float64))
    _, got, _ = model._parts(mixtures(1), torch.zeros(1, dtype=torch.float64), seen)
    torch.testing.assert_close(got.flatten(1), std[:, PLACES], rtol=1e-6, atol=0)


def test_the_loss_is_that_of_what_the_gaussian_misses(covariance, model):
    mask, a = some_cells(0.1), torch.full((400,), 0.0)
    seen = cell_interpolation(covariance, longer_mask(mask), noise_std=ERROR)
    z = covariance.color(Noise(7).normal("z", (3, N, N), members=range(400), dtype=torch.float64))
    xi = Noise(8).normal("xi", (3, N, N), members=range(400), dtype=torch.float64)
    with torch.no_grad():
        # 400 draws of 192 values: one per cent; a mixture that is put together otherwise is far from it.
        assert float(model.loss(z, a, xi, seen)) == pytest.approx(1.0, abs=0.03)
        assert float(model.loss(z, a + 0.7, xi, seen)) == pytest.approx(1.0, abs=0.15)
