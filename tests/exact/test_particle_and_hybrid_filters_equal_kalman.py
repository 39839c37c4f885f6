"""Weights, transforms and both of them on a linear-Gaussian transition of three numbers: the Kalman filter answers.

Noise of the transition and observed components are uncorrelated, so that the diagonal of S which the transform takes is
all of S. Sampling errors of the mean are about 1/sqrt(members) of the posterior deviation, over a few cycles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.forecast.numerical import NumericalForecast
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.auxiliary_particle import AuxiliaryParticleSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.flowdas import FlowdasSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.optimal_particle import OptimalParticleSpec

MEMBERS, CYCLES, ERROR = 2000, 4, 0.5
FORWARD = torch.tensor([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.0, -0.2, 0.8]], dtype=torch.float64)
NOISE = torch.diag(torch.tensor([0.1, 0.2, 0.15], dtype=torch.float64))
SEEN = torch.eye(3, dtype=torch.float64)[[0, 2]]
LAYOUT = Layout("toy", (Variable("a", "1", "toy"),), Grid((Axis("x", 3, units="1"),)), np.timedelta64(3600, "s"))
START = np.datetime64("2020-01-01T00:00:00", "s")


def _model() -> InterpolantForecast:
    return InterpolantForecast(LAYOUT, GaussianTransition(lambda x: x @ FORWARD.T, NOISE), (0.0,), "toy")


def _observations(values: torch.Tensor, time: np.datetime64) -> Observations:
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=Locations(torch.tensor([[0.0], [2.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.int64)),
        values=values,
        error=torch.full((2,), ERROR, dtype=torch.float64),
        times=np.full(2, time),
        ids=np.array(["first", "last"]),
        flags=torch.zeros(2, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


@dataclass(frozen=True)
class LinearDynamics:
    """The same step as a numerical model, with the same noise in all components."""

    layout: Layout = LAYOUT
    noise_std: float = 0.15**0.5

    def step(self, x: torch.Tensor) -> torch.Tensor:
        return x @ FORWARD.T

    def perturb(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x + self.noise_std * z


NUMERICAL = NumericalForecast(LAYOUT, LinearDynamics(), "toy")


def _kalman(
    mean: torch.Tensor, cov: torch.Tensor, values: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    mean, cov = FORWARD @ mean, FORWARD @ cov @ FORWARD.T + noise
    gain = cov @ SEEN.T @ torch.linalg.inv(SEEN @ cov @ SEEN.T + ERROR**2 * torch.eye(2, dtype=torch.float64))
    return mean + gain @ (values - SEEN @ mean), cov - gain @ SEEN @ cov


def _cycle(spec, start: torch.Tensor, *, n_cycles: int, numerical=False) -> tuple[float, float, dict[str, float]]:
    """Errors of the mean (in posterior deviations) and of the covariance (relative) after some cycles."""
    model = NUMERICAL if numerical else _model()
    model_noise = NUMERICAL.dynamics.noise_std**2 * torch.eye(3, dtype=torch.float64) if numerical else NOISE
    scheme = spec.build(SchemeContext(LAYOUT, model))
    members = tuple(range(len(start)))
    ensemble = Ensemble(start[:, None, None, :], np.array([START]), members, LAYOUT)
    mean, cov = start.mean(dim=0), torch.cov(start.T)
    generator = np.random.default_rng(7)
    for k in range(1, n_cycles + 1):
        time, values = START + k * LAYOUT.step, torch.from_numpy(1.2 * generator.standard_normal(2))
        mean, cov = _kalman(mean, cov, values, model_noise)
        noise = Noise.of_cycle(3, time)
        background = model.forecast(ensemble, np.array([time]), noise=noise)
        prior = Prior(background, ensemble, model)
        analysis = scheme.analyse(prior, _observations(values, time), noise=noise, carry={})
        ensemble = analysis.ensemble
    x = ensemble.latest.reshape(len(start), 3)
    distance = float(((x.mean(dim=0) - mean).square() / cov.diagonal()).mean().sqrt())
    return distance, float(torch.linalg.norm(torch.cov(x.T) - cov) / torch.linalg.norm(cov)), dict(analysis.diagnostics)


def _start(n: int) -> torch.Tensor:
    return Noise(11).shared_normal("start", (n, 3), dtype=torch.float64)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(OptimalParticleSpec(), id="weights"),
        pytest.param(OptimalParticleSpec(tau_points=3, tau_max=20.0), id="weights, three tau points"),
        pytest.param(
            OptimalParticleSpec(tau_points=3, tau_max=20.0, resample_below=0.9), id="weights, resampled along tau"
        ),
        pytest.param(InterpolantFilterSpec(inflation=1.0, gamma=0.0), id="diagonal weights"),
        pytest.param(InterpolantFilterSpec(inflation=1.0, gamma=0.25), id="a quarter to the transform"),
        pytest.param(InterpolantFilterSpec(inflation=1.0, gamma=0.5, passes=2), id="half, in two passes"),
        pytest.param(InterpolantFilterSpec(inflation=1.0), id="transform alone"),
        pytest.param(InterpolantFilterSpec(inflation=1.0, gamma=0.1, least_share=0.5), id="as the weights allow"),
        pytest.param(
            InterpolantFilterSpec(inflation=1.0, coupling="perturbed_observations"), id="perturbed observations"
        ),
        pytest.param(
            InterpolantFilterSpec(inflation=1.0, coupling="perturbed_observations", gamma=0.5, passes=2),
            id="perturbed observations in two passes, and weights",
        ),
        pytest.param(InterpolantFilterSpec(inflation=1.0, coupling="mixture"), id="mixture of members"),
        pytest.param(InterpolantFilterSpec(inflation=1.0, guidance={"kind": "gauss_newton"}), id="gauss_newton"),
    ],
)
def test_weights_and_transform_in_any_proportion_are_the_kalman_filter(spec):
    distance, covariance, diagnostics = _cycle(spec, _start(MEMBERS), n_cycles=CYCLES)
    assert distance < 0.1
    assert covariance < 0.15
    assert 0 < diagnostics.get("effective_share", 1.0) <= 1


@pytest.mark.parametrize("coordinates", ["state", "residual"])
def test_members_guided_alone_are_the_kalman_update_of_one_known_start(coordinates):
    """What FlowDAS aims at: with one start for all members p(x' | x, y) is the whole posterior."""
    spec = FlowdasSpec(guidance="moment_matching", coordinates=coordinates, n_steps=100)
    distance, covariance, _ = _cycle(spec, torch.ones(MEMBERS, 3, dtype=torch.float64), n_cycles=1)
    assert distance < 0.06
    assert covariance < 0.08


def test_members_guided_alone_stay_far_from_the_filter_when_the_start_is_uncertain():
    spec = FlowdasSpec(guidance="moment_matching", n_steps=30)
    alone = _cycle(spec, _start(600), n_cycles=1)
    coupled = _cycle(InterpolantFilterSpec(inflation=1.0, gamma=0.25), _start(600), n_cycles=1)
    assert alone[0] > 3 * coupled[0]
    assert alone[1] > 3 * coupled[1]


@pytest.mark.parametrize("option", [{"look_ahead": 1.5}, {"resampling": "other"}])
def test_an_option_of_the_auxiliary_filter_that_cannot_be_right_is_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        AuxiliaryParticleSpec(**option)


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_a_gamma_outside_its_range_is_refused(gamma):
    with pytest.raises(ConfigError, match="gamma"):
        InterpolantFilterSpec(gamma=gamma)


@pytest.mark.parametrize(
    "option",
    [
        {"guidance": "other"},
        {"order": 3},
        {"n_steps": 1},
        {"objective": "cubed"},
        {"coordinates": "other"},
        {"step_size": math.nan},
        {"s_from": 5.0},
    ],
)
def test_an_option_of_flowdas_that_does_not_exist_is_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        FlowdasSpec(**option)


@pytest.mark.parametrize("option", [{"step_size": math.nan}, {"step_size": -1.0}, {"s_from": 5}, {"fallback_from": 2}])
def test_a_number_of_flowdas_that_makes_no_sense_is_refused(option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        FlowdasSpec(**option)


def test_a_numerical_model_with_additive_noise_serves_as_a_transition():
    distance, covariance, _ = _cycle(OptimalParticleSpec(), _start(MEMBERS), n_cycles=CYCLES, numerical=True)
    assert distance < 0.1
    assert covariance < 0.15


@pytest.mark.parametrize("look_ahead", [0.25, 0.5])
def test_the_auxiliary_filter_is_the_kalman_filter_in_the_limit(look_ahead):
    """The observations of the last cycle leave the weights to 2 % of the members: 1/sqrt(400) = 0.05, three of them."""
    spec = AuxiliaryParticleSpec(look_ahead=look_ahead, resampling="stratified")
    distance, covariance, _ = _cycle(spec, _start(20000), n_cycles=CYCLES, numerical=True)
    assert distance < 0.15
    assert covariance < 0.15


def test_the_optimal_proposal_refuses_a_model_without_noise():
    context = SchemeContext(LAYOUT, NumericalForecast(LAYOUT, LinearDynamics(noise_std=0.0), "toy"))
    with pytest.raises(ConfigError, match="process noise"):
        OptimalParticleSpec().build(context)


def test_ancestors_of_the_auxiliary_filter_are_forecast_with_noise_of_their_own():
    """All members start from one state: what the analysis holds is none of the background's draws."""
    start = torch.ones(50, 1, 1, 3, dtype=torch.float64)
    ensemble = Ensemble(start, np.array([START]), tuple(range(50)), LAYOUT)
    time, noise = START + LAYOUT.step, Noise(1)
    background = NUMERICAL.forecast(ensemble, np.array([time]), noise=noise)
    scheme = AuxiliaryParticleSpec().build(SchemeContext(LAYOUT, NUMERICAL))
    observations = _observations(torch.zeros(2, dtype=torch.float64), time)
    analysis = scheme.analyse(Prior(background, ensemble, NUMERICAL), observations, noise=noise, carry={})
    same = (analysis.ensemble.latest[:, None] == background.latest[None]).flatten(2).all(dim=2)
    assert not same.any()


def test_the_auxiliary_filter_says_what_it_needs():
    ensemble = Ensemble(torch.ones(5, 1, 1, 3, dtype=torch.float64), np.array([START]), tuple(range(5)), LAYOUT)
    scheme = AuxiliaryParticleSpec().build(SchemeContext(LAYOUT))
    observations = _observations(torch.zeros(2, dtype=torch.float64), START)
    with pytest.raises(AnalysisFailed, match="previous analysis"):
        scheme.analyse(Prior(ensemble), observations, noise=Noise(1), carry={})
