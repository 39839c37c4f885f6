"""What the quadratic spectral network promises: equivariance, a zero start, and room for the true operator."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.networks import NetworkSpec, QuadraticSpectralNet, build_network
from cycler_da.generative.networks.spectral import RadialFilter
from cycler_da.noise import Noise

SPEC = NetworkSpec("quadratic_spectral", {"size": 16, "channels": 2, "products": 3, "stages": 2})


def _trained_like() -> QuadraticSpectralNet:
    """A network whose every weight is drawn, as after training."""
    network = build_network(SPEC, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    assert isinstance(network, QuadraticSpectralNet)
    return network.double()


def _padded(modes: torch.Tensor, size: int) -> torch.Tensor:
    """The same waves on a finer grid (norm="forward")."""
    n = modes.shape[-2]
    finer = modes.new_zeros((*modes.shape[:-2], size, size // 2 + 1))
    finer[..., : n // 2, : n // 2] = modes[..., : n // 2, : n // 2]
    finer[..., -(n // 2 - 1) :, : n // 2] = modes[..., -(n // 2 - 1) :, : n // 2]
    return finer


def test_shifted_fields_give_shifted_increments():
    network = _trained_like()
    x = Noise(1).shared_normal("x", (2, 2, 16, 16), dtype=torch.float64)
    shifted = network(torch.roll(x, (3, 5), dims=(-2, -1)))
    assert torch.allclose(shifted, torch.roll(network(x), (3, 5), dims=(-2, -1)), rtol=0, atol=1e-12)


def test_a_network_with_repeats_is_the_network_applied_again():
    once, twice = _trained_like(), _trained_like()
    twice.repeats = 2
    x = Noise(3).shared_normal("x", (2, 2, 16, 16), dtype=torch.float64)
    between = x + once(x)
    torch.testing.assert_close(x + twice(x), between + once(between), rtol=0, atol=1e-12)


def test_dealiased_products_are_those_of_a_finer_grid():
    network = QuadraticSpectralNet(size=12, channels=1, products=1, stages=1, dealiased=True)
    finer = QuadraticSpectralNet(size=24, channels=1, products=1, stages=1)
    for net in (network, finer):
        with torch.no_grad():
            net.factors[0].profile[0] = 1.0  # both factors are the field itself
            net.returns[0].profile[0] = 1.0
    modes = torch.zeros(1, 1, 12, 7, dtype=torch.complex128)
    drawn = Noise(4).shared_normal("modes", (2, 7, 4), dtype=torch.float64)
    modes[0, 0, [0, 1, 2, 3, 9, 10, 11], :4] = torch.complex(drawn[0], drawn[1])
    x = torch.fft.irfft2(modes, s=(12, 12), norm="forward")
    fine = torch.fft.irfft2(_padded(torch.fft.rfft2(x, norm="forward"), 24), s=(24, 24), norm="forward")
    squared = torch.fft.rfft2(finer.double()(fine), norm="forward")
    found = torch.fft.rfft2(network.double()(x), norm="forward")
    torch.testing.assert_close(found[..., [0, 1, 2, 3, 9, 10, 11], :4], squared[..., [0, 1, 2, 3, 21, 22, 23], :4])
    assert torch.count_nonzero(found[..., 4:9, :].abs() > 1e-12) == 0
    assert torch.count_nonzero(found[..., 4:].abs() > 1e-12) == 0


def test_no_repeats_are_refused():
    with pytest.raises(ConfigError, match="repeats 0"):
        QuadraticSpectralNet(size=16, channels=1, repeats=0)


def test_a_fresh_network_is_persistence():
    network = build_network(SPEC, seed=0)
    x = Noise(2).shared_normal("x", (2, 2, 16, 16), dtype=torch.float32)
    assert torch.count_nonzero(network(x)) == 0


def test_increments_of_a_fresh_network_depend_on_the_seed_alone():
    first, second, other = (build_network(SPEC, seed=seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_members_of_a_batch_do_not_touch_each_other():
    network = _trained_like()
    x = Noise(3).shared_normal("x", (3, 2, 16, 16), dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    assert torch.allclose(network(x), alone, rtol=0, atol=1e-13)


def test_a_directional_profile_is_a_derivative():
    """With a(|k|) = |k| in the x direction a filter is d/dx in units of 2 pi / n."""
    network = QuadraticSpectralNet(size=16, channels=1, products=1, stages=1).double()
    bank = network.linear[0]
    with torch.no_grad():
        bank.profile.zero_()
        bank.profile[1, 0, 0] = bank.radii
    x = torch.arange(16, dtype=torch.float64) * 2 * torch.pi / 16
    field = torch.sin(3 * x).expand(1, 1, 16, 16)
    slope = torch.fft.irfft2(bank(torch.fft.rfft2(field)), s=(16, 16))
    assert torch.allclose(slope, 3 * torch.cos(3 * x).expand(1, 1, 16, 16), rtol=0, atol=1e-12)


def test_advection_lies_in_the_family():
    """One stage can be u df/dx exactly: a product of a field and a derivative."""
    network = QuadraticSpectralNet(size=16, channels=2, products=1, stages=1).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.factors[0].profile[0, 0, 0] = 1.0  # first factor: channel 0 as it is
        network.factors[0].profile[1, 1, 1] = network.factors[0].radii  # second factor: d/dx of channel 1
        network.returns[0].profile[0, 1, 0] = 1.0  # the product goes to channel 1
    x = torch.arange(16, dtype=torch.float64) * 2 * torch.pi / 16
    u, f = torch.cos(x)[:, None].expand(16, 16), torch.sin(2 * x).expand(16, 16)
    result = network(torch.stack([u, f])[None])
    assert torch.allclose(result[0, 1], u * 2 * torch.cos(2 * x), rtol=0, atol=1e-12)
    assert float(result[0, 0].detach().abs().max()) < 1e-12


def test_filters_that_are_kept_follow_every_change_of_the_profile():
    bank, x = RadialFilter(8, 1, 2), torch.fft.rfft2(torch.randn(3, 1, 8, 8))
    other = RadialFilter(8, 1, 2)
    with torch.no_grad():
        other.profile.normal_()
        for change in (
            lambda: bank.profile.normal_(),
            lambda: bank.profile.mul_(2.0),
            lambda: bank.load_state_dict(other.state_dict()),
            lambda: setattr(bank.profile, "data", torch.ones_like(bank.profile)),
        ):
            change()
            expected = torch.einsum("bi...,oi...->bo...", x, bank.weights())
            assert torch.equal(bank(x), expected)
            assert torch.equal(bank(x), expected)


def test_filters_have_gradients_after_a_pass_without():
    bank, x = RadialFilter(8, 1, 1), torch.fft.rfft2(torch.randn(2, 1, 8, 8))
    with torch.no_grad():
        bank.profile.fill_(1.0)
        bank(x)
    bank(x).abs().sum().backward()
    assert bank.profile.grad.abs().sum() > 0


def test_filters_kept_in_inference_mode_serve_passes_outside_of_it():
    bank, x = RadialFilter(8, 1, 1), torch.fft.rfft2(torch.randn(2, 1, 8, 8))
    with torch.inference_mode():
        inside = bank(x)
    with torch.no_grad():
        assert torch.equal(bank(x), inside)
