"""Fields of observations, and which observations are of them; the sine and the detection."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs import catalogue as _catalogue  # noqa: F401
from cycler_da.obs.base import Locations, ObsBatch
from cycler_da.obs.fields import observed_fields, same_operator
from cycler_da.obs.nonlinear import ArctanSpec, ExceedsSpec, SineSpec

LAYOUT = Layout(
    "toy",
    (Variable("a", "1", "first"), Variable("b", "1", "second")),
    Grid((Axis("y", 3, periodic=True), Axis("x", 4, periodic=True))),
    np.timedelta64(1, "h"),
)
BLOCKS = [{"variable": "b", "operator": {"kind": "sine", "scale": 0.5}}]


def batch(operator, channel):
    where = Locations(torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.tensor([channel]))
    one = torch.ones(1, dtype=torch.float64)
    return ObsBatch("s", operator, where, one, one, np.array(["NaT"], "M8[s]"), np.array(["o"]), torch.zeros(1))


def test_a_field_is_the_operator_at_every_cell():
    states = torch.randn(2, 5, 2, 3, 4, dtype=torch.float64)
    (field,) = observed_fields(BLOCKS, LAYOUT)
    torch.testing.assert_close(field.of(states), 1.5 * torch.sin(2.0 * states[:, :, 1:]), rtol=1e-12, atol=1e-12)


def test_a_field_knows_its_observations_by_operator_settings_and_variable():
    (field,) = observed_fields(BLOCKS, LAYOUT)
    assert bool(field.sees(batch(SineSpec(scale=0.5).build(LAYOUT), 1)).all())
    assert not bool(field.sees(batch(SineSpec(scale=0.5).build(LAYOUT), 0)).any())
    assert not bool(field.sees(batch(SineSpec(scale=0.6).build(LAYOUT), 1)).any())
    assert not bool(field.sees(batch(ArctanSpec(scale=0.5).build(LAYOUT), 1)).any())


def test_operators_with_tensors_are_compared_by_their_values():
    @dataclasses.dataclass(frozen=True)
    class Weighted:
        weights: torch.Tensor

    assert same_operator(Weighted(torch.ones(2)), Weighted(torch.ones(2)))
    assert not same_operator(Weighted(torch.ones(2)), Weighted(torch.zeros(2)))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"variable": "c", "operator": {"kind": "sine"}}, "unknown variable 'c'; valid: a, b"),
        ({"variable": "a", "operator": {"kind": "sine"}, "size": 1}, "unknown key size"),
        ({"variable": "a"}, "expected variable and operator"),
        ({"variable": "a", "operator": {"kind": "sine", "scal": 1}}, "unknown key 'scal'"),
    ],
)
def test_fields_that_cannot_be_are_refused(block, message):
    with pytest.raises(ConfigError, match=message):
        observed_fields([block], LAYOUT)


def test_the_sine_folds_back_and_its_options_are_checked():
    operator = SineSpec(scale=2.0, amplitude=1.5).build(LAYOUT)
    x = torch.full((1, 2, 3, 4), math.pi, dtype=torch.float64)
    assert float(operator(x, batch(operator, 0).where, LAYOUT)) == pytest.approx(1.5)
    assert float(operator(2 * x, batch(operator, 0).where, LAYOUT)) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ConfigError, match="amplitude"):
        SineSpec(amplitude=0.0)


def test_a_detection_has_no_derivative_and_says_so():
    operator = ExceedsSpec(threshold=1.0).build(LAYOUT)
    where = batch(operator, 0).where
    assert not operator.is_differentiable
    for value, seen in ((0.5, 0.0), (1.0, 0.0), (1.5, 1.0)):
        assert float(operator(torch.full((1, 2, 3, 4), value, dtype=torch.float64), where, LAYOUT)) == seen
