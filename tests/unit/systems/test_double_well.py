"""The double well: its exact flow, stationary density and mean time of crossing."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.systems.double_well import DoubleWellSpec, flow
from cycler_da.systems.runge_kutta import runge_kutta_step

GRID = torch.linspace(-3.0, 3.0, 12001, dtype=torch.float64)


def potential(x):
    return x**4 - 2 * x**2


@pytest.fixture(scope="module")
def run():
    """4000 particles that start in both wells, 30 time units: values of the last two thirds, and crossings."""
    spec = DoubleWellSpec()
    dynamics, generator = spec.build(), torch.Generator().manual_seed(3)
    x = torch.ones((4000, 1, 1), dtype=torch.float64)
    x[::2] = -1.0
    well, kept, crossings = x.clone(), [], 0
    for step in range(1500):
        x = dynamics.perturb(dynamics.step(x), torch.randn(x.shape, generator=generator, dtype=x.dtype))
        now = torch.where(x.abs() > 0.7, x.sign(), well)
        crossings, well = crossings + int((now != well).sum()), now
        if step >= 500 and step % 25 == 0:
            kept.append(x.flatten())
    return torch.cat(kept), 4000 * 1500 * dynamics.length / crossings


def test_the_flow_without_noise_is_that_of_the_potential():
    x = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    stepped = x
    for _ in range(400):
        stepped = runge_kutta_step(lambda state: 4 * (state - state**3), stepped, 1e-3)
    torch.testing.assert_close(flow(x, 0.4), stepped, rtol=1e-9, atol=1e-9)  # fourth order, step 1e-3


def test_the_flow_goes_back_to_where_it_came_from():
    x = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    torch.testing.assert_close(flow(flow(x, 0.3), -0.3), x, rtol=1e-12, atol=1e-12)


def test_the_stationary_density_is_that_of_boltzmann(run):
    values, _ = run
    density = torch.exp(-2 * potential(GRID) / 0.7**2)
    density = density / density.sum()
    # 160 000 values that repeat themselves within a tenth of a time unit: standard error .0012 of the mean square.
    assert float(values.square().mean()) == pytest.approx(float((density * GRID**2).sum()), abs=0.006)
    near = float((values.abs() < 0.5).double().mean())
    assert near == pytest.approx(float(density[GRID.abs() < 0.5].sum()), rel=0.08)


def test_crossings_take_the_mean_first_passage_time(run):
    _, between = run
    density, dx = torch.exp(-2 * potential(GRID) / 0.7**2), float(GRID[1] - GRID[0])
    inner = density.cumsum(0) * dx
    inside = (GRID >= -0.7) & (GRID <= 0.7)
    # From -0.7 to 0.7, Gardiner (2009), Stochastic Methods, eq. 5.5.23; 1600 crossings have 2.5 % standard error.
    expected = 2 / 0.7**2 * float((inner / density)[inside].sum()) * dx
    assert between == pytest.approx(expected, rel=0.1)


def test_settings_that_cannot_be_run_are_refused():
    with pytest.raises(ConfigError, match="process_noise is -1"):
        DoubleWellSpec(process_noise=-1.0)
