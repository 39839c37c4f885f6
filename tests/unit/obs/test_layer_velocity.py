"""Velocities of layers as observations, beside those of the solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Grid, Layout
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.fields import all_cells
from cycler_da.obs.layer_velocity import PUBLISHED, LayerVelocitySpec, PublishedVelocitySpec
from cycler_da.obs.points import PointsSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

SPEC = TwoLayerQGSpec(size=16)
LAYOUT = SPEC.layout()
STD = torch.tensor([8.2e-6, 1.06e-6], dtype=torch.float64)[:, None, None]


def states():
    """Potential vorticities without waves at the Nyquist number."""
    waves = torch.fft.rfft2(torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    waves[..., 8, :] = 0
    waves[..., 8] = 0
    return STD * torch.fft.irfft2(waves)


@pytest.mark.parametrize("component", ["x", "y"])
@pytest.mark.parametrize("layer", [0, 1])
def test_layer_velocity_is_that_of_the_solver(component, layer):
    q = states()
    expected = SPEC.build(dtype=torch.float64).velocity(q)["xy".index(component)][:, layer].flatten(1)
    found = LayerVelocitySpec(component=component).build(LAYOUT)(q, all_cells(LAYOUT, layer), LAYOUT)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("spec", [LayerVelocitySpec(component="y"), PublishedVelocitySpec(component="x")])
def test_adjoint_is_the_transpose(spec):
    operator, where, q = spec.build(LAYOUT), all_cells(LAYOUT, 1), states()
    v = torch.randn(3, 256, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    forward = (operator(q, where, LAYOUT) * v).sum()
    backward = (q * operator.adjoint(v, where, LAYOUT)).sum()
    assert float(abs(forward - backward)) < 1e-12 * float(operator(q, where, LAYOUT).norm() * v.norm())


def test_the_published_operator_inverts_normalised_vorticities():
    q, layer = states(), 1
    u, _ = SPEC.build(dtype=torch.float64).velocity(q / STD)
    found = PublishedVelocitySpec().build(LAYOUT)(q, all_cells(LAYOUT, layer), LAYOUT)
    torch.testing.assert_close(found, u[:, layer].flatten(1) / PUBLISHED["x"][layer], rtol=1e-10, atol=1e-12)


def test_other_flows_are_refused():
    other = Layout("toy", LAYOUT.variables, Grid(LAYOUT.grid.axes), LAYOUT.step)
    with pytest.raises(LayoutMismatch, match="expected q1 and q2 of two_layer_qg"):
        LayerVelocitySpec().build(other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LayerVelocitySpec(component="u"),
        lambda: PublishedVelocitySpec(component="z"),
        lambda: PublishedVelocitySpec(std=(1.0, 0.0)),
    ],
)
def test_options_that_make_no_sense_are_refused(make):
    with pytest.raises(ConfigError, match="operator qg_velocity"):
        make()


class Counted:
    """A point operator that counts its transposes."""

    name, is_linear = "counted", True

    def __init__(self) -> None:
        self.inner, self.n_transposed = PointsSpec().build(LAYOUT), 0

    def __call__(self, x, where, layout):
        return self.inner(x, where, layout)

    def adjoint(self, v, where, layout):
        self.n_transposed += 1
        return self.inner.adjoint(v, where, layout)


def test_an_operator_is_not_transposed_for_units_of_another_stream():
    operators = Counted(), LayerVelocitySpec(component="x").build(LAYOUT)
    seen = Observations(tuple(_batch(operator) for operator in operators), LAYOUT)
    units = torch.eye(2 * 256, dtype=torch.float64)[[0, 256, 511]]
    assert torch.equal(seen.adjoint(units[1:]), operators[1].adjoint(units[1:, 256:], all_cells(LAYOUT, 1), LAYOUT))
    assert operators[0].n_transposed == 0
    both = [
        operator.adjoint(part, all_cells(LAYOUT, 1), LAYOUT)
        for operator, part in zip(operators, units.split(256, dim=1), strict=True)
    ]
    assert torch.equal(seen.adjoint(units), both[0] + both[1])


def _batch(operator) -> ObsBatch:
    where, n = all_cells(LAYOUT, 1), 256
    return ObsBatch(
        stream=operator.name,
        operator=operator,
        where=where,
        values=torch.zeros(n, dtype=torch.float64),
        error=torch.ones(n, dtype=torch.float64),
        times=np.full(n, np.datetime64("NaT", "s")),
        ids=np.array([str(i) for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )
