"""The benchmark of long steps: forecasts take the points of tau of their method, and one point is the old draw."""

from __future__ import annotations

import torch
from torch import nn

from cycler_da.bench.small_systems.double_well import SYSTEM
from cycler_da.bench.small_systems.double_well_long import GRIDS, LEARNED, N_STEPS, learned_method
from cycler_da.bench.small_systems.twin import LearnedTruth, TrueModel
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.localisation import tau_grid
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise


def transition(*, has_denoiser):
    network = build_network(NetworkSpec("mlp", {"size": 1, "width": 8, "depth": 1}))
    denoiser = NetworkDenoiser(build_network(NetworkSpec("residual_mlp", {"size": 1, "width": 8, "depth": 1})))
    nn.init.ones_(denoiser.network.tower[-1].bias)
    return DenseTransition(network, Scaling((0.0,), (1.0,)), denoiser=denoiser if has_denoiser else None)


def advanced(transition, points):
    layout = TrueModel(SYSTEM.build(), N_STEPS).layout
    model = LearnedTruth(transition, layout, tau_grid(points, GRIDS[points]))
    with torch.no_grad():
        return model.advance(torch.zeros(20, 1, 1, dtype=torch.float64), Noise(1))


def test_one_point_of_tau_is_the_gaussian_and_two_are_not():
    with_denoiser, without = transition(has_denoiser=True), transition(has_denoiser=False)
    assert torch.equal(advanced(with_denoiser, 1), advanced(without, 1))
    assert not torch.allclose(advanced(with_denoiser, 2), advanced(without, 2), atol=0.1)


def test_analyses_and_forecasts_of_a_method_take_the_same_points():
    for points, end in GRIDS.items():
        method = learned_method("interpolant filter", points, transition(has_denoiser=True))
        assert (method.spec.tau_points, method.spec.tau_max) == (points, end)
        assert method.taus == tau_grid(points, end)
    assert {learned_method(name, 1, transition(has_denoiser=True)).name for name in LEARNED} == set(LEARNED)
