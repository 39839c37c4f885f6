"""Rings side by side: analysed together they are what each is alone, and noise belongs to the ring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.bench.small_systems.rings import START, RingModel, RingTransition, make_ring_twin
from cycler_da.ensemble import Ensemble
from cycler_da.errors import WeightsMismatch
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.localisation import MemberNoise, localise
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec


@pytest.fixture
def twin():
    model = RingModel(Lorenz96Spec(process_noise=0.5).build(), n_steps=2)
    first = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return make_ring_twin(model, first, n_cycles=2, stride=2, error=1.0, seed=5)


@pytest.fixture
def transition():
    network = build_network(NetworkSpec("quadratic_ring", {"size": 40}), seed=1)
    network.base_root.mul_(0.2)
    return DenseTransition(network.eval(), Scaling((2.0,), (3.0,)))


def _letkf(twin, members):
    time = START + twin.layout.step
    scheme = LetkfSpec(localization_radius_km=0.005, inflation=1.1).build(SchemeContext(twin.layout))
    background = Ensemble(members[:, None], np.array([time]), tuple(range(len(members))), twin.layout)
    return scheme.analyse(Prior(background), twin.observations(1), noise=Noise(0), carry={}).ensemble.latest


def test_a_localized_scheme_gives_each_ring_what_it_gives_the_ring_alone(twin):
    together = _letkf(twin, twin.first_members(8, 1.0))
    for ring in range(3):
        only = twin.select([ring])
        torch.testing.assert_close(_letkf(only, only.first_members(8, 1.0)), together[:, :, ring : ring + 1])


def test_a_ring_taken_twice_has_the_same_truth_observations_and_members(twin):
    twice = twin.select([2, 0, 2])
    assert torch.equal(twice.truth[:, 0], twice.truth[:, 2])
    assert torch.equal(twice.values[:, 0], twin.values[:, 2])
    members = twice.first_members(4, 1.0)
    assert torch.equal(members[:, :, 0], members[:, :, 2])
    assert torch.equal(members[:, :, 1], twin.first_members(4, 1.0)[:, :, 0])


def test_guidance_of_all_rings_is_the_kalman_update_of_each(twin, transition):
    members = twin.first_members(4, 1.0)
    model = RingTransition(transition)
    prediction, seen = model.predict(members[:, None]), twin.observations(1)
    noise = MemberNoise(Noise(3), range(4), "guided")
    drawn = prediction.to_state(
        localise(prediction.guided(seen, noise), (0.0,), like=prediction.blank(torch.float64), noise=noise)
    )
    z = noise.normal("endpoint", prediction.shape[1:], step=0)
    eta = noise.normal("obs", (len(seen),), step=0).view(4, 3, 20)
    h = torch.eye(40, dtype=torch.float64)[::2]
    root = prediction.inner.root.view(4, 3, 40, 40)
    for member in range(4):
        for ring in range(3):
            cov = root[member, ring] @ root[member, ring].T
            prior = prediction.mean[member, 0, ring] + root[member, ring] @ z[member, 0, ring]
            gain = cov @ h.T @ torch.linalg.inv(h @ cov @ h.T + torch.eye(20, dtype=torch.float64))
            expected = prior + gain @ (twin.values[0, ring] + eta[member, ring] - h @ prior)
            # Conjugate gradients stop at a relative residual of 1e-10.
            torch.testing.assert_close(drawn[member, 0, ring], expected, rtol=0, atol=1e-8)


def test_the_interpolant_filter_counts_a_forecast_a_prediction_and_a_draw(twin, transition):
    counted = RingTransition(transition)
    model = InterpolantForecast(twin.layout, counted, (0.0,), "rings")
    scheme = InterpolantFilterSpec(localization_radius_km=0.005).build(SchemeContext(twin.layout, model))
    time, ids = START + twin.layout.step, tuple(range(6))
    previous = Ensemble(twin.first_members(6, 1.0)[:, None], np.array([START]), ids, twin.layout)
    background = model.forecast(previous, np.array([time]), noise=Noise(1))
    scheme.analyse(Prior(background, previous, model), twin.observations(1), noise=Noise(1), carry={})
    assert counted.n_passes == 3 * 6


def test_a_transition_with_a_denoiser_is_refused(transition):
    denoiser = NetworkDenoiser(torch.nn.Identity())
    with pytest.raises(WeightsMismatch, match="has a denoiser"):
        RingTransition(replace(transition, denoiser=denoiser))
