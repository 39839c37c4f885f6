"""The quadratic network on a ring: what it contains, what it keeps, and its two forms of the covariance's root."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.networks import NetworkSpec, QuadraticRingNet, build_network
from cycler_da.systems.lorenz96 import Lorenz96Spec

STEP, FORCING = 0.05, 8.0


def runge_kutta_network(size: int) -> QuadraticRingNet:
    """The weights of the fourth-order step of Lorenz-96: one product in each of four stages."""
    net = QuadraticRingNet(size=size, products=1, stages=4).double()
    slopes: list[torch.Tensor] = []  # k_i as factors of x, the forcing, n_1 ... n_4
    for stage, (before, weights) in enumerate(
        zip((0.0, 0.5, 0.5, 1.0), ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)), strict=True)
    ):
        state = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64)
        if slopes:
            state = state + before * STEP * slopes[-1]
        product = torch.zeros(6, dtype=torch.float64)
        product[2 + stage] = 1.0
        slopes.append(product - state + torch.tensor([0, 1.0, 0, 0, 0, 0], dtype=torch.float64))
        change = STEP * sum(w * k for w, k in zip(weights, slopes, strict=True))
        with torch.no_grad():
            factors = net.mean.factors[stage].linear
            # Points x_{j-2} ... x_{j+2}: a = x_{j+1} - x_{j-2}, b = x_{j-1}.
            factors.weight.copy_(torch.tensor([[-1.0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]))
            factors.bias.zero_()
            net.mean.linear[stage].linear.weight.copy_(torch.tensor([[0.0, 0, change[0], 0, 0]]))
            net.mean.linear[stage].linear.bias.fill_(float(change[1]) * FORCING)
            net.mean.returns[stage].linear.weight.copy_(change[None, 2 : 3 + stage])
    return net


def test_a_runge_kutta_step_of_lorenz96_lies_in_the_family():
    dynamics = Lorenz96Spec(forcing=FORCING, time_step=STEP).build()
    x = 2.34 + 3.63 * torch.randn(5, 1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = x + runge_kutta_network(40)(x)
    torch.testing.assert_close(found, dynamics.step(x), rtol=0, atol=1e-12)


def test_turning_the_ring_turns_increment_and_spread():
    net = build_network(NetworkSpec("quadratic_ring", {"size": 12, "channels": 2}), seed=3).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.randn(3, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(net(x.roll(5, -1)), net(x).roll(5, -1))
        diagonal = net.whitener(x).diagonal(dim1=1, dim2=2).unflatten(1, (2, 12))
        turned = net.whitener(x.roll(5, -1)).diagonal(dim1=1, dim2=2).unflatten(1, (2, 12))
    torch.testing.assert_close(turned, diagonal.roll(5, -1))


def test_untrained_it_is_persistence_with_the_base_covariance():
    net = build_network(NetworkSpec("quadratic_ring", {"size": 8}), seed=0)
    net.base_root.copy_(torch.tril(torch.ones(8, 8)))
    x = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x), torch.zeros_like(x))
    assert torch.equal(net.covariance_root(x), net.base_root.double().expand(2, 8, 8))


@pytest.mark.parametrize("kind, arguments", [("quadratic_ring", {"size": 6}), ("mlp", {"size": 6, "width": 8})])
def test_the_root_times_the_whitener_is_the_base_root(kind, arguments):
    net = build_network(NetworkSpec(kind, arguments), seed=1)
    for parameter in net.root.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    net.base_root.copy_(torch.tril(torch.rand(6, 6, generator=torch.Generator().manual_seed(4)) + 0.1))
    x = torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        product = net.covariance_root(x) @ net.whitener(x).double()
    # The whitener is float32.
    torch.testing.assert_close(product, net.base_root.double().expand(4, 6, 6), rtol=1e-5, atol=1e-6)
