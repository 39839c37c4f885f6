"""B estimated from draws of a known B recovers it; roots, inverses and length scales of what was estimated.

Statistical tolerances are five standard errors: an entry of a sample covariance scatters by
sqrt((C_ii C_jj + C_ij^2) / n_real), with n_real the number of real modes in it (a complex one counts twice) times the
number of samples.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, DataError
from cycler_da.generative.background_error import (
    BackgroundError,
    correlation_along,
    estimate,
    fit_exponential,
    length_scale,
)
from cycler_da.generative.covariance import spectral_from_blocks, spectral_from_shells
from cycler_da.generative.local_covariance import LocalCovariance, exponential_correlation
from cycler_da.layout import Axis, Grid, Layout, Variable

N = 16
VARIABLES = (Variable("q1", "s-1", "upper"), Variable("q2", "s-1", "lower"))


def layout_of(*, periodic: bool, n: int = N) -> Layout:
    axes = tuple(Axis(name, n, 1000.0, periodic=periodic) for name in ("y", "x"))
    return Layout("toy", VARIABLES, Grid(axes), np.timedelta64(3600, "s"))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def balanced_shells() -> torch.Tensor:
    """Red spectra of two layers, the second of a hundredth the variance, coherence falling with wave number."""
    shell = torch.arange(N, dtype=torch.float64)
    power = 1e-12 / (1 + shell**2 / 4) ** 1.5
    shells = torch.zeros(N, 2, 2, dtype=torch.float64)
    shells[:, 0, 0], shells[:, 1, 1] = power, 0.01 * power
    shells[:, 0, 1] = shells[:, 1, 0] = 0.1 * power * 0.8 / (1 + shell / 4)
    return shells


def phased_blocks() -> torch.Tensor:
    """As above, the second layer 0.6 radian behind along x at every wave number but those that are their own mirror."""
    real = spectral_from_shells(balanced_shells(), N).blocks().to(torch.complex128)
    k = torch.arange(N // 2 + 1)[None, :, None, None]
    phase = torch.where((k > 0) & (k < N // 2), torch.exp(torch.tensor(0.6j, dtype=torch.complex128)), 1.0 + 0j)
    turn = torch.ones(2, 2, dtype=torch.complex128)
    upper = torch.zeros(2, 2, dtype=torch.bool)
    upper[0, 1] = True
    blocks = torch.where(upper, real * phase, real)
    return torch.where(upper.T, real * phase.conj(), blocks) * turn


def entries_agree(got: torch.Tensor, known: torch.Tensor, n_real: torch.Tensor) -> None:
    """Every entry of blocks lies within five standard errors; `n_real` has one number for each block."""
    power = known.diagonal(dim1=-2, dim2=-1).real
    scatter = ((power[..., :, None] * power[..., None, :] + known.abs() ** 2) / n_real[..., None, None]).sqrt()
    assert float(((got - known).abs() / scatter).max()) < 5


def test_shells_of_an_isotropic_covariance_are_recovered_from_its_draws():
    n_samples, known = 400, balanced_shells()
    truth = spectral_from_shells(known, N)
    found = estimate(truth.color(normal(n_samples, 2, N, N)), layout_of(periodic=True), shape="isotropic")
    l, k = torch.meshgrid(torch.fft.fftfreq(N, 1 / N).double(), torch.arange(N // 2 + 1).double(), indexing="ij")
    weight = torch.where((k == 0) | (k == N // 2), 1.0, 2.0).double()
    nearest = torch.sqrt(l**2 + k**2).round().long().flatten()
    modes = torch.bincount(nearest, weights=weight.flatten())
    sums = torch.zeros(len(modes), 2, 2, dtype=torch.float64)
    sums.index_add_(0, nearest, (weight[..., None, None] * truth.blocks()).flatten(0, 1))
    mean_blocks = sums / modes[:, None, None]  # of the modes in a shell, whose |k| are not all whole
    got = found.shells * found.std[:, None] * found.std[None]
    # The mean over samples and cells is taken out: it takes one mode of one sample from shell 0.
    entries_agree(got[1 : N // 2], mean_blocks[1 : N // 2], n_samples * modes[1 : N // 2])
    torch.testing.assert_close(found.std**2, truth.variance(), rtol=0.05, atol=0)  # 400 samples of some 50 modes


def test_a_phase_between_layers_is_recovered_where_every_wave_number_has_its_own_block():
    n_samples, known = 600, phased_blocks()
    truth = spectral_from_blocks(known)
    draws = truth.color(normal(n_samples, 2, N, N))
    layout = layout_of(periodic=True)
    found = estimate(draws, layout, shape="homogeneous")
    got = found.blocks * found.std[:, None] * found.std[None]
    inside = (slice(1, N // 2), slice(1, N // 2))
    entries_agree(got[inside], known[inside], torch.full((N // 2 - 1, N // 2 - 1), 2.0 * n_samples).double())
    # Over shells of |k| a phase along x cancels: the isotropic estimate keeps its cosine alone.
    isotropic = estimate(draws, layout, shape="isotropic").covariance(layout).scaled.blocks()
    assert isotropic.dtype == torch.float64


def test_lower_layer_follows_the_upper_one_as_the_cross_covariance_says():
    layout = layout_of(periodic=True)
    error = BackgroundError(
        "isotropic", torch.tensor([1e-6, 1e-7], dtype=torch.float64), 1, shells=normalised(balanced_shells())
    )
    b = error.covariance(layout)
    one = torch.zeros(1, 2, N, N, dtype=torch.float64)
    one[0, 0, 5, 7] = 1.0
    column = b.apply(one)[0]
    cross = correlation_along(error, layout, axis=1)[0, 1, N // 2]
    assert float(cross) > 0.4
    regression = column[1, 5, 7] / column[0, 5, 7]
    torch.testing.assert_close(regression, cross * 1e-7 / 1e-6, rtol=1e-10, atol=0)


def normalised(shells: torch.Tensor) -> torch.Tensor:
    """Shells of a covariance of unit variance in both channels."""
    std = spectral_from_shells(shells, N).variance().sqrt()
    return shells / std[:, None] / std[None]


@pytest.mark.parametrize("shape", ["isotropic", "homogeneous", "local"])
def test_the_root_times_its_transpose_is_the_covariance(shape):
    layout = layout_of(periodic=shape != "local")
    b = estimate(normal(60, 2, N, N, seed=3), layout, shape=shape).covariance(layout)
    x, noise = normal(2, 2, N, N, seed=1), b.noise_shape(layout.state_shape)
    torch.testing.assert_close(b.color(b.gather(x)), b.apply(x), rtol=0, atol=1e-12)
    z = normal(2, *noise, seed=2)
    torch.testing.assert_close((b.color(z) * x).sum(), (z * b.gather(x)).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", ["isotropic", "homogeneous"])
def test_whitening_is_the_inverse_of_colouring(shape):
    layout = layout_of(periodic=True)
    b = estimate(1e-6 * normal(60, 2, N, N, seed=3), layout, shape=shape).covariance(layout)
    z = normal(2, 2, N, N, seed=2)
    z = z - z.mean(dim=(-2, -1), keepdim=True)  # the mean of the domain may have next to no variance
    torch.testing.assert_close(b.whiten(b.color(z)), z, rtol=0, atol=1e-9)


def test_local_deviation_and_correlation_are_recovered_from_draws():
    n = 48
    layout = Layout("toy", VARIABLES[:1], layout_of(periodic=False, n=n).grid, np.timedelta64(3600, "s"))
    ramp = (1 + torch.arange(n, dtype=torch.float64) / n).expand(1, 1, n, n)
    truth = LocalCovariance(ramp, exponential_correlation((n, n), [(0.8, 3.0), (0.2, 0.0)]))
    draws = truth.color(normal(200, *truth.noise_shape((1, n, n))))
    found = estimate(draws, layout, shape="local")
    # 200 samples, smoothed over 2 pi 4^2 cells, some 30 of them correlated: 3 %; the ramp bends by 1 % on the way.
    inside = slice(8, -8)
    torch.testing.assert_close(found.std[0, inside, inside], ramp[0, 0, inside, inside], rtol=0.12, atol=0)
    (weight, length), (white, none) = found.parts
    assert weight == pytest.approx(0.8, abs=0.05)
    assert length == pytest.approx(3.0, rel=0.1)
    assert white == pytest.approx(1 - weight)
    assert none == 0.0


def test_an_exponential_is_fitted_exactly():
    lags = (1, 2, 3, 4, 6, 8)
    weight, length = fit_exponential([0.7 * np.exp(-lag / 2.5) for lag in lags])
    assert weight == pytest.approx(0.7, rel=0.01)  # lengths are searched in steps of 1.3 %
    assert length == pytest.approx(2.5, rel=0.015)


def test_the_length_scale_of_a_gaussian_is_its_length():
    distance = 10.0 * (torch.arange(64, dtype=torch.float64) - 32)
    found = length_scale(torch.exp(-0.5 * (distance / 73.0) ** 2), 10.0)
    assert found == pytest.approx(73.0, rel=0.01)  # linear between cells
    assert length_scale(torch.ones(64), 10.0) == 310.0


def test_bad_samples_are_refused_with_a_reason():
    torus, rectangle = layout_of(periodic=True), layout_of(periodic=False)
    with pytest.raises(DataError, match="7 samples; expected at least 8"):
        estimate(normal(7, 2, N, N), torus, shape="isotropic")
    with pytest.raises(DataError, match="or use shape isotropic"):
        estimate(normal(39, 2, N, N), torus, shape="homogeneous")
    spoiled = normal(20, 2, N, N)
    spoiled[3, 1, 2, 2] = torch.nan
    with pytest.raises(DataError, match="q2 are not finite"):
        estimate(spoiled, torus, shape="isotropic")
    with pytest.raises(DataError, match="q1, q2 are all the same"):
        estimate(torch.zeros(20, 2, N, N), torus, shape="isotropic")
    for layout, shape, said in (
        (rectangle, "isotropic", "valid there: local"),
        (torus, "local", "valid there: isotropic, homogeneous"),
        (torus, "wavelet", "valid there: isotropic, homogeneous"),
    ):
        with pytest.raises(ConfigError, match=said):
            estimate(normal(60, 2, N, N), layout, shape=shape)
