"""Benchmark of the cost of guidance: passes are counted as the algorithms say, observations are of the truth."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.turbulence import guidance_cost as bench
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.networks import build_network
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_blocks, wave_covariance


@pytest.fixture(scope="module")
def untrained():
    """Networks that say nothing yet, with all their passes counted."""
    mean, denoiser = build_network(bench.MEAN), NetworkDenoiser(build_network(bench.DENOISER))
    torch.nn.init.normal_(denoiser.network.leave.weight, std=0.01)
    passes = bench.Passes()
    for module in (mean, denoiser):
        passes.watch(module)
        module.requires_grad_(False)
    white = torch.randn(50, 1, bench.SIZE, bench.SIZE, generator=torch.Generator().manual_seed(1))
    covariance = wave_covariance(wave_blocks(0.3 * white))
    return Transition(mean, bench.SCALING, covariance, denoiser=denoiser), passes


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(2)
    start, truth = torch.randn(2, 1, bench.SIZE, bench.SIZE, generator=generator)
    return bench.make_case(0, start, truth)


def test_observations_are_the_truth_within_their_error(case):
    departures = (case.observations.values - case.observations.hx(case.truth[None])[0]) / bench.ERROR / bench.STD
    assert len(departures) == 51
    assert float(departures.std()) == pytest.approx(1.0, abs=0.3)  # three sigma of 51 draws


@pytest.mark.parametrize("points", [1, 3])
def test_conjugate_guidance_passes_forward_once_a_point_and_never_back(untrained, case, points):
    transition, passes = untrained
    draws = bench.draw_all(transition, passes, [case], ({"kind": "conjugate"}, points))
    assert (draws.passes.forward, draws.passes.backward) == (1 + points, 0)


def test_flowdas_passes_twice_forward_and_twice_back_a_step(untrained, case):
    transition, passes = untrained
    draws = bench.draw_all(transition, passes, [case], ({"kind": "monte_carlo", "n_steps": 4, "step_size": 0.01}, 1))
    # Not back through the first drift: at s = 0 the endpoint's mean does not depend on the point.
    assert (draws.passes.forward, draws.passes.backward) == (1 + 2 * 4, 2 * 4 - 1)
