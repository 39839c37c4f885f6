"""The benchmark after MASF's protocol: what is observed, and how a run is scored."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.turbulence.kolmogorov_masf import ERROR, MEMBERS, SYSTEM, Case, cycle, observe, share
from cycler_da.noise import Noise
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.masf import MasfSpec


def make_case() -> Case:
    """Two analyses of fields that are not spun up."""
    solver = SYSTEM.build()
    states = [solver.random_eddies(Noise(1), members=[0])]
    for _ in range(10):
        states.append(solver.step(states[-1]))
    return Case(torch.cat(states), solver.random_eddies(Noise(2), members=range(MEMBERS)), seed=5)


def test_the_grid_holds_the_share_that_is_named():
    seen = observe(make_case(), 0, 10)
    assert len(seen) == 2 * 49
    assert share(10) == pytest.approx(100 * 49 / 64**2)


def test_observations_are_the_truth_with_the_error_named():
    case = make_case()
    departures = observe(case, 0, 5).values - observe(case, 0, 5).hx(case.truth[:1])[0]
    assert float(departures.std()) == pytest.approx(ERROR, rel=4 * (2 * 2 * 169) ** -0.5)


def test_an_analysis_is_scored_at_its_own_step_and_the_forecast_after_it():
    case = make_case()
    free, masf = (cycle(case, spec, 5) for spec in (FreeRunSpec(), MasfSpec(steps=10)))
    assert len(free.scores) == len(masf.scores) == 11
    assert masf.scores[0]["rmse"] < free.scores[0]["rmse"]
    first = case.members.mean(dim=0) - case.truth[0]
    assert free.scores[0]["rmse"] == pytest.approx(float(first.square().mean().sqrt()), rel=1e-6)
