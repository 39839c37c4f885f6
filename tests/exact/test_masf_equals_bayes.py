"""MASF on Gaussian priors: the bridge is Bayes, the published sampler is what its closed form says.

With an exact denoiser a sampler is an affine map of its noise, so moments are computed without sampling
(`bench/masf_exact.py`). Reference for the guided sampler: closed forms of the module docstring of `mask_bridge`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.bench.masf_exact import bridge_moments, field, guided_moments, scalar
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError, WeightsMismatch
from cycler_da.generative.bridge_denoiser import NetworkDenoiser, bound_denoiser, ensemble_denoiser
from cycler_da.generative.bridge_training import fine_tuned
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.covariance import WhiteCovariance, blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import MaskBridge, Multiplier, bridge_signals, cosine_signal, sample_bridge
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.block_mean import BlockMeanSpec
from cycler_da.obs.nonlinear import ArctanSpec
from cycler_da.obs.points import CellSpec, PointsSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.masf import MasfSpec
from cycler_da.systems.lorenz63 import Lorenz63Spec

ONE = torch.ones(1, dtype=torch.float64)
STEP, TIME = np.timedelta64(3600, "s"), np.array(["2020-01-01T12:00:00"], "datetime64[s]")
LAYOUT = Layout(
    "toy",
    (Variable("u", "1", "first"), Variable("v", "1", "second")),
    Grid(tuple(Axis(name, 8, periodic=True) for name in ("y", "x"))),
    STEP,
)


@pytest.mark.parametrize(("prior", "error"), [(1.0, 1.0), (1.0, 0.25), (1.0, 0.01), (0.25, 1.0)])
def test_the_bridge_of_one_value_is_bayes(prior, error):
    mean, variance = bridge_moments(scalar(prior, error), 30, ONE)
    assert float(mean) == pytest.approx(prior / (prior + error), rel=1e-12)
    # The variance that is left at the last signal before 1, 30 times the error's deviation there, is lost.
    assert float(variance) == pytest.approx(prior * error / (prior + error), rel=1.2e-3)


@pytest.mark.parametrize(("prior", "error"), [(1.0, 1.0), (1.0, 0.25), (1.0, 0.01), (0.25, 1.0)])
def test_the_guided_sampler_counts_the_observation_twice(prior, error):
    mean, variance = guided_moments(scalar(prior, error), 500, ONE, prior=Multiplier(), guidance=Multiplier())
    total, part = prior + error, prior / error
    logarithm = math.log(total / prior)
    assert float(mean) == pytest.approx(part * logarithm, rel=0.01)  # T < 1, and the guard
    expected = part**2 * (total * error / prior + error - 2 * total * logarithm)
    assert float(variance) == pytest.approx(expected, rel=0.015)
    assert float(variance) < 0.63 * prior * error / total


def test_the_bridge_of_a_field_converges_to_bayes_with_the_size_of_its_steps():
    problem = field(0.1, 1.0)
    z = torch.zeros(64, dtype=torch.float64)
    z[0] = 1.0
    gain, exact = problem.posterior()
    errors = []
    for n_steps in (15, 30, 60):
        mean, covariance = bridge_moments(problem, n_steps, z)
        # The mean is exact whatever the steps: every step keeps E[x_0 | z].
        torch.testing.assert_close(mean, gain[:, 0], rtol=0, atol=1e-9)
        errors.append(float((covariance - exact).norm() / exact.norm()))
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.2)  # first order in the noise of the steps
    assert errors[2] < 0.05


def test_a_transition_of_the_forward_process_takes_its_marginals_to_each_other():
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    bridge = MaskBridge(mask, torch.full_like(mask, 0.04))
    clean, late, early = torch.tensor([[1.3, -0.7]], dtype=torch.float64), 0.3, 0.8
    ratio = bridge.factor(late) / bridge.factor(early)
    torch.testing.assert_close(ratio * bridge.factor(early) * clean, bridge.factor(late) * clean)
    added = bridge.variance(late) - ratio**2 * bridge.variance(early)
    assert bool((added > 0).all())
    assert cosine_signal(0.0) == 1.0 and cosine_signal(0.992) == pytest.approx(0.0125, abs=1e-4)


def test_signals_ascend_from_nothing_to_the_state():
    for noise_std in (0.1, 1.0):
        signals = bridge_signals(40, noise_std=noise_std)
        assert len(signals) == 41 and signals[0] == 0.0 and signals[-1] == 1.0
        assert all(np.diff(signals) > 0)


def test_the_ensemble_denoiser_is_the_gaussian_of_the_members():
    members = Noise(1).normal("x", (2, 3), members=range(6), dtype=torch.float64)
    mask = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    bridge, a = MaskBridge(mask, torch.full_like(mask, 0.3)), 0.6
    x = Noise(2).normal("x", (2, 3), members=range(4), dtype=torch.float64)
    flat = members.flatten(1)
    covariance, mean = torch.cov(flat.mT), flat.mean(dim=0)
    factor, variance = bridge.factor(a).flatten(), bridge.variance(a).flatten()
    gain = (covariance * factor) @ torch.linalg.inv(factor[:, None] * covariance * factor + torch.diag(variance))
    expected = mean + (x.flatten(1) - factor * mean) @ gain.mT
    torch.testing.assert_close(ensemble_denoiser(bridge, members)(x, a).flatten(1), expected, rtol=0, atol=1e-12)


def observe(places, *, operator=None, error=0.5, value=1.0) -> Observations:
    n = len(places)
    batch = ObsBatch(
        stream="toy",
        operator=operator or CellSpec().build(LAYOUT),
        where=Locations(
            torch.tensor([place[1:] for place in places], dtype=torch.float64),
            torch.tensor([place[0] for place in places]),
        ),
        values=torch.full((n,), value, dtype=torch.float64),
        error=torch.full((n,), error, dtype=torch.float64),
        times=np.repeat(TIME, n),
        ids=np.array([f"o{i}" for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


def background(n_members=400) -> Prior:
    """Members with correlated cells."""
    z = Noise(3).normal("members", LAYOUT.state_shape, members=range(n_members), dtype=torch.float64)
    x = z + z.roll(1, -1) + z.roll(1, -2)
    return Prior(Ensemble(x[:, None], TIME, tuple(range(n_members)), LAYOUT))


def test_without_weights_the_scheme_is_the_kalman_analysis_of_the_members():
    prior, seen = background(), observe([(0, 1, 2), (1, 4, 4), (0, 1, 2)])
    analysis = MasfSpec(steps=30).build(SchemeContext(LAYOUT)).analyse(prior, seen, noise=Noise(4), carry={})
    x = prior.background.latest
    covariance, h = torch.cov(x.flatten(1).mT), seen.adjoint(torch.eye(3, dtype=torch.float64)).flatten(1)
    system = h @ covariance @ h.mT + 0.25 * torch.eye(3, dtype=torch.float64)
    gain = torch.linalg.solve(system, h @ covariance).mT
    mean = x.mean(dim=0).flatten()
    expected = mean + gain @ (seen.values - h @ mean)
    drawn = analysis.ensemble.latest.flatten(1)
    # 400 draws of posterior deviation 1.8 at most: four standard errors.
    assert (drawn.mean(dim=0) - expected).abs().max() < 4 * 1.8 / 20
    observed = drawn[:, [10, 64 + 36]]
    exact = (covariance - gain @ h @ covariance).diagonal()[[10, 64 + 36]]
    assert torch.allclose(observed.var(dim=0), exact, rtol=4 * (2 / 399) ** 0.5)


def test_few_variables_on_one_axis_are_scaled_each_by_its_own_unit():
    layout = Lorenz63Spec().layout()
    z = Noise(3).normal("members", (3, 1), members=range(400), dtype=torch.float64)
    x = torch.tensor([1.0, 20.0, 300.0], dtype=torch.float64).reshape(3, 1) * (z + z.roll(1, 1))
    prior = Prior(Ensemble(x[:, None], TIME, tuple(range(400)), layout))
    seen = replace(observe([(1, 0, 0)], error=10.0, value=25.0), layout=layout)
    seen = replace(seen, batches=(replace(seen.batches[0], where=Locations(torch.zeros(1, 1), torch.ones(1).long())),))
    scheme = MasfSpec(steps=30, scale=(1.0, 20.0, 300.0)).build(SchemeContext(layout))
    drawn = scheme.analyse(prior, seen, noise=Noise(4), carry={}).ensemble.latest.flatten(1)
    covariance, mean = torch.cov(x.flatten(1).mT), x.flatten(1).mean(dim=0)
    gain = covariance[1] / (covariance[1, 1] + 100.0)
    exact = covariance - torch.outer(gain, covariance[1])
    expected = mean + gain * (25.0 - mean[1])
    assert ((drawn.mean(dim=0) - expected).abs() < 4 * exact.diagonal().sqrt() / 20).all()  # four standard errors
    assert torch.allclose(drawn.var(dim=0), exact.diagonal(), rtol=4 * (2 / 399) ** 0.5)


def test_two_observations_of_a_cell_are_their_mean():
    prior = background(6)
    scheme = MasfSpec(steps=5).build(SchemeContext(LAYOUT))
    twice = scheme.analyse(prior, observe([(0, 1, 2)] * 2, error=0.5), noise=Noise(4), carry={})
    once = scheme.analyse(prior, observe([(0, 1, 2)], error=0.5 / 2**0.5), noise=Noise(4), carry={})
    torch.testing.assert_close(twice.ensemble.latest, once.ensemble.latest, rtol=0, atol=1e-12)


def network_denoiser(seed=0) -> NetworkDenoiser:
    arguments = {"fields": 2, "channels": [8], "patch": 2, "padding": "periodic"}
    return NetworkDenoiser(build_network(NetworkSpec("bridge_unet", arguments), seed=seed))


def grid_mask():
    mask = torch.zeros(2, 8, 8, dtype=torch.float64)
    mask[:, ::4, ::4] = 1.0
    return mask


def test_an_untrained_network_is_the_denoiser_of_independent_cells():
    mask, prior = grid_mask(), 0.7
    bridge = MaskBridge(mask, torch.full_like(mask, 0.04))
    seen = cell_interpolation(WhiteCovariance(prior), mask, noise_std=0.2)
    x = Noise(5).normal("x", (2, 8, 8), members=range(3), dtype=torch.float64)
    for a in (0.0, 0.1, 0.9):
        factor, variance = bridge.factor(a), bridge.variance(a)
        expected = prior * factor * x / (prior * factor**2 + variance)
        # The network's arithmetic is in single precision.
        torch.testing.assert_close(bound_denoiser(network_denoiser(), seen)(x, a), expected, rtol=0, atol=1e-5)


def test_at_its_end_an_untrained_network_is_optimal_interpolation():
    mask, n = grid_mask(), 128
    states = Noise(6).normal("x", (2, 8, 8), members=range(50), dtype=torch.float64)
    covariance = spectral_from_blocks(blocks_from_residuals(states + states.roll(1, -1)))
    seen = cell_interpolation(covariance, mask, noise_std=0.3)
    c = covariance.apply(torch.eye(n, dtype=torch.float64).view(n, 2, 8, 8)).flatten(1)
    h = torch.eye(n, dtype=torch.float64)[mask.flatten() > 0]
    gain = c @ h.mT @ torch.linalg.inv(h @ c @ h.mT + 0.09 * torch.eye(len(h), dtype=torch.float64))
    x = Noise(7).normal("x", (2, 8, 8), members=range(3), dtype=torch.float64)
    expected = (x.flatten(1) @ h.mT @ gain.mT).view(x.shape)
    torch.testing.assert_close(bound_denoiser(network_denoiser(), seen)(x, 0.0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.variance.flatten(), (c - gain @ h @ c).diagonal(), rtol=0, atol=1e-12)


def test_fine_tuning_learns_the_members_and_leaves_the_network_as_it_was():
    model, seen = network_denoiser(), cell_interpolation(WhiteCovariance(1.0), grid_mask(), noise_std=0.2)
    members = torch.ones(4, 2, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned, again = (fine_tuned(model, seen, members, steps=40, learning_rate=1e-2, seed=3) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in tuned.state_dict().items())
    blind = 0.2 * torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    errors = [float((bound_denoiser(one, seen)(blind, 0.0) - 1.0).square().mean()) for one in (model, tuned)]
    assert errors[1] < 0.5 * errors[0]


def test_members_of_the_bridge_differ_by_their_own_noise():
    mask = torch.zeros(1, 2, dtype=torch.float64)
    bridge = MaskBridge(mask, torch.full_like(mask, 0.01))
    members = Noise(1).normal("x", (1, 2), members=range(5), dtype=torch.float64)
    arguments = (bridge, ensemble_denoiser(bridge, members), torch.zeros_like(mask), (0.0, 0.3, 1.0))
    drawn = [
        sample_bridge(*arguments, left=torch.ones_like(mask).mul, noise=MemberNoise(Noise(2), ids, "masf"))
        for ids in ((3, 7), (7,))
    ]
    torch.testing.assert_close(drawn[0][1:], drawn[1], rtol=0, atol=1e-12)
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_what_is_no_mask_is_refused_with_the_way_out():
    scheme = MasfSpec().build(SchemeContext(LAYOUT))
    between = observe([(0, 1, 2), (0, 1.5, 2)], operator=PointsSpec().build(LAYOUT))
    with pytest.raises(AnalysisFailed, match=r"observation o1 is not the value of one cell.*operator cell"):
        scheme.analyse(background(4), between, noise=Noise(1), carry={})
    curved = observe([(0, 1, 2)], operator=ArctanSpec().build(LAYOUT))
    with pytest.raises(AnalysisFailed, match=r"operator arctan is not linear.*letkf"):
        scheme.analyse(background(4), curved, noise=Noise(1), carry={})


def test_operators_that_are_no_masks_are_refused_when_the_scheme_is_built():
    MasfSpec().build(SchemeContext(LAYOUT, operators=(CellSpec().build(LAYOUT), PointsSpec().build(LAYOUT))))
    for spec in (ArctanSpec(), BlockMeanSpec(factor=4)):
        with pytest.raises(ConfigError, match="does not read single cells"):
            MasfSpec().build(SchemeContext(LAYOUT, operators=(spec.build(LAYOUT),)))


def test_options_that_cannot_be_right_are_refused():
    for options in ({"sampler": "exact"}, {"multipliers": "tuned"}, {"steps": 0}, {"scale": ()}):
        with pytest.raises(ConfigError, match="scheme masf"):
            MasfSpec(**options)
    with pytest.raises(ConfigError, match=r"weights is None.*fine_tune"):
        MasfSpec(fine_tune=FineTuneSpec())
    with pytest.raises(ConfigError, match="one for each of u, v"):
        MasfSpec(scale=(1.0, 1.0, 1.0)).build(SchemeContext(LAYOUT))


def test_weights_of_a_forecast_model_are_refused():
    folder = "data/weights/lorenz96/step"
    with pytest.raises(WeightsMismatch, match=r"masf needs a denoiser.*masked_climate"):
        MasfSpec(weights=folder).build(SchemeContext(LAYOUT))
