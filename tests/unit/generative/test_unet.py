"""The U-Net: no change before training, and edges that are what the padding says."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.networks.base import NetworkSpec, build_network
from cycler_da.noise import Noise


def a_unet(*, trained: bool = True, **arguments) -> torch.nn.Module:
    spec = NetworkSpec("unet", {"history": 3, "n_outputs": 2, "channels": [8, 16, 16], **arguments})
    network = build_network(spec, seed=3).eval()
    if trained:  # some weights instead of the zeros at the start
        generator = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def frames(size: int = 32) -> torch.Tensor:
    return Noise(2).shared_normal("frames", (2, 3, size, size), dtype=torch.float32)


def test_an_untrained_network_predicts_no_change():
    assert not a_unet(trained=False)(frames()).any()


def test_with_periodic_padding_a_shifted_field_gives_the_shifted_answer():
    network, x = a_unet(padding="periodic"), frames()
    shift = (network.multiple, 2 * network.multiple)
    moved = network(x.roll(shift, dims=(2, 3)))
    # Sums in another order: a few units of the last place of values near one.
    torch.testing.assert_close(moved, network(x).roll(shift, dims=(2, 3)), rtol=1e-4, atol=1e-4)


def test_with_replicate_padding_edges_are_like_the_interior_of_a_field_without_change_across_them():
    stripes = frames()[..., :1].expand(-1, -1, -1, 32)
    out = a_unet(padding="replicate")(stripes)
    torch.testing.assert_close(out[..., 2:], out[..., :-2], rtol=1e-4, atol=1e-4)


def test_the_network_takes_any_grid_of_whole_coarse_cells():
    network = a_unet()
    wide = network(frames(48)[:, :, :32])
    assert wide.shape == (2, 2, 32, 48)
    assert bool(wide.isfinite().all()) and float(wide.std()) > 0


def test_an_unknown_padding_is_refused():
    with pytest.raises(ConfigError, match="periodic, replicate"):
        a_unet(padding="zeros")
