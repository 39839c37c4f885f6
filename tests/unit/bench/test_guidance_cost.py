"""Benchmark of the cost of guidance: passes are counted as the algorithms say, observations are of the truth."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.passes import Passes
from cycler_da.bench.turbulence import guidance_cost as bench
from cycler_da.bench.turbulence import guidance_cost_case as setting
from cycler_da.bench.turbulence import guidance_cost_whole as whole
from cycler_da.bench.turbulence.guidance_cost_draws import Draws
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.networks import build_network
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_blocks, wave_covariance


@pytest.fixture(scope="module")
def untrained():
    """Networks that say nothing yet, with all their passes counted."""
    mean, denoiser = build_network(setting.MEAN), NetworkDenoiser(build_network(setting.DENOISER))
    torch.nn.init.normal_(denoiser.network.leave.weight, std=0.01)
    passes = Passes()
    for module in (mean, denoiser):
        passes.watch(module)
        module.requires_grad_(False)
    white = torch.randn(50, 1, setting.SIZE, setting.SIZE, generator=torch.Generator().manual_seed(1))
    covariance = wave_covariance(wave_blocks(0.3 * white))
    return Transition(mean, setting.SCALING, covariance, denoiser=denoiser), passes


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(2)
    start, truth = torch.randn(2, 1, setting.SIZE, setting.SIZE, generator=generator)
    return setting.make_case(0, start, truth)


def test_observations_are_the_truth_within_their_error(case):
    departures = (case.observations.values - case.observations.hx(case.truth[None])[0]) / setting.ERROR / setting.STD
    assert len(departures) == 51
    assert float(departures.std()) == pytest.approx(1.0, abs=0.3)  # three sigma of 51 draws


@pytest.mark.parametrize("points", [1, 3])
def test_conjugate_guidance_passes_forward_once_a_point_and_never_back(untrained, case, points):
    transition, passes = untrained
    draws = bench.draw_all(transition, passes, [case], ({"kind": "conjugate"}, points))
    assert (draws.forward, draws.backward) == (1 + points, 0)


def test_flowdas_passes_twice_forward_and_twice_back_a_step(untrained, case):
    transition, passes = untrained
    draws = bench.draw_all(transition, passes, [case], ({"kind": "monte_carlo", "n_steps": 4, "step_size": 0.01}, 1))
    # Not back through the first drift: at s = 0 the endpoint's mean does not depend on the point.
    assert (draws.forward, draws.backward) == (1 + 2 * 4, 2 * 4 - 1)


@pytest.mark.parametrize("points", [1, 2])
def test_a_member_step_of_the_filter_counts_forecast_coupling_and_draw(untrained, case, points):
    spec = whole.InterpolantFilterSpec(localization_radius_cells=6.0, tau_points=points)
    # Mean and draw of the forecast, the mean where members were, mean and K draws where they have moved.
    assert _passes_of_a_step(untrained, case, spec) == (2 + 1 + 1 + points, 0)


def test_a_member_step_of_flowdas_counts_its_steps_beside_the_forecast(untrained, case):
    spec = whole.FlowdasSpec(coordinates="residual", n_steps=4, step_size=0.01)
    assert _passes_of_a_step(untrained, case, spec) == (2 + 1 + 2 * 4, 2 * 4 - 1)


def test_an_analysis_that_fails_has_no_scores_and_is_never_the_best(untrained, case):
    transition, passes = untrained
    starts = [case.start, *torch.randn(3, 1, setting.SIZE, setting.SIZE, generator=torch.Generator().manual_seed(3))]
    far = whole.FlowdasSpec(coordinates="residual", n_steps=4, step_size=1e30)
    draws = Draws()
    draws.add(lambda: whole.member_step(transition, case, starts, far), case.truth, passes)
    assert draws.crps == float("inf")


def _passes_of_a_step(untrained, case, spec):
    transition, passes = untrained
    starts = [case.start, *torch.randn(3, 1, setting.SIZE, setting.SIZE, generator=torch.Generator().manual_seed(3))]
    draws, passes.of_members = Draws(), True
    draws.add(lambda: whole.member_step(transition, case, starts, spec), case.truth, passes)
    passes.of_members = False
    return draws.forward, draws.backward


def test_the_truth_is_off_the_centre_of_the_members_as_they_are(case):
    others = torch.randn(3, 1, setting.SIZE, setting.SIZE, generator=torch.Generator().manual_seed(3))
    members = whole.members_about(case, [case.start, *others])
    assert members.shape == (whole.MEMBERS, 1, setting.SIZE, setting.SIZE)
    # With three others there are six differences: members less a centre, and the centre less the truth, are among them.
    differences = torch.stack([whole.OFF * (a - b) for a in others for b in others if a is not b])
    centres = case.start + differences
    left = (members - centres[:, None])[:, :, None] - differences
    nearest = left.abs().amax(dim=(3, 4, 5)).amin(dim=2).amax(dim=1)  # of every possible centre
    assert float(nearest.min()) < 1e-5
