"""What every registered observation operator promises, on every kind of grid it accepts."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
import torch

import cycler_da.obs
from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs.base import Locations, ObservationOperator
from cycler_da.registry import registered

for _module in pkgutil.iter_modules(cycler_da.obs.__path__):
    importlib.import_module(f"cycler_da.obs.{_module.name}")

STEP = np.timedelta64(3600, "s")
TWO = (Variable("q1", "s-1", "upper layer"), Variable("q2", "s-1", "lower layer"))
LAYOUTS = {
    "torus": Layout("t", TWO, Grid((Axis("y", 6, 100.0, periodic=True), Axis("x", 8, 250.0, periodic=True))), STEP),
    "patch": Layout("p", TWO, Grid((Axis("y", 5, 10.0, 3.0), Axis("x", 7, 20.0, -9.0))), STEP),
    "ring": Layout("r", TWO, Grid((Axis("x", 40, periodic=True),)), STEP),
    "line": Layout("l", TWO, Grid((Axis("x", 9, 0.5, 2.0),)), STEP),
}
CASES = [(kind, name) for kind in sorted(registered("operator")) for name in LAYOUTS]
N_STATES, N_OBS = 4, 25


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request):
    kind, name = request.param
    layout = LAYOUTS[name]
    try:
        operator = registered("operator")[kind]().build(layout)
    except (ConfigError, LayoutMismatch) as refusal:
        pytest.skip(f"{kind} does not observe this grid: {refusal}")
    return operator, layout, _sites(layout)


def _sites(layout):
    generator = torch.Generator().manual_seed(7)
    axes = layout.grid.axes
    part = torch.rand(N_OBS, len(axes), generator=generator, dtype=torch.float64)
    reach = torch.tensor([axis.spacing * (axis.size - 1) for axis in axes], dtype=torch.float64)
    position = torch.tensor([axis.origin for axis in axes], dtype=torch.float64) + part * reach
    return Locations(position, torch.randint(0, len(layout.variables), (N_OBS,), generator=generator))


def _states(layout, n_states=N_STATES, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n_states, *layout.state_shape, generator=generator, dtype=dtype)


def test_operator_meets_the_protocol(case):
    operator, _, _ = case
    assert isinstance(operator, ObservationOperator)
    assert operator.name in registered("operator")


def test_adjoint_is_the_transpose(case):
    operator, layout, where = case
    if not operator.is_linear:
        pytest.skip("not linear")
    x = _states(layout)
    v = torch.randn(N_STATES, N_OBS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    forward = (operator(x, where, layout) * v).sum()
    backward = (x * operator.adjoint(v, where, layout)).sum()
    scale = operator(x, where, layout).norm() * v.norm()
    assert float(abs(forward - backward) / scale) < 1e-12


def test_linear_operator_adds_and_scales(case):
    operator, layout, where = case
    if not operator.is_linear:
        pytest.skip("not linear")
    a, b = _states(layout), _states(layout).flip(0)
    together = operator(2.0 * a - 3.0 * b, where, layout)
    apart = 2.0 * operator(a, where, layout) - 3.0 * operator(b, where, layout)
    torch.testing.assert_close(together, apart, rtol=1e-13, atol=1e-13)


def test_gradient_agrees_with_the_adjoint_or_with_differences(case):
    operator, layout, where = case
    x = _states(layout, 2).requires_grad_()
    v = torch.randn(2, N_OBS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((operator(x, where, layout) * v).sum(), x)
    if operator.is_linear:
        torch.testing.assert_close(gradient, operator.adjoint(v, where, layout), rtol=1e-13, atol=1e-13)
        return
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    step = 1e-6  # centred differences in float64: error about step^2 + 1e-16 / step
    up, down = (operator(x.detach() + sign * step * direction, where, layout) for sign in (1, -1))
    slope = ((up - down) * v).sum() / (2 * step)
    assert float(slope) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_states_of_a_batch_do_not_see_each_other(case):
    operator, layout, where = case
    x = _states(layout)
    one_by_one = torch.cat([operator(x[i : i + 1], where, layout) for i in range(N_STATES)])
    assert torch.equal(operator(x, where, layout), one_by_one)


def test_observations_do_not_see_each_other(case):
    operator, layout, where = case
    x = _states(layout)
    order = torch.randperm(N_OBS, generator=torch.Generator().manual_seed(2))
    shuffled = Locations(where.position[order], where.channel[order])
    assert torch.equal(operator(x, shuffled, layout), operator(x, where, layout)[:, order])


def test_no_sites_give_no_values_and_no_increment(case):
    operator, layout, where = case
    nowhere = where.select(torch.zeros(N_OBS, dtype=torch.bool))
    assert operator(_states(layout), nowhere, layout).shape == (N_STATES, 0)
    if operator.is_linear:
        back = operator.adjoint(torch.zeros(2, 0, dtype=torch.float64), nowhere, layout)
        assert torch.equal(back, torch.zeros(2, *layout.state_shape, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_follows_the_states(case, dtype):
    operator, layout, where = case
    exact = operator(_states(layout), where, layout)
    hx = operator(_states(layout).to(dtype), where, layout)
    assert hx.dtype == dtype
    torch.testing.assert_close(hx.to(torch.float64), exact, rtol=1e-5, atol=1e-5)


def test_every_value_inside_the_grid_is_finite(case):
    operator, layout, where = case
    assert bool(torch.isfinite(operator(_states(layout), where, layout)).all())


def test_an_observation_sees_the_state(case):
    operator, layout, where = case
    x = _states(layout)
    moved = operator(x + _states(layout).flip(0), where, layout)  # a constant would not move a derivative
    has_moved = moved != operator(x, where, layout)
    if getattr(operator, "is_differentiable", True):
        assert bool(has_moved.all())
    else:  # a detection sees only some changes: both of its values must be among them
        assert bool(has_moved.any()) and len(moved.unique()) > 1


@pytest.mark.gpu
def test_values_and_gradients_on_a_gpu_equal_those_here_and_repeat_to_the_bit(case):
    operator, layout, where = case
    x = _states(layout, dtype=torch.float32)
    crowd = Locations(where.position.repeat(200, 1), where.channel.repeat(200))  # many sites share a cell

    def values_and_gradient(device):
        there = x.to(device).requires_grad_()
        hx = operator(there, crowd, layout)
        weight = torch.linspace(-1.0, 2.0, hx.shape[1], device=device)
        return hx.detach().cpu(), torch.autograd.grad((hx * weight).sum(), there)[0].cpu()

    first, again, here = values_and_gradient("cuda"), values_and_gradient("cuda"), values_and_gradient("cpu")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for there, expected in zip(first, here, strict=True):
        torch.testing.assert_close(there, expected, rtol=1e-4, atol=1e-3)
