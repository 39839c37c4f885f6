"""The speed through a sigmoid: its value, its derivative, and what is refused. The rest is in the contracts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs.base import Locations
from cycler_da.obs.fields import observed_fields, seen_everywhere
from cycler_da.obs.speed import SpeedSpec

VARIABLES = (Variable("u", "m s-1", "along x"), Variable("t", "K", "temperature"), Variable("v", "m s-1", "along y"))
LAYOUT = Layout(
    "toy", VARIABLES, Grid(tuple(Axis(name, 4, periodic=True) for name in ("y", "x"))), np.timedelta64(3600, "s")
)
SPEC = SpeedSpec(threshold=3.0, scale=0.5, components=("u", "v"))


def states() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def sites(channel: int = 0) -> Locations:
    spacing = LAYOUT.grid.axes[0].spacing
    return Locations(torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64) * spacing, torch.full((2,), channel))


def test_one_value_of_two_components_whichever_is_named():
    x = states()
    square = x[:, 0] ** 2 + x[:, 2] ** 2
    expected = [
        [1.0 / (1.0 + math.exp(-(float(one[i, j]) - 3.0) / 0.5)) for i, j in ((1, 2), (3, 0))] for one in square
    ]
    for channel in (0, 2):
        hx = SPEC.build(LAYOUT)(x, sites(channel), LAYOUT)
        torch.testing.assert_close(hx, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0)


def test_the_derivative_is_that_of_the_formula():
    x, operator = states().requires_grad_(), SPEC.build(LAYOUT)
    hx = operator(x, sites(), LAYOUT)
    (gradient,) = torch.autograd.grad(hx.sum(), x)
    expected, slope = torch.zeros_like(gradient), (hx * (1.0 - hx)).detach() / 0.5
    for k, (i, j) in enumerate(((1, 2), (3, 0))):
        for channel in (0, 2):
            expected[:, channel, i, j] = 2.0 * x.detach()[:, channel, i, j] * slope[:, k]
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


def test_a_velocity_and_its_opposite_look_alike():
    operator, x = SPEC.build(LAYOUT), states()
    assert torch.equal(operator(x, sites(), LAYOUT), operator(-x, sites(), LAYOUT))


def test_as_a_field_it_is_one_channel():
    fields = observed_fields([{"variable": "v", "operator": {"kind": "speed", "components": ["u", "v"]}}], LAYOUT)
    seen = seen_everywhere(fields, states())
    assert bool((seen[:, 2] > 0).all()) and not seen[:, :2].any()


def test_what_is_no_velocity_is_refused():
    with pytest.raises(ConfigError, match=r"no variable w; valid components: u, t, v"):
        SpeedSpec(components=("u", "w")).build(LAYOUT)
    with pytest.raises(ConfigError, match=r"u, t, v have the units K, m s-1; expected one"):
        SpeedSpec().build(LAYOUT)
    with pytest.raises(ConfigError, match=r"scale is 0"):
        SpeedSpec(scale=0.0)
    with pytest.raises(ConfigError, match=r"components are u, u; expected each once"):
        SpeedSpec(components=("u", "u"))
    with pytest.raises(ConfigError, match=r"speed is not linear"):
        SPEC.build(LAYOUT).adjoint(torch.ones(1, 2), sites(), LAYOUT)
