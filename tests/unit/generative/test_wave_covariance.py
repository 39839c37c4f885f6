"""Covariance by waves: it is the matrix it stands for, and keeps what a homogeneous one cannot."""

from __future__ import annotations

import math

import pytest
import torch

from cycler_da.generative.covariance import Covariance, spectral_from_shells
from cycler_da.generative.wave_covariance import WaveCovariance, wave_blocks, wave_covariance

N = 8


def fields(n=400):
    """Correlated fields: white noise, filtered, and a sine with a random amplitude."""
    generator = torch.Generator().manual_seed(2)
    white = torch.randn(n, 1, N, N, generator=generator, dtype=torch.float64)
    x = 2 * math.pi / N * torch.arange(N, dtype=torch.float64)
    amplitude = torch.randn(n, 1, 1, 1, generator=generator, dtype=torch.float64)
    return 0.3 * white + 0.2 * white.roll(1, -1) + amplitude * torch.sin(2 * x)


def matrix(operation):
    units = torch.eye(N * N, dtype=torch.float64).reshape(-1, 1, N, N)
    return operation(units).reshape(N * N, N * N)


@pytest.fixture(scope="module")
def covariance() -> WaveCovariance:
    return wave_covariance(wave_blocks(fields()))


def test_it_meets_the_protocol(covariance):
    assert isinstance(covariance, Covariance)


def test_root_inverse_root_and_damping_are_those_of_its_matrix(covariance):
    full = matrix(covariance.apply)
    torch.testing.assert_close(full, full.T, rtol=0, atol=1e-13)
    root = matrix(covariance.color)
    torch.testing.assert_close(root @ root, full, rtol=0, atol=1e-13)
    torch.testing.assert_close(root @ matrix(covariance.whiten), torch.eye(N * N).double(), rtol=0, atol=1e-11)
    damped = torch.linalg.inv(torch.linalg.inv(full) + 3.0 * torch.eye(N * N).double())
    torch.testing.assert_close(matrix(covariance.damped(3.0).apply), damped, rtol=0, atol=1e-12)


def test_white_noise_has_the_identity():
    generator = torch.Generator().manual_seed(4)
    blocks = wave_blocks(torch.randn(4000, 1, N, N, generator=generator, dtype=torch.float64))
    full = matrix(wave_covariance(blocks).apply)
    # Each block has a sampling error of about sqrt(2 / 4000) = 0.022; five of them bound the largest of 64.
    torch.testing.assert_close(full, torch.eye(N * N).double(), rtol=0, atol=0.11)


def test_a_driven_sine_has_no_variance_where_it_is_zero():
    x = 2 * math.pi / N * torch.arange(N, dtype=torch.float64)
    pattern = torch.sin(2 * x).expand(1, 1, N, N)
    full = matrix(wave_covariance(wave_blocks(pattern)).apply)
    torch.testing.assert_close(full, torch.outer(pattern.flatten(), pattern.flatten()), rtol=0, atol=1e-13)


def test_homogeneous_shells_are_a_special_case():
    shells = torch.linspace(2.0, 0.5, 9, dtype=torch.float64)[:, None, None]
    homogeneous = spectral_from_shells(shells, N)
    blocks = torch.stack([homogeneous.values[..., 0], homogeneous.values[..., 0], torch.zeros(N, N // 2 + 1).double()])
    torch.testing.assert_close(matrix(wave_covariance(blocks).apply), matrix(homogeneous.apply), rtol=0, atol=1e-13)
