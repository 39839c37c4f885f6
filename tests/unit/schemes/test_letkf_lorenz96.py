"""The LETKF cycled on Lorenz-96 against published errors.

Set-up of Sakov and Oke (2008), Tellus 60A: 40 variables, F = 8, fourth-order Runge-Kutta with step 0.05,
every variable observed at every step with unit error variance. Benchmarks of this set-up (DAPPER 1.7.1,
Raanes et al. 2024, JOSS 9): LETKF with 10 members, inflation 1.02 and Gaspari-Cohn half-width
1.82 x 4 grid points has an analysis error of 0.205 over 3000 cycles; the climatological error is 3.6.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.letkf import LetkfSpec

N = 40
TIME = np.array(["2020-01-01T00:00:00"], dtype="datetime64[s]")


def tendency(x):
    return (x.roll(-1, -1) - x.roll(2, -1)) * x.roll(1, -1) - x + 8.0


def step(x, dt=0.05):
    k1 = tendency(x)
    k2 = tendency(x + dt / 2 * k1)
    k3 = tendency(x + dt / 2 * k2)
    k4 = tendency(x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@pytest.fixture
def cycle_letkf(make_layout, make_observations):
    """Cycle the LETKF; gives analysis error and spread, time means of spatial RMS after burn-in."""
    layout = make_layout((N,), units="1")

    def run(n_cycles, *, burn_in, n_members=10, inflation=1.02, seed=0) -> tuple[float, float]:
        scheme = LetkfSpec(localization_radius_cells=1.82 * 4, inflation=inflation).build(SchemeContext(layout))
        generator = torch.Generator().manual_seed(seed)
        truth = torch.full((N,), 8.0, dtype=torch.float64)
        truth[0] += 0.01
        for _ in range(1000):
            truth = step(truth)
        members = truth + torch.randn((n_members, 1, N), generator=generator, dtype=torch.float64)
        errors, spreads = [], []
        for i_cycle in range(n_cycles):
            truth, members = step(truth), step(members)
            y = truth + torch.randn(N, generator=generator, dtype=torch.float64)
            background = Ensemble(members[:, None], TIME, tuple(range(n_members)), layout)
            observations = make_observations(layout, np.arange(N), y)
            analysis = scheme.analyse(Prior(background), observations, noise=Noise(seed), carry={})
            members = analysis.ensemble.latest
            if i_cycle >= burn_in:
                errors.append((members.mean(0)[0] - truth).square().mean().sqrt().item())
                spreads.append(members.var(0).mean().sqrt().item())
        return float(np.mean(errors)), float(np.mean(spreads))

    return run


def test_letkf_holds_lorenz96_at_the_published_error(cycle_letkf):
    error, spread = cycle_letkf(400, burn_in=150)
    # 250 cycles scatter from 0.189 to 0.211 over 6 seeds; observations alone have an error of 1.
    assert 0.17 < error < 0.23
    assert 0.8 < spread / error < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_letkf_reaches_the_published_error_over_a_long_run(cycle_letkf, seed):
    # Three seeds gave 0.2014, 0.2025 and 0.1996.
    error, _ = cycle_letkf(4000, burn_in=400, seed=seed)
    assert 0.19 < error < 0.215
