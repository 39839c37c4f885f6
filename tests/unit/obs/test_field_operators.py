"""Block means and velocity from vorticity: known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations
from cycler_da.obs.block_mean import BlockMeanSpec
from cycler_da.obs.networks import StrideSpec
from cycler_da.obs.points import PointsSpec
from cycler_da.obs.velocity import VelocitySpec
from cycler_da.systems.stochastic_ns import StochasticNSSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

LAYOUT = StochasticNSSpec(size=32).layout()
SPACING = 2 * math.pi / 32
GRID = torch.meshgrid(*(SPACING * torch.arange(32, dtype=torch.float64),) * 2, indexing="ij")  # y, x


def states(n=2):
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sites(n=40):
    position = 2 * math.pi * torch.rand(n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Locations(position, torch.zeros(n, dtype=torch.int64))


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_block_means_on_stride_sites_are_the_pooled_field(factor):
    x = states()
    network = StrideSpec(stride=factor).build(LAYOUT)
    where = network.sites(np.datetime64("2020-01-01", "s"), noise=Noise(1), stream="s").where
    seen = BlockMeanSpec(factor=factor).build(LAYOUT)(x, where, LAYOUT)
    pooled = torch.nn.functional.avg_pool2d(x, factor).flatten(1)
    torch.testing.assert_close(seen, pooled, rtol=0, atol=1e-14)


def test_published_super_resolution_is_point_values_at_the_centres_of_blocks():
    x, centre = states(), SPACING * (8 * torch.arange(4, dtype=torch.float64) + 3.5)
    position = torch.cartesian_prod(centre, centre)
    seen = PointsSpec().build(LAYOUT)(x, Locations(position, torch.zeros(16, dtype=torch.int64)), LAYOUT)
    published = torch.nn.functional.interpolate(x, scale_factor=1 / 8, mode="bilinear").flatten(1)
    torch.testing.assert_close(seen, published, rtol=0, atol=1e-13)


def test_blocks_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ConfigError, match="does not divide the 32 cells of axis y"):
        BlockMeanSpec(factor=5).build(LAYOUT)
    with pytest.raises(ConfigError, match="factor is 0"):
        BlockMeanSpec(factor=0)


@pytest.mark.parametrize("window", [1, 3, 4])
def test_velocity_of_a_plane_wave_is_the_analytic_one_times_the_window_mean(window):
    y, x = GRID
    k, l = 3, -2
    vorticity = torch.sin(k * x + l * y)[None, None]
    # psi = -w / (k^2 + l^2), u = -psi_y = l cos / (k^2 + l^2), v = psi_x = -k cos / (k^2 + l^2)
    index = torch.tensor([[4.0, 9.0], [20.0, 0.0], [31.0, 17.0]], dtype=torch.float64)
    where = Locations(SPACING * index, torch.zeros(3, dtype=torch.int64))
    offsets = SPACING * (torch.arange(window, dtype=torch.float64) - (window - 1) / 2)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    phases = k * (where.position[:, 1, None, None] + dx) + l * (where.position[:, 0, None, None] + dy)
    mean = torch.cos(phases).mean(dim=(1, 2)) / (k**2 + l**2)
    for component, expected in (("x", l * mean), ("y", -k * mean)):
        operator = VelocitySpec(component=component, window=window).build(LAYOUT)
        torch.testing.assert_close(operator(vorticity, where, LAYOUT)[0], expected, rtol=0, atol=1e-14)


def test_velocity_agrees_with_the_solver_on_what_it_resolves():
    solver = StochasticNSSpec(size=32).build(dtype=torch.float64)
    modes = torch.fft.rfft2(states())
    modes[..., 8:] = 0.0
    modes[..., 8:-7, :] = 0.0
    x = torch.fft.irfft2(modes, s=(32, 32))
    index = torch.tensor([[3.0, 5.0], [16.0, 30.0]], dtype=torch.float64)
    where = Locations(SPACING * index, torch.zeros(2, dtype=torch.int64))
    expected = solver.velocity(x)[:, :, index[:, 0].long(), index[:, 1].long()]
    for i, component in enumerate("xy"):
        operator = VelocitySpec(component=component, window=1).build(LAYOUT)
        torch.testing.assert_close(operator(x, where, LAYOUT), expected[:, i], rtol=0, atol=1e-13)


def test_velocity_refuses_grids_and_variables_it_cannot_invert():
    line = Layout("l", (Variable("w", "1", "w"),), Grid((Axis("x", 9),)), np.timedelta64(60, "s"))
    with pytest.raises(LayoutMismatch, match="two periodic"):
        VelocitySpec().build(line)
    with pytest.raises(ConfigError, match="potential vorticities"):
        VelocitySpec().build(TwoLayerQGSpec().layout())
    with pytest.raises(ConfigError, match="component"):
        VelocitySpec(component="z")
