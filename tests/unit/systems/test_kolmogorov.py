"""Kolmogorov flow: invariants, exact solutions, a reference without transforms, budgets, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.systems.base import ClimateSpec, Dynamics
from cycler_da.systems.kolmogorov import KolmogorovSpec

SPEC = KolmogorovSpec(size=32, time_step=0.02)
IDEAL = replace(SPEC, reynolds=math.inf, drag=0.0, forcing=0.0)


def build(spec):
    return spec.build(dtype=torch.float64)


def eddies(spec=SPEC, n_states=3):
    return build(spec).random_eddies(Noise(5), members=range(n_states))


def coordinates(size=32):
    along = 2 * math.pi / size * torch.arange(size, dtype=torch.float64)
    return torch.meshgrid(along, along, indexing="ij")


def mean_square(x):
    return x.square().flatten(1).sum(dim=1) / math.prod(x.shape[-2:])


def energy_and_enstrophy(solver, x):
    return torch.stack([0.5 * mean_square(x), 0.5 * mean_square(solver.vorticity(x))])


def test_without_drag_viscosity_and_forcing_energy_and_enstrophy_are_kept_to_the_order_of_the_scheme():
    x, drift = eddies(), []
    start = energy_and_enstrophy(build(IDEAL), x)
    for time_step in (0.02, 0.01):
        solver = build(replace(IDEAL, time_step=time_step))
        drift.append((energy_and_enstrophy(solver, solver.step(x)) / start - 1.0).abs().max())
    # In space both are kept exactly; a fourth-order step loses O(h^5) of a quadratic invariant.
    assert drift[0] < 1e-5
    assert math.log2(drift[0] / drift[1]) > 3.9


def test_time_stepping_is_of_fourth_order():
    x, ends = eddies(), []
    for time_step in (0.02, 0.01, 0.00125):
        ends.append(build(replace(SPEC, time_step=time_step)).step(x))
    coarse, fine = ((end - ends[-1]).norm() for end in ends[:2])
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.2)  # relative order h is left


def test_a_taylor_green_vortex_decays_exactly():
    spec = replace(SPEC, forcing=0.0, reynolds=50.0)
    y, x = coordinates()
    vortex = torch.stack([torch.sin(3 * x) * torch.cos(3 * y), -torch.cos(3 * x) * torch.sin(3 * y)])[None]
    expected = math.exp(-0.2 * (spec.drag + 18 / spec.reynolds)) * vortex  # its advection is a gradient
    torch.testing.assert_close(build(spec).step(vortex), expected, rtol=0, atol=1e-13)


def test_the_laminar_shear_is_steady():
    solver, (y, _) = build(SPEC), coordinates()
    rate = SPEC.drag + SPEC.forced_wave**2 / SPEC.reynolds
    laminar = torch.stack([torch.sin(SPEC.forced_wave * y) / rate, torch.zeros_like(y)])[None]
    # The forcing is integrated by the Runge-Kutta method: its steady state is off by (rate h)^4, times the size.
    tolerance = (rate * SPEC.seconds_per_step) ** 4 / rate
    torch.testing.assert_close(solver.step(laminar), laminar, rtol=0, atol=tolerance)


def test_a_mean_flow_carries_the_field_along():
    spec = replace(IDEAL, time_step=0.005)
    cells = 4
    mean = torch.tensor([cells * 2 * math.pi / 32 / 0.2, 0.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    solver, x = build(spec), eddies()
    carried = solver.step(x + mean)
    # Fourth order in the time step at the speed of the mean flow, 3.9: (k U h)^4 at k = 8, over 40 steps.
    torch.testing.assert_close(carried, (solver.step(x) + mean).roll(cells, -1), rtol=0, atol=1e-4)


def test_the_gradient_part_of_a_state_is_taken_away():
    solver, x = build(SPEC), eddies(n_states=1)
    y, along = coordinates()
    gradient = torch.stack([torch.cos(along) * torch.sin(2 * y), 2 * torch.sin(along) * torch.cos(2 * y)])[None]
    torch.testing.assert_close(solver.step(x + gradient), solver.step(x), rtol=0, atol=1e-13)


def test_a_step_equals_a_solver_made_of_sums_over_triads():
    spec = KolmogorovSpec(size=16, time_step=0.01, step="3min", forced_wave=2, reynolds=20.0)
    x = eddies(spec, n_states=1)
    solver = build(spec)
    x = solver.run(x, 0)  # de-aliased as the solver's own states are
    ours = solver.vorticity(solver.step(x))[0].numpy()
    waves, theirs = reference(spec, solver.vorticity(x)[0].numpy(), n_steps=20)
    there = np.fft.fft2(ours) / ours.size
    # Two fourth-order methods with steps of 0.01 and 0.0025; their truncation errors are of order 1e-8.
    np.testing.assert_allclose([there[l, k] for k, l in waves], theirs, rtol=0, atol=1e-7)


def reference(spec, w, *, n_steps):
    """Vorticity coefficients after one model step: Galerkin sums over pairs of waves, no transforms, no factors."""
    top = (spec.size - 1) // 3
    waves = [(k, l) for k in range(-top, top + 1) for l in range(-top, top + 1) if (k, l) != (0, 0)]
    where = {wave: i for i, wave in enumerate(waves)}
    pairs = [(where[a], where[b], where[s]) for a in waves for b in waves if (s := (a[0] + b[0], a[1] + b[1])) in where]
    first, second, target = np.array(pairs).T
    k, l = np.array(waves, dtype=float).T
    # dw_s/dt = - sum over a + b = s of (u_a . i b) w_b, with u_a = (i l_a, -i k_a) w_a / |a|^2
    factor = (l[first] * k[second] - k[first] * l[second]) / (k[first] ** 2 + l[first] ** 2)
    force = np.zeros(len(waves), dtype=complex)
    force[where[0, spec.forced_wave]] = force[where[0, -spec.forced_wave]] = -0.5 * spec.forcing * spec.forced_wave
    rate = spec.drag + (k**2 + l**2) / spec.reynolds

    def tendency(state):
        products = factor * state[first] * state[second]
        sums = np.bincount(target, products.real) + 1j * np.bincount(target, products.imag)
        return sums + force - rate * state

    coefficients = np.fft.fft2(w) / w.size
    state = np.array([coefficients[l, k] for k, l in waves])
    h = spec.count()[1] / n_steps
    for _ in range(n_steps):
        k1 = tendency(state)
        k2 = tendency(state + h / 2 * k1)
        k3 = tendency(state + h / 2 * k2)
        k4 = tendency(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return waves, state


@pytest.mark.parametrize(("size", "reynolds"), [(32, 100.0), (64, 1000.0), (128, 2000.0), (512, 2000.0)])
def test_energy_and_enstrophy_change_as_their_budgets_say(size, reynolds):
    spec, h = replace(SPEC, size=size, reynolds=reynolds, time_step=1e-3), 1e-3
    solver, x = build(spec), eddies(spec, n_states=1)
    middle, after = solver.run(x, 1), solver.run(x, 2)
    change = (energy_and_enstrophy(solver, after) - energy_and_enstrophy(solver, x)) / (2 * h)
    w, force = solver.vorticity(middle), solver.forcing()[None]
    along = torch.fft.rfft2(w)
    slopes = torch.fft.irfft2(solver._wave[:, None] * along, s=w.shape[-2:]).transpose(0, 1)
    energy, enstrophy = energy_and_enstrophy(solver, middle)
    work = (middle * force).sum(dim=1).mean(dim=(-2, -1))
    torque = (w * solver.vorticity(force)).mean(dim=(-2, -1))
    expected = torch.stack(
        [
            work - 2 * spec.drag * energy - 2 * enstrophy / spec.reynolds,
            torque - 2 * spec.drag * enstrophy - mean_square(slopes) / spec.reynolds,
        ]
    )
    # Central differences: error h^2 / 6 times the third derivative, which is of order (k u)^3 = 500 of the enstrophy.
    torch.testing.assert_close(change, expected, rtol=0, atol=h**2 * 500)


def test_members_do_not_see_each_other():
    solver, x = build(SPEC), eddies()
    torch.testing.assert_close(solver.step(x)[1:2], solver.step(x[1:2]), rtol=0, atol=1e-12)


def test_the_system_meets_the_protocols():
    assert isinstance(build(SPEC), Dynamics)
    assert isinstance(SPEC, ClimateSpec)


def test_settings_that_cannot_be_right_are_refused():
    cases = ({"size": 33}, {"reynolds": 0.0}, {"drag": -0.1}, {"forced_wave": 22}, {"step": "5min"})
    for options in cases:
        with pytest.raises(ConfigError, match="kolmogorov"):
            KolmogorovSpec(**options)
    with pytest.raises(ConfigError, match="no years"):
        SPEC.spun_up(Noise(1), members=[0], years=1.0)


@pytest.mark.parametrize(
    ("size", "reynolds"), [(64, 1000.0), (128, 2000.0), pytest.param(512, 2000.0, marks=pytest.mark.slow)]
)
def test_a_model_step_at_its_own_time_step_has_converged(size, reynolds):
    """Of eddies that every grid resolves, half of the step changes next to nothing."""
    spec = KolmogorovSpec(size=size, reynolds=reynolds, step="6min")  # 0.1 time units
    x = eddies(spec, n_states=1)
    whole, half = (build(replace(spec, time_step=spec.seconds_per_step / n)).step(x) for n in (1, 2))
    assert float((whole - half).abs().max()) < 1e-4


def test_finer_grids_agree_with_coarse_ones_as_long_as_all_waves_are_resolved():
    ends = {}
    modes = torch.fft.rfft2(eddies(replace(SPEC, size=64), n_states=1))
    for size in (128, 256):
        fine = torch.zeros(1, 2, size, size // 2 + 1, dtype=modes.dtype)
        fine[..., :32, :32], fine[..., -32:, :32] = modes[..., :32, :32], modes[..., -32:, :32]
        x = torch.fft.irfft2(fine * (size / 64) ** 2, s=(size, size))
        spec = KolmogorovSpec(size=size, reynolds=2000.0, time_step=0.01, step="6min")
        ends[size] = build(spec).step(x)[..., :: size // 64, :: size // 64]
    torch.testing.assert_close(ends[256], ends[128], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_climate_balances_its_energy():
    spec = KolmogorovSpec()
    solver, x = spec.build(), spec.spun_up(Noise(8), members=range(8))
    force, rows, start = solver.forcing()[None], [], None
    for _ in range(100):
        x = solver.step(x)
        energy, enstrophy = energy_and_enstrophy(solver, x)
        start = energy if start is None else start
        rows.append([float((x * force).sum(dim=1).mean()), float(energy.mean()), float(enstrophy.mean())])
    work, mean_energy, mean_enstrophy = np.mean(rows, axis=0)
    drift = float((energy - start).mean()) / (99 * 0.2)
    # The means of 0.2 time units apart: a trapezoidal rule; the rest is exact.
    assert work - 2 * spec.drag * mean_energy - 2 * mean_enstrophy / spec.reynolds == pytest.approx(drift, abs=5e-3)
    # 8 members for 20 time units are some 30 independent states: about 3 % of sampling error.
    assert mean_energy == pytest.approx(1.0, rel=0.1) and mean_enstrophy == pytest.approx(11.0, rel=0.1)
