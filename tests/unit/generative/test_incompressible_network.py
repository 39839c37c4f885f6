"""The network of incompressible flow: what its family holds exactly, and what it keeps whatever it has learned."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.noise import Noise
from cycler_da.systems.kolmogorov import KolmogorovSpec

SIZE = 32


def make(*, seed=0, **options):
    return build_network(NetworkSpec("incompressible_spectral", {"size": SIZE, **options}), seed=seed).double()


def make_learned(**options):
    """All parameters away from their start."""
    network, generator = make(products=2, stages=2, **options), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return network


def white(n=2):
    return torch.randn(n, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def divergence(x):
    k = torch.fft.rfftfreq(SIZE, 1 / SIZE, dtype=torch.float64)
    l = torch.fft.fftfreq(SIZE, 1 / SIZE, dtype=torch.float64)[:, None]
    waves = torch.fft.rfft2(x)
    return torch.fft.irfft2(1j * (k * waves[:, 0] + l * waves[:, 1]), s=(SIZE, SIZE))


def test_an_euler_step_of_the_solver_lies_in_the_family():
    h = 0.01
    system = KolmogorovSpec(size=SIZE, reynolds=500.0, time_step=h)
    solver = system.build(dtype=torch.float64)
    x = solver.random_eddies(Noise(3), members=range(2))  # waves to 8: products to 16 would alias into none below 16
    state = solver._project(torch.fft.rfft2(x))
    tendency = torch.fft.irfft2(solver._tendency(state), s=x.shape[-2:])
    network = make(products=2, stages=1, forced_waves=4)
    k, factors, returns = network.factors[0].radii.double(), network.factors[0].profile, network.returns[0].profile
    with torch.no_grad():
        for bank in (factors, returns, network.linear[0].profile):
            bank.zero_()
        factors[2, 0, 0], factors[1, 1, 0] = 1.0, -1.0  # u = i k_y/|k| zeta, v = -i k_x/|k| zeta
        factors[0, 2, 0] = factors[0, 3, 0] = k  # w = |k| zeta
        low = (k < SIZE / 3).double()
        returns[1, 0, 0], returns[2, 0, 1] = -h * low, -h * low  # zeta' = -i (k_x (u w) + k_y (v w)) / |k|
        # curl f = -4 cos 4 y, so that zeta of the force is -cos 4 y: half of it at wave number 4 and at -4.
        network.force[0, 4, 0, 0] = network.force[0, -4, 0, 0] = -0.5 * h
    increment, below = network(x), (solver._square < 10.0**2)
    # The family cuts waves on circles, the solver on squares: compared below both.
    there = torch.fft.rfft2(increment) * below
    torch.testing.assert_close(there, torch.fft.rfft2(h * tendency) * below, rtol=0, atol=1e-6 * h * SIZE**2)


def test_the_answer_has_no_divergence_whatever_came_in():
    network, x = make_learned(), white()
    after = x + network(x)
    # The directions of waves are kept in single precision.
    assert divergence(after).abs().max() < 1e-5 * after.abs().max() * SIZE


def test_without_a_force_the_answer_moves_with_the_field():
    network, x = make_learned(), white()
    with torch.no_grad():
        network.force.zero_()
    torch.testing.assert_close(network(x.roll((3, 5), (-2, -1))), network(x).roll((3, 5), (-2, -1)), rtol=0, atol=1e-9)


def test_repeats_are_the_network_applied_again():
    once, twice = make_learned(repeats=1), make_learned(repeats=2)
    x = white() + once(white())  # without divergence
    x = x - x.mean(dim=(-2, -1), keepdim=True)  # a mean decays once a model step
    half = x + once(x)
    torch.testing.assert_close(twice(x), half + once(half) - x, rtol=0, atol=1e-5)  # directions: single precision


def test_untrained_it_takes_away_the_divergence_and_nothing_else():
    x = white()
    solver = KolmogorovSpec(size=SIZE).build(dtype=torch.float64)
    after = x + make()(x)
    inner = solver._square < (SIZE / 3 - 1) ** 2
    waves, expected = torch.fft.rfft2(after) * inner, solver._project(torch.fft.rfft2(x)) * inner
    torch.testing.assert_close(waves, expected, rtol=0, atol=1e-4)  # single-precision directions, 1024 values


def test_arguments_that_cannot_be_right_are_refused():
    with pytest.raises(ConfigError, match="forced_waves"):
        make(forced_waves=16)
