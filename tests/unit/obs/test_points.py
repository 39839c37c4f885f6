"""The linear point operators against exact values."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cycler_da.errors import LayoutMismatch
from cycler_da.obs.base import Locations
from cycler_da.obs.points import CellSpec, PointsSpec

SOME = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _at(*position, channel=0):
    rows = torch.tensor(position, dtype=torch.float64).reshape(len(position), -1)
    return Locations(rows, torch.full((len(position),), channel, dtype=torch.int64))


def _states(layout, n_states=3, dtype=torch.float64):
    return torch.randn(n_states, *layout.state_shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def _centres(layout):
    axes = np.meshgrid(*(axis.centres() for axis in layout.grid.axes), indexing="ij")
    return torch.from_numpy(np.stack([axis.ravel() for axis in axes], axis=-1))


@pytest.mark.parametrize("spec", [PointsSpec(), CellSpec()])
@pytest.mark.parametrize("name", ["torus", "patch", "ring", "line", "mapped"])
def test_value_at_a_cell_centre_is_the_cell_to_the_last_bit(spec, name, request):
    layout = request.getfixturevalue(name)
    x = _states(layout)
    position = _centres(layout)
    for channel in range(len(layout.variables)):
        where = Locations(position, torch.full((len(position),), channel, dtype=torch.int64))
        assert torch.equal(spec.build(layout)(x, where, layout), x[:, channel].flatten(1))


def test_centre_of_four_cells_is_their_mean(patch):
    x = _states(patch)
    hx = PointsSpec().build(patch)(x, _at([2000.0, 2000.0]), patch)
    expected = x[:, 0, 1:3, 2:4].mean(dim=(1, 2))
    torch.testing.assert_close(hx[:, 0], expected, rtol=1e-15, atol=1e-15)


@SOME
@given(st.floats(500.0, 4500.0), st.floats(-3000.0, 9000.0), st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_bilinear_field_is_reproduced(patch, y, x, coefficients):
    a, b, c, d = coefficients

    def field(y, x):
        return a + b * y / 1e3 + c * x / 1e3 + d * y * x / 1e6

    grid_y, grid_x = (torch.from_numpy(axis.centres()) for axis in patch.grid.axes)
    states = field(grid_y[:, None], grid_x[None, :])[None, None]
    hx = PointsSpec().build(patch)(states, _at([y, x]), patch)
    # Rounding of four products of numbers of this size.
    assert float(hx) == pytest.approx(field(y, x), abs=1e-12)


@SOME
@given(st.floats(-2000.0, 2000.0), st.floats(-3000.0, 6000.0), st.integers(-2, 2), st.integers(-2, 2))
def test_positions_a_whole_turn_apart_are_the_same_on_a_periodic_grid(torus, y, x, turns_y, turns_x):
    states = _states(torus)
    far = [y + 600.0 * turns_y, x + 2000.0 * turns_x]
    for spec, tolerance in ((PointsSpec(), 1e-10), (CellSpec(), 0.0)):
        if not tolerance and min(abs((y / 100.0) % 1 - 0.0), 1 - (y / 100.0) % 1, abs((x / 250.0) % 1 - 0.5)) < 1e-6:
            continue  # on the edge between two cells rounding decides
        operator = spec.build(torus)
        near, distant = (operator(states, _at(place), torus) for place in ([y, x], far))
        torch.testing.assert_close(near, distant, rtol=0, atol=tolerance)


def test_interpolation_runs_across_the_seam_of_a_periodic_grid(torus):
    x = _states(torus)
    hx = PointsSpec().build(torus)(x, _at([-50.0 - 25.0, 1000.0], channel=1), torus)
    torch.testing.assert_close(hx[:, 0], 0.25 * x[:, 1, 5, 0] + 0.75 * x[:, 1, 0, 0], rtol=1e-14, atol=1e-14)


def test_points_end_at_the_outermost_centres_and_cells_half_a_cell_further(line):
    x = _states(line)
    where = _at([1.7], [1.99], [2.0], [6.0], [6.01], [6.24], [6.3], [float("nan")])
    points, cells = PointsSpec().build(line), CellSpec().build(line)
    assert points.covers(where, line).tolist() == [False, False, True, True, False, False, False, False]
    assert cells.covers(where, line).tolist() == [False, True, True, True, True, True, False, False]
    for operator in (points, cells):
        is_nan = torch.isnan(operator(x, where, line))
        assert torch.equal(is_nan, ~operator.covers(where, line).expand(3, -1))
        # Its transpose gives nothing where H(x) does not exist.
        v = torch.ones(1, 8, dtype=torch.float64)
        assert float(operator.adjoint(v, where, line).sum()) == float(operator.covers(where, line).sum())


def test_a_position_that_rounding_moved_off_the_edge_is_still_inside(line):
    hx = PointsSpec().build(line)(_states(line), _at([2.0 - 1e-12], [6.0 + 1e-12]), line)
    assert torch.equal(hx, _states(line)[:, 0, [0, -1]])


def test_a_missing_neighbour_of_weight_zero_is_not_read(patch):
    x = torch.full((1, *patch.state_shape), torch.nan, dtype=torch.float64)
    x[0, 0, 2, 3] = 7.0
    assert float(PointsSpec().build(patch)(x, _at([2500.0, 3000.0]), patch)) == 7.0


def test_cell_reads_the_cell_that_holds_the_position(ring):
    x = torch.arange(40.0, dtype=torch.float64).reshape(1, 1, 40)
    hx = CellSpec().build(ring)(x, _at([0.49], [0.5], [1.4], [39.5], [-0.6]), ring)
    assert hx.tolist() == [[0.0, 1.0, 1.0, 0.0, 39.0]]


@pytest.mark.parametrize("spec", [PointsSpec(), CellSpec()])
def test_operator_survives_a_trip_to_another_process(spec, torus):
    operator = spec.build(torus)
    there = pickle.loads(pickle.dumps(operator))
    where = _at([12.0, 1300.0])
    assert torch.equal(there(_states(torus), where, torus), operator(_states(torus), where, torus))


def test_states_of_another_grid_are_refused(torus, patch):
    with pytest.raises(LayoutMismatch, match=r"expected .*channel"):
        PointsSpec().build(torus)(_states(torus).transpose(-1, -2), _at([0.0, 0.0]), torus)
