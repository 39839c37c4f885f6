"""The ring network that is told a level: clean at level 0, equivariant, with roots that lie between measured ones."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.conditioned_transition import AtLevel, with_level
from cycler_da.generative.networks import ConditionedRingNet, NetworkSpec, build_network

LEVELS = (0.0, 0.3, 1.0)


@pytest.fixture
def net() -> ConditionedRingNet:
    network = build_network(NetworkSpec("conditioned_ring", {"size": 8, "levels": list(LEVELS)}), seed=2)
    assert isinstance(network, ConditionedRingNet)
    with torch.no_grad():
        for weight in network.parameters():  # last layers start at zero
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)))
        network.base_root.copy_(torch.stack([(0.1 + level) * torch.eye(8) for level in LEVELS]))
    return network.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 1, 8, generator=torch.Generator().manual_seed(1))


def test_untrained_it_is_persistence_at_every_level(x):
    network = build_network(NetworkSpec("conditioned_ring", {"size": 8, "levels": list(LEVELS)}), seed=2)
    assert not network(with_level(x, 0.7)).any()


def test_at_level_zero_it_is_its_clean_stages(net, x):
    assert torch.equal(net(with_level(x, 0.0)), net.mean.clean(x))
    assert not torch.allclose(net(with_level(x, 0.5)), net.mean.clean(x), atol=1e-3)


def test_a_shift_of_the_state_shifts_the_increment(net, x):
    shifted = net(with_level(torch.roll(x, 3, dims=-1), 0.4))
    torch.testing.assert_close(shifted, torch.roll(net(with_level(x, 0.4)), 3, dims=-1))


def test_every_row_has_the_level_it_is_told(net, x):
    levels = torch.tensor([0.0, 0.2, 0.3, 0.7, 1.0])
    together = net.covariance_root(with_level(x, levels))
    for i, level in enumerate(levels.tolist()):
        torch.testing.assert_close(together[i : i + 1], AtLevel(net, level).covariance_root(x[i : i + 1]))


@pytest.mark.parametrize(("level", "variance"), [(0.0, 0.01), (0.3, 0.16), (1.0, 1.21), (3.0, 1.21)])
def test_roots_are_those_of_the_levels_and_constant_beyond(net, level, variance):
    root = net.roots_at(torch.tensor([level]))[0]
    torch.testing.assert_close(root, variance**0.5 * torch.eye(8, dtype=torch.float64), rtol=1e-6, atol=0)


def test_between_levels_covariances_are_linear_in_the_square_of_the_level(net):
    share = (0.5**2 - 0.3**2) / (1.0 - 0.3**2)
    expected = (1 - share) * 0.16 + share * 1.21
    root = net.roots_at(torch.tensor([0.5]))[0]
    torch.testing.assert_close(root @ root.T, expected * torch.eye(8, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("options", "text"), [({"width": 4}, "width is 4"), ({"levels": [0.1, 0.2]}, "begin at 0")])
def test_a_network_that_cannot_be_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        build_network(NetworkSpec("conditioned_ring", {"size": 8, "levels": list(LEVELS), **options}))
