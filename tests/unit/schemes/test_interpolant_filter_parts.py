"""Couplings, guidances and tempering of the interpolant filter on a transition of three numbers with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.cycle.stages.assimilate import collapse_alerts
from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.resampling import effective_share, tempering_exponent
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec, PointOperator, cell_stencil
from cycler_da.registry import registered
from cycler_da.schemes.auxiliary_particle import AuxiliaryParticleSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.ensemble.adaptive_inflation import (
    AdaptiveInflationSpec,
    Innovations,
    read_inflation,
    update_inflation,
)
from cycler_da.schemes.ensemble.inflation import inflate
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.optimal_particle import OptimalParticleSpec
from cycler_da.schemes.transition.coupling import Coupling
from cycler_da.schemes.transition.predictive import predict_observations

LAYOUT = Layout("toy", (Variable("a", "1", "toy"),), Grid((Axis("x", 3, units="1"),)), np.timedelta64(3600, "s"))
TIME = np.datetime64("2020-01-01T01:00:00", "s")
FORWARD = torch.tensor([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.0, -0.2, 0.8]], dtype=torch.float64)
NOISE = torch.tensor([[0.2, 0.05, 0.1], [0.05, 0.2, 0.0], [0.1, 0.0, 0.15]], dtype=torch.float64)
SEEN, ERROR = [0, 2], 0.5
MODEL = InterpolantForecast(LAYOUT, GaussianTransition(lambda x: x @ FORWARD.T, NOISE), (0.0,), "toy")


class Bent:
    """h(x) = x + bend x^3 of a cell; with no bend a linear map that does not say so."""

    name, is_linear = "bent", False

    def __init__(self, bend: float) -> None:
        self.bend = bend

    def __call__(self, x, where, layout):
        seen = PointOperator("cell", cell_stencil)(x, where, layout)
        return seen + self.bend * seen**3

    def adjoint(self, v, where, layout):
        raise AssertionError("a nonlinear operator has no transpose")


def observations(values, operator=None) -> Observations:
    batch = ObsBatch(
        stream="toy",
        operator=operator or CellSpec().build(LAYOUT),
        where=Locations(torch.tensor(SEEN, dtype=torch.float64)[:, None], torch.zeros(2, dtype=torch.int64)),
        values=torch.tensor(values, dtype=torch.float64),
        error=torch.full((2,), ERROR, dtype=torch.float64),
        times=np.full(2, TIME),
        ids=np.array(["first", "last"]),
        flags=torch.zeros(2, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


def start(n_members: int) -> Ensemble:
    values = Noise(11).shared_normal("start", (n_members, 1, 1, 3), dtype=torch.float64)
    return Ensemble(values, np.array([TIME - LAYOUT.step]), tuple(range(n_members)), LAYOUT)


def analyse(spec, seen: Observations, previous: Ensemble):
    noise = Noise.of_cycle(3, TIME)
    background = MODEL.forecast(previous, np.array([TIME]), noise=noise)
    scheme = spec.build(SchemeContext(LAYOUT, MODEL))
    return scheme.analyse(Prior(background, previous, MODEL), seen, noise=noise, carry={})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"coupling": "perturbed_observations", "gamma": 0.25},
        {"coupling": "none"},
        {"guidance": {"kind": "gauss_newton", "iterations": 3}},
    ],
)
def test_a_map_that_happens_to_be_linear_gives_the_analysis_of_the_linear_operator(options):
    spec, previous = InterpolantFilterSpec(**options), start(12)
    linear = analyse(spec, observations([0.7, -1.1]), previous)
    through_slopes = analyse(spec, observations([0.7, -1.1], Bent(0.0)), previous)
    # The same algebra in another order of operations.
    assert torch.allclose(through_slopes.ensemble.values, linear.ensemble.values, rtol=0, atol=1e-12)
    assert through_slopes.diagnostics["log_evidence"] == pytest.approx(linear.diagnostics["log_evidence"], abs=1e-12)


def test_regression_leaves_linear_observations_alone_in_every_pass():
    seen, previous = observations([0.7, -1.1]), start(12)
    as_members = analyse(InterpolantFilterSpec(passes=2), seen, previous).ensemble.values
    by_regression = analyse(InterpolantFilterSpec(passes=2, linearisation="regression"), seen, previous).ensemble.values
    assert torch.allclose(by_regression, as_members, rtol=0, atol=1e-13)


def test_a_cubic_observation_is_used_and_a_flat_place_of_it_hardly():
    previous, spec = start(400), InterpolantFilterSpec(inflation=1.0, guidance={"kind": "conjugate", "iterations": 3})
    truth = 1.4
    bent = analyse(spec, observations([truth + truth**3, 0.0], Bent(1.0)), previous).ensemble.latest[:, 0, 0]
    straight = analyse(spec, observations([truth, 0.0]), previous).ensemble.latest[:, 0, 0]
    assert abs(float(bent.mean()) - truth) < 0.1  # the error of 0.5 is 0.07 in x where the slope is 6.9
    assert float(bent.std()) < 0.5 * float(straight.std())


def test_without_coupling_members_are_what_guidance_alone_makes_of_them():
    previous, seen = start(6), observations([0.7, -1.1])
    spec = InterpolantFilterSpec(coupling="none")
    alone = spec.build(SchemeContext(LAYOUT, MODEL))
    noise = MemberNoise(Noise.of_cycle(3, TIME), previous.members, "forecast.1")
    expected = alone.sample(MODEL, previous.values, seen, noise)
    assert torch.equal(analyse(spec, seen, previous).ensemble.latest, expected)


def test_evidence_is_that_of_the_kalman_filter():
    seen, n = observations([0.9, -0.4]), 4000
    previous = start(n)
    diagnostics = analyse(InterpolantFilterSpec(coupling="none"), seen, previous).diagnostics
    h = torch.eye(3, dtype=torch.float64)[SEEN]
    spread = h @ (FORWARD @ FORWARD.T + NOISE) @ h.T + ERROR**2 * torch.eye(2, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), spread).log_prob(seen.values)
    # Relative scatter of the weights is about 1: 3 / sqrt(4000) = 0.05.
    assert diagnostics["log_evidence"] == pytest.approx(float(expected), abs=0.05)


def test_the_share_given_to_the_coupling_grows_until_the_weights_are_even_enough():
    previous, surprising = start(200), observations([6.0, -5.0])
    fixed = analyse(InterpolantFilterSpec(gamma=0.1), surprising, previous).diagnostics
    adaptive = analyse(InterpolantFilterSpec(gamma=0.1, least_share=0.5), surprising, previous).diagnostics
    assert fixed["gamma"] == 0.1
    predictive = predict_observations(MODEL.transition.predict(previous.values), surprising)
    weights = predictive.log_density(surprising.values, surprising.error_variance)
    assert effective_share((1.0 - 0.1) * weights) < 0.5
    # The exponent that is left is where the share of the members that have not moved is 0.5.
    assert effective_share((1.0 - adaptive["gamma"]) * weights) == pytest.approx(0.5, abs=1e-6)
    assert adaptive["effective_share"] > fixed["effective_share"]


def test_gamma_stays_where_the_weights_are_even():
    spec = InterpolantFilterSpec(gamma=0.25, least_share=0.1)
    assert analyse(spec, observations([0.0, 0.0]), start(100)).diagnostics["gamma"] == 0.25


@pytest.mark.parametrize("kind", ["transform", "square_root", "perturbed_observations"])
def test_members_that_weights_alone_choose_among_are_inflated_with_every_coupling(kind):
    coupling, frames, seen = Coupling(kind, 1, 0.0, None, None, 1), start(40).values, observations([0.7, -1.1])
    noise = MemberNoise(Noise(5), tuple(range(40)), "guided")
    found = coupling.move(MODEL, frames, seen, noise=noise, inflation=1.3).frames
    inflated = coupling.move(MODEL, inflate(frames, 1.3), seen, noise=noise, inflation=1.0).frames
    assert torch.equal(found, inflated)
    assert not torch.equal(found, coupling.move(MODEL, frames, seen, noise=noise, inflation=1.0).frames)


@pytest.mark.parametrize("share", [None, 0.7])
def test_local_weights_give_the_weighted_mean_and_covariance_of_the_members(share):
    n, seen, frames = 40, observations([0.7, -1.1]), start(40).values
    coupling = Coupling("local_weights", 1, 1.0, share, None, 1)
    moved = coupling.move(MODEL, frames, seen, noise=MemberNoise(Noise(5), tuple(range(n)), "guided")).frames
    predictive = predict_observations(MODEL.transition.predict(frames), seen)
    variance = predictive.variance + seen.error_variance  # of S the diagonal
    log_weights = -0.5 * ((seen.values - predictive.hx).square() / variance).sum(dim=1)
    if share is not None:
        assert effective_share(log_weights) < share
        log_weights = tempering_exponent(log_weights, share=share) * log_weights
    w, before, after = log_weights.softmax(dim=0), frames.flatten(1), moved.flatten(1)
    mean = w @ before
    covariance = (w[:, None] * (before - mean)).mT @ (before - mean) * n / (n - 1)
    # Exponents are halved to about 1e-6.
    tolerance = 1e-10 if share is None else 1e-5
    assert torch.allclose(after.mean(dim=0), mean, rtol=0, atol=tolerance)
    assert torch.allclose(after.mT.cov(), covariance, rtol=0, atol=tolerance)


WEIGHING = [
    InterpolantFilterSpec(gamma=0.0),
    InterpolantFilterSpec(coupling="perturbed_observations", gamma=0.0),
    OptimalParticleSpec(),
    OptimalParticleSpec(tau_points=3, tau_max=20.0),
    AuxiliaryParticleSpec(),
]


@pytest.mark.parametrize("spec", WEIGHING)
def test_weights_that_collapse_leave_one_ancestor_and_the_cycle_says_so(spec):
    usual, previous = observations([0.1, -0.2]), start(20)
    alone = previous.values.clone()
    alone[7] += 200.0 * torch.tensor([1.0, 1.0, -1.0])  # none of the others saw it
    far = replace(previous, values=alone)
    seen = observations(usual.hx(MODEL.transition.predict(alone).mean)[7].tolist())
    collapsed, sound = analyse(spec, seen, far), analyse(spec, usual, previous)
    assert collapsed.diagnostics["ancestors"] == 1
    assert collapse_alerts(collapsed)[0].startswith("all 20 members of the analysis stem from one")
    assert 5 <= sound.diagnostics["ancestors"] < 20
    assert collapse_alerts(sound) == []


def test_without_weights_there_is_no_word_of_ancestors():
    analysis = analyse(InterpolantFilterSpec(), observations([0.1, -0.2]), start(20))
    assert "ancestors" not in analysis.diagnostics
    assert collapse_alerts(analysis) == []


def test_an_ensemble_that_lost_its_track_is_widened_and_one_that_did_not_keeps_its_bits():
    spec = InterpolantFilterSpec(coupling="perturbed_observations", inflation=1.0)
    wary, previous = replace(spec, surprise=3.0), start(50)
    far, near = observations([9.0, -9.0]), observations([0.5, -0.5])
    lost, found = analyse(spec, far, previous), analyse(wary, far, previous)
    misfits = [float((far.values - far.hx(one.ensemble.latest).mean(dim=0)).norm()) for one in (lost, found)]
    assert misfits[1] < 0.8 * misfits[0]
    assert found.diagnostics["widening"] == pytest.approx(2.0)
    usual = analyse(wary, near, previous)
    assert usual.diagnostics["widening"] == 1.0
    assert torch.equal(usual.ensemble.values, analyse(spec, near, previous).ensemble.values)


def test_the_smoother_uses_correlations_of_the_predictive_errors():
    """Of two passes and one the linear-Gaussian answer is the same; here S has an off-diagonal part."""
    previous, seen = start(3000), observations([1.0, 1.0])
    forward, h = FORWARD, torch.eye(3, dtype=torch.float64)[SEEN]
    spread = h @ (forward @ forward.T + NOISE) @ h.T + ERROR**2 * torch.eye(2, dtype=torch.float64)
    gain = (forward @ forward.T + NOISE) @ h.T @ torch.linalg.inv(spread)
    expected = gain @ seen.values
    spec = InterpolantFilterSpec(inflation=1.0, coupling="perturbed_observations")
    found = analyse(spec, seen, previous).ensemble.latest[:, 0].mean(dim=0)
    # Sampling error 1/sqrt(3000) = 0.018 of a deviation near 0.6, twice.
    assert torch.allclose(found, expected, rtol=0, atol=0.04)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"guidance": {"kind": "conjugated"}}, "Did you mean 'conjugate'"),
        ({"guidance": {"kind": "dps", "stepsize": 1.0}}, "Did you mean 'step_size'"),
        ({"guidance": {"kind": "gauss_newton", "iterations": 0}}, "iterations is 0"),
        ({"guidance": {"step_size": 1.0}}, "needs a `kind`"),
        ({"coupling": "enkf"}, "coupling is enkf"),
        ({"coupling": "perturbed_observations", "localization_radius_cells": 4.0}, "no localization radius"),
        ({"least_share": 1.0}, "least_share is 1.0"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        InterpolantFilterSpec(**options)


@pytest.mark.parametrize("kind", sorted(registered("guidance")))
def test_every_guidance_pulls_the_members_towards_the_observations(kind):
    options = {"step_size": 0.03} if kind in ("monte_carlo", "dps") else {}
    spec = InterpolantFilterSpec(coupling="none", guidance={"kind": kind, **options})
    previous, seen = start(20), observations([2.0, -2.0])
    analysis = analyse(spec, seen, previous)
    before = analyse(replace(spec, guidance={"kind": "conjugate"}), observations([0.0, 0.0]), previous)
    pulled = seen.hx(analysis.ensemble.latest).mean(dim=0) - seen.hx(before.ensemble.latest).mean(dim=0)
    assert bool((pulled * seen.values > 0.1).all())


ADAPTIVE = AdaptiveInflationSpec(std=0.1, start_std=1.0)


@pytest.mark.parametrize("coupling", ["transform", "local_weights", "perturbed_observations"])
def test_the_first_cycle_uses_the_inflation_of_the_settings_and_learns_for_the_next(coupling):
    previous, seen = start(30), observations([3.0, -3.0])
    fixed = analyse(InterpolantFilterSpec(inflation=1.2, coupling=coupling), seen, previous)
    spec = InterpolantFilterSpec(inflation=1.2, coupling=coupling, adaptive_inflation=ADAPTIVE)
    adaptive = analyse(spec, seen, previous)
    assert torch.allclose(adaptive.ensemble.values, fixed.ensemble.values, rtol=0, atol=1e-13)
    assert adaptive.diagnostics["inflation_mean"] == 1.2
    # The variance of the transition counts as error: of what it explains inflation must not explain again.
    predictive = predict_observations(MODEL.transition.predict(previous.values), seen)
    error = seen.error_variance + NOISE.diagonal()[SEEN]
    first = read_inflation({}, ADAPTIVE, start=1.2, layout=LAYOUT)
    innovations = Innovations.of(predictive.hx, seen, error)
    expected = update_inflation(first, innovations, ADAPTIVE, layout=LAYOUT, radius=None)
    assert torch.allclose(adaptive.carry["inflation"], expected.factor, rtol=0, atol=1e-12)
