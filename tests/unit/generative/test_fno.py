"""Fourier neural operator: no memory of places or grids, gradients, and persistence before it is trained."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.networks.fno import FourierNeuralOperator


def trained(**options):
    """A network whose output layer is not zero; every weight random."""
    torch.manual_seed(3)
    return FourierNeuralOperator(width=6, modes=4, **options).double()


def band_limited(size, n=2, channels=1, waves=4):
    """The same smooth field on any grid."""
    generator = torch.Generator().manual_seed(8)
    low = torch.randn(n, channels, 2 * waves - 1, waves, generator=generator, dtype=torch.complex128)
    modes = torch.zeros(n, channels, size, size // 2 + 1, dtype=torch.complex128)
    modes[..., :waves, :waves] = low[..., :waves, :]
    modes[..., 1 - waves :, :waves] = low[..., waves:, :]
    modes[..., 0] = 0.0  # the column that is its own conjugate
    return torch.fft.irfft2(modes, s=(size, size), norm="forward")


@torch.no_grad()
def test_a_shifted_field_gives_the_shifted_answer():
    net, x = trained(layers=3), band_limited(16)
    moved = net(x.roll((3, -5), (-2, -1)))
    torch.testing.assert_close(moved, net(x).roll((3, -5), (-2, -1)), rtol=0, atol=1e-12)


@torch.no_grad()
def test_one_layer_is_the_same_function_on_every_grid():
    net = trained(layers=1)
    fine = net(band_limited(48))[..., ::3, ::3]
    torch.testing.assert_close(fine, net(band_limited(16)), rtol=0, atol=1e-12)


@torch.no_grad()
def test_more_layers_agree_the_better_the_finer_the_grids_are():
    net = trained(layers=3)
    limit = net(band_limited(128))[..., ::8, ::8]
    error = [float((net(band_limited(n))[..., :: n // 16, :: n // 16] - limit).norm()) for n in (16, 32, 64)]
    # What gelu folds back falls with the wave number of the grid.
    assert error[1] < 0.2 * error[0] and error[2] < 0.2 * error[1]


def test_gradients_reach_every_weight():
    net = trained(layers=2, has_level=True)
    net(band_limited(16), torch.tensor([0.5, 2.0])).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters())


def test_an_untrained_network_predicts_no_change():
    net = build_network(NetworkSpec("fno", {"history": 2, "fields": 1, "width": 4, "modes": 3, "layers": 2}))
    assert torch.equal(net(torch.randn(2, 2, 16, 16)), torch.zeros(2, 1, 16, 16))


@torch.no_grad()
def test_history_and_extra_fields_are_inputs_and_outputs_are_counted():
    net = trained(history=2, fields=3, extra=1, n_outputs=2, layers=1)
    assert net(torch.zeros(5, 7, 16, 20, dtype=torch.float64)).shape == (5, 6, 16, 20)


@torch.no_grad()
def test_the_level_changes_the_answer_where_there_is_one():
    net, x = trained(layers=2, has_level=True), band_limited(16)
    assert not torch.allclose(net(x, 0.0), net(x, 3.0))
    torch.testing.assert_close(net(x, 3.0), net(x, torch.full((2,), 3.0)))
    plain = trained(layers=2)
    assert torch.equal(plain(x, 0.0), plain(x, 3.0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(LayoutMismatch, match="4 modes need 8 points"):
        trained(layers=1)(torch.zeros(1, 1, 6, 16, dtype=torch.float64))
    with pytest.raises(ConfigError, match="1 or more"):
        FourierNeuralOperator(width=0)
