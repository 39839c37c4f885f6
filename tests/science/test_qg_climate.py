"""The climate of two-layer QG turbulence: published statistics of the same equations at 64 x 64.

Means over years 4 to 12 of a pyqg-jax run at this resolution and time step: standard deviations of q1, q2
8.35e-6 and 1.08e-6 s-1, eddy kinetic energies 2.29e-3 and 6.3e-5 m2 s-2. Another start and a shorter mean
scatter by a few per cent.
"""

from __future__ import annotations

import pytest
import torch

from cycler_da.noise import Noise
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec, spin_up

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def equilibrium():
    solver = TwoLayerQGSpec(size=64).build()
    return solver, spin_up(solver, Noise(31), members=range(12), years=4.0)


def test_vorticity_has_the_published_standard_deviations(equilibrium):
    _, q = equilibrium
    std = q.double().std(dim=(0, 2, 3))
    assert float(std[0]) == pytest.approx(8.35e-6, rel=0.05)
    assert float(std[1]) == pytest.approx(1.08e-6, rel=0.05)


def test_eddies_have_the_published_kinetic_energy(equilibrium):
    solver, q = equilibrium
    u, v = solver.velocity(q)
    energy = 0.5 * (u.double() ** 2 + v.double() ** 2).mean(dim=(0, 2, 3))
    assert float(energy[0]) == pytest.approx(2.29e-3, rel=0.08)
    assert float(energy[1]) == pytest.approx(6.3e-5, rel=0.10)


def test_the_time_step_is_far_from_unstable(equilibrium):
    solver, q = equilibrium
    u, v = solver.velocity(q)
    cfl = float(torch.maximum(u.abs().max(), v.abs().max())) * solver.spec.seconds_per_step / 15625.0
    assert cfl < 0.2


def test_a_day_of_persistence_has_the_published_error(equilibrium):
    solver, q = equilibrium
    change = solver.step(q) - q
    relative = (change.double() ** 2).mean(dim=(0, 2, 3)).sqrt() / q.double().std(dim=(0, 2, 3))
    # Both layers together: .063 to .075 of a standard deviation after one day at this resolution.
    assert 0.055 < float((relative**2).mean().sqrt()) < 0.085
