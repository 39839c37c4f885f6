"""Nonlinear point operators: the curves, their scale, and what they refuse. The rest is in the contracts."""

from __future__ import annotations

import math

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.obs.base import Locations
from cycler_da.obs.nonlinear import ArctanSpec, CubicSpec, SigmoidSpec
from cycler_da.systems.lorenz63 import Lorenz63Spec

LAYOUT = Lorenz63Spec().layout()
WHERE = Locations(torch.zeros((2, 1), dtype=torch.float64), torch.tensor([0, 2]))
STATE = torch.tensor([[[8.0], [1.0], [-16.0]]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ArctanSpec(scale=8.0), [math.pi / 4, -math.atan(2.0)]),
        (CubicSpec(scale=8.0), [1.0, -8.0]),
        (SigmoidSpec(scale=8.0), [1.0 / (1.0 + math.exp(-1.0)), 1.0 / (1.0 + math.exp(2.0))]),
    ],
    ids=["arctan", "cubic", "sigmoid"],
)
def test_the_curve_acts_on_the_value_in_units_of_the_scale(spec, expected):
    hx = spec.build(LAYOUT)(STATE, WHERE, LAYOUT)
    torch.testing.assert_close(hx, torch.tensor([expected], dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("spec", [ArctanSpec(), CubicSpec(), SigmoidSpec()], ids=["arctan", "cubic", "sigmoid"])
def test_a_transpose_is_refused(spec):
    with pytest.raises(ConfigError, match="not linear"):
        spec.build(LAYOUT).adjoint(torch.ones(1, 2), WHERE, LAYOUT)


@pytest.mark.parametrize("spec", [ArctanSpec, CubicSpec, SigmoidSpec])
def test_a_scale_that_is_not_positive_is_refused(spec):
    with pytest.raises(ConfigError, match="scale is 0"):
        spec(scale=0.0)
