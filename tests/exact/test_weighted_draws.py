"""Particle filters that know the law of the errors, curved h and members' own covariances, against quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.error_laws import ErrorLaw
from cycler_da.obs.nonlinear import ArctanSpec
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.optimal_particle import OptimalParticleSpec
from cycler_da.schemes.particle import ParticleSpec

LAYOUT = Layout("toy", (Variable("a", "1", "toy"),), Grid((Axis("x", 1, units="1"),)), np.timedelta64(3600, "s"))
TIME = np.datetime64("2020-01-01T01:00:00", "s")
N, START_STD, NOISE_STD, ERROR, VALUE = 40_000, 0.8, 0.5, 0.4, 0.7
LAWS = [ErrorLaw("gaussian"), ErrorLaw("laplace"), ErrorLaw("uniform"), ErrorLaw("lognormal", 0.5)]
MODEL = InterpolantForecast(
    LAYOUT,
    GaussianTransition(lambda x: 0.9 * x + 0.3, torch.tensor([[NOISE_STD**2]], dtype=torch.float64)),
    (0.0,),
    "toy",
)


def observed(operator) -> Observations:
    batch = ObsBatch(
        stream="toy",
        operator=operator,
        where=Locations(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)),
        values=torch.tensor([VALUE], dtype=torch.float64),
        error=torch.tensor([ERROR], dtype=torch.float64),
        times=np.array([TIME]),
        ids=np.array(["one"]),
        flags=torch.zeros(1, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


def analysed(spec, observations: Observations, n: int = N):
    start = START_STD * Noise(11).shared_normal("start", (n, 1, 1, 1), dtype=torch.float64)
    previous = Ensemble(start, np.array([TIME - LAYOUT.step]), tuple(range(n)), LAYOUT)
    noise = Noise.of_cycle(5, TIME)
    background = MODEL.forecast(previous, np.array([TIME]), noise=noise)
    scheme = spec.build(SchemeContext(LAYOUT, MODEL))
    return scheme.analyse(Prior(background, previous, MODEL), observations, noise=noise, carry={})


def posterior(law: ErrorLaw, h) -> tuple[float, float, float]:
    """Mean, deviation and log evidence by quadrature."""
    grid = torch.linspace(-6.0, 6.0, 200_001, dtype=torch.float64)
    variance = (0.9 * START_STD) ** 2 + NOISE_STD**2
    log_p = -0.5 * ((grid - 0.3) ** 2 / variance + math.log(2 * math.pi * variance))
    p = torch.exp(log_p + law.log_density((VALUE - h(grid)) / ERROR) - math.log(ERROR))
    mass = float(p.sum() * (grid[1] - grid[0]))
    p = p / p.sum()
    mean = float((p * grid).sum())
    return mean, float((p * (grid - mean) ** 2).sum().sqrt()), math.log(mass)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_law_has_mass_one_mean_zero_variance_one_and_its_draws_follow_it(law):
    grid = torch.linspace(-12.0, 40.0, 2_000_001, dtype=torch.float64)
    p = torch.exp(law.log_density(grid)) * (grid[1] - grid[0])
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-4)
    assert float((p * grid).sum()) == pytest.approx(0.0, abs=1e-4)
    assert float((p * grid**2).sum()) == pytest.approx(1.0, abs=1e-3)
    draws = np.sort(law.draw(np.random.default_rng(3), 20_000))
    found = np.interp(draws, grid.numpy(), np.cumsum(p.numpy()))
    distance = np.abs(found - (np.arange(len(draws)) + 0.5) / len(draws)).max()
    assert distance < 1.95 / len(draws) ** 0.5  # Kolmogorov-Smirnov, one in a thousand


CURVES = {"cell": (CellSpec(), lambda x: x), "arctan": (ArctanSpec(scale=0.5), lambda x: torch.atan(2 * x))}
CASES = [(law, curve, {}) for law in LAWS for curve in CURVES]
CASES += [(law, "arctan", {"caution": 2.0}) for law in LAWS]
CASES += [(LAWS[1], "arctan", {"tau_points": 3, "tau_max": 20.0})]


@pytest.mark.parametrize("law, curve, options", CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_the_optimal_proposal_is_the_posterior_of_any_law_and_curve(law, curve, options):
    operator, h = CURVES[curve]
    spec = OptimalParticleSpec(error_law=law.name, law_shape=law.shape, **options)
    analysis = analysed(spec, observed(operator.build(LAYOUT)))
    mean, std, evidence = posterior(law, h)
    x, report = analysis.ensemble.latest.flatten(), analysis.diagnostics
    share = report["effective_share"] * report.get("second_effective_share", 1.0)
    tolerance = 5 / (share * N) ** 0.5  # five standard errors of so many members
    assert tolerance < 0.1
    assert abs(float(x.mean()) - mean) < tolerance * std
    assert float(x.std()) == pytest.approx(std, rel=2 * tolerance)
    assert report["log_evidence"] == pytest.approx(evidence, abs=2 * tolerance)


@pytest.mark.parametrize("curve", CURVES)
def test_the_interpolant_filter_with_path_weights_is_the_posterior_of_a_curve(curve):
    operator, h = CURVES[curve]
    spec = InterpolantFilterSpec(coupling="mixture", inflation=1.0, path_weights=True)
    analysis = analysed(spec, observed(operator.build(LAYOUT)), n=4000)
    mean, std, _ = posterior(LAWS[0], h)
    x, report = analysis.ensemble.latest.flatten(), analysis.diagnostics
    tolerance = 5 / (report["effective_share"] * report["second_effective_share"] * 4000) ** 0.5
    assert tolerance < 0.15
    assert abs(float(x.mean()) - mean) < tolerance * std
    assert float(x.std()) == pytest.approx(std, rel=2 * tolerance)
    if curve == "cell":  # linear and Gaussian: nothing is left to weigh
        assert report["second_effective_share"] == pytest.approx(1.0, abs=1e-12)
    else:
        assert report["second_effective_share"] < 0.999


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_bootstrap_filter_is_the_posterior_of_any_law(law):
    spec = ParticleSpec(regularisation=0.0, error_law=law.name, law_shape=law.shape)
    analysis = analysed(spec, observed(CellSpec().build(LAYOUT)))
    mean, std, evidence = posterior(law, lambda x: x)
    x, report = analysis.ensemble.latest.flatten(), analysis.diagnostics
    tolerance = 5 / (report["ess"] * N) ** 0.5 if report["ess"] <= 1 else 5 / report["ess"] ** 0.5
    assert abs(float(x.mean()) - mean) < tolerance * std
    assert float(x.std()) == pytest.approx(std, rel=2 * tolerance)
    assert report["log_evidence"] == pytest.approx(evidence, abs=2 * tolerance)


def test_observations_that_no_member_can_have_are_an_error_with_the_way_out():
    far = observed(CellSpec().build(LAYOUT))
    far.batches[0].values[0] = 100.0
    with pytest.raises(AnalysisFailed, match=r"no member of 50 can have been seen .* a law with tails"):
        analysed(ParticleSpec(error_law="uniform"), far, n=50)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"error_law": "cauchy"}, "law is 'cauchy'"),
        ({"law_shape": 0.5}, "law gaussian has no shape"),
        ({"error_law": "laplace", "tau_points": 3, "resample_below": 0.5}, "resample_below weighs Gaussian errors"),
        ({"caution": 0.5}, "caution 0.5"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        OptimalParticleSpec(**options)


def test_members_with_covariances_of_their_own_are_weighed_as_the_bootstrap_filter_of_the_same_model_weighs_them():
    """The released transition of ten steps of Lorenz-63 from an uncertain start, X seen with Laplace errors."""
    from cycler_da.bench.small_systems.lorenz63_cycled import START_STD
    from cycler_da.bench.small_systems.lorenz63_setup import learned_transition, linear_network, starts, true_model
    from cycler_da.bench.small_systems.twin import Method, Run, make_twin

    network, model = linear_network((0,), 2.0), true_model(10)
    twin = make_twin(model, network, starts(1, seed=3), n_cycles=1, start_std=START_STD, seed=3)
    found = {}
    for n, spec in (
        (80_000, ParticleSpec(regularisation=0.0, error_law="laplace")),
        (10_000, OptimalParticleSpec(error_law="laplace", caution=1.5)),
    ):
        states = next(iter(Run(twin, Method("any", n, spec, learned_transition(10)))))
        found[n] = states[0, :, :, 0]
    many, few = found[80_000], found[10_000]
    # A fifth of the members carry the weight at least: five standard errors of 2000.
    tolerance = 5 / 2000**0.5
    assert ((few.mean(dim=0) - many.mean(dim=0)).abs() < tolerance * many.std(dim=0)).all()
    assert torch.allclose(few.std(dim=0), many.std(dim=0), rtol=2 * tolerance)
