"""Driven vorticity equation: invariants, exact solutions, the law of its noise, and the budget that bounds it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.nature import SimulatedNatureSpec
from cycler_da.noise import Noise
from cycler_da.systems.base import ClimateSpec, DrivenDynamics, noisy_step
from cycler_da.systems.stochastic_ns import FORCED_WAVES, StochasticNSSpec

SPEC = StochasticNSSpec(size=32)
IDEAL = replace(SPEC, viscosity=0.0, friction=0.0, forcing=0.0)


def smooth_states(n_states=3, size=32):
    """Random waves up to wave number 6, root mean square 2.3 as in the climate."""
    generator = torch.Generator().manual_seed(5)
    modes = torch.fft.rfft2(torch.randn(n_states, 1, size, size, generator=generator, dtype=torch.float64))
    k = torch.arange(size // 2 + 1)[None, :]
    l = (torch.fft.fftfreq(size) * size)[:, None]
    radius = torch.sqrt(k**2 + l**2)
    x = torch.fft.irfft2(modes * ((radius > 0) & (radius < 6.5)), s=(size, size))
    return 2.3 * x / x.square().mean().sqrt()


def build(spec):
    return spec.build(dtype=torch.float64)


def energy_and_enstrophy(solver, x):
    energy = 0.5 * solver.velocity(x).square().sum(dim=1).mean(dim=(-2, -1))
    return torch.stack([energy, 0.5 * x.square().mean(dim=(-3, -2, -1))])


def test_without_friction_viscosity_and_noise_energy_and_enstrophy_are_kept_to_the_order_of_the_scheme():
    x = smooth_states()
    start = energy_and_enstrophy(build(IDEAL), x)
    drift = []
    for time_step in (0.02, 0.01):
        solver = build(replace(IDEAL, time_step=time_step))
        drift.append((energy_and_enstrophy(solver, solver.step(x)) / start - 1.0).abs().max())
    # In space both are kept exactly; a fourth-order step loses O(h^5) of a quadratic invariant.
    assert drift[0] < 1e-5
    assert math.log2(drift[0] / drift[1]) > 3.9


def test_time_stepping_is_of_fourth_order():
    x, ends = smooth_states(), []
    for time_step in (0.02, 0.01, 0.00125):
        ends.append(build(replace(SPEC, time_step=time_step, forcing=0.0)).step(x))
    coarse, fine = ((end - ends[-1]).norm() for end in ends[:2])
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.2)  # relative order h is left


def test_a_plane_wave_decays_exactly():
    # J(psi, w) = 0 for one wave, so that friction and viscosity are all there is.
    solver = build(SPEC)
    y, x = torch.meshgrid(*(2 * math.pi / 32 * torch.arange(32, dtype=torch.float64),) * 2, indexing="ij")
    wave = torch.sin(3 * x - 4 * y)[None, None]
    after = solver.step(wave)
    torch.testing.assert_close(after, math.exp(-0.1 * (SPEC.friction + 25 * SPEC.viscosity)) * wave, rtol=0, atol=1e-13)


def test_the_kicks_of_a_step_have_the_covariance_of_the_noise():
    solver = build(replace(SPEC, forcing=0.7))
    units = torch.eye(math.prod(solver.noise_shape), dtype=torch.float64).reshape(-1, *solver.noise_shape)
    total = solver.kicks(units).sum(dim=1).flatten(1)  # increment of w for every standard normal number
    y, x = torch.meshgrid(*(2 * math.pi / 32 * torch.arange(32, dtype=torch.float64),) * 2, indexing="ij")
    patterns = [(torch.sin if sine else torch.cos)(k * x + l * y).flatten() for k, l, sine in FORCED_WAVES]
    expected = 0.7**2 * 0.1 * sum(torch.outer(pattern, pattern) for pattern in patterns)
    torch.testing.assert_close(total.T @ total, expected, rtol=0, atol=1e-13)


def test_a_single_driven_wave_is_an_ornstein_uhlenbeck_process():
    solver = build(SPEC)
    units = torch.zeros(solver.noise_shape[0], *solver.noise_shape, dtype=torch.float64)
    for kick in range(solver.noise_shape[0]):
        units[kick, kick, 0] = 1.0
    after = solver.driven_step(torch.zeros(len(units), 1, 32, 32, dtype=torch.float64), units)
    variance = 2.0 * after.square().mean(dim=(-2, -1)).sum()  # of the amplitude of sin(6 x)
    rate, length = SPEC.friction + 36 * SPEC.viscosity, 0.1
    exact = (1.0 - math.exp(-2.0 * rate * length)) / (2.0 * rate)
    # The kicks are a trapezoidal rule: relative error (2 rate h)^2 / 12.
    assert float(variance) == pytest.approx(exact, rel=(2 * rate * SPEC.time_step) ** 2 / 10)


def test_members_do_not_see_each_other():
    solver, x = build(SPEC), smooth_states()
    together = noisy_step(solver, x, Noise(3), members=(4, 7, 9), step=2)
    alone = noisy_step(solver, x[1:2], Noise(3), members=(7,), step=2)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-12)


def test_the_system_meets_the_protocols_of_noise_and_of_nature_runs():
    assert isinstance(build(SPEC), DrivenDynamics)
    assert isinstance(SPEC, ClimateSpec)
    nature = SimulatedNatureSpec(
        path="x.nc", seed=1, start="2020-01-01T00:00Z", steps=2, system={"kind": "stochastic_ns"}
    )
    assert len(nature.valid_times()) == 3


def test_settings_that_cannot_be_right_are_refused():
    for options in ({"size": 16}, {"size": 33}, {"friction": -0.1}, {"step": "5min"}):
        with pytest.raises(ConfigError, match="stochastic_ns"):
            StochasticNSSpec(**options)
    with pytest.raises(ConfigError, match="no years"):
        SPEC.spun_up(Noise(1), members=[0], years=1.0)


def test_the_bound_of_the_published_constants_is_below_the_published_root_mean_square():
    # FlowDAS divides by 3.068, the root mean square of its data; its printed constants allow 2.56 at most.
    assert StochasticNSSpec().stationary_bound() == pytest.approx(2.5596, abs=1e-4)
    assert StochasticNSSpec(viscosity=0.0).stationary_bound() == pytest.approx(1.0 / math.sqrt(0.1), rel=1e-12)


@pytest.mark.slow
def test_the_climate_is_stationary_below_its_bound():
    spec = StochasticNSSpec()
    solver, x, square = spec.build(), spec.spun_up(Noise(8), members=range(8)), []
    for step in range(200):
        x = noisy_step(solver, x, Noise(8, 1), members=range(8), step=step)
        square.append(float(x.square().mean()))
    first, second = (math.sqrt(sum(part) / 100) for part in (square[:100], square[100:]))
    # 8 members for 20 time units are some 30 independent states: about 2 % of sampling error.
    assert first == pytest.approx(2.28, rel=0.06) and second == pytest.approx(2.28, rel=0.06)
    assert max(first, second) < spec.stationary_bound()
