"""Classical schemes against the Kalman analysis and dense solutions of linear-Gaussian problems.

Where a scheme is algebraically that solution the tolerance is rounding (1e-10 of numbers of order one). Where it is
so in expectation, the tolerance is five standard errors of the estimate, for a given seed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.covariance import FullCovariance
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import PointsSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.ensemble.localization import gaspari_cohn
from cycler_da.schemes.etkf import EtkfSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.local_particle import LocalParticleSpec, local_weights
from cycler_da.schemes.particle import LOG_WEIGHTS, ParticleSpec, weighted_mean
from cycler_da.schemes.var3d import Var3d, Var3dSpec

TIME = np.array(["2020-01-01T00:00:00"], dtype="datetime64[s]")
VARIABLES = (Variable("u", "1", "u"), Variable("v", "1", "v"))
LAYOUT = Layout("gaussian", VARIABLES, Grid((Axis("x", 6),)), np.timedelta64(3600, "s"))
CONTEXT = SchemeContext(LAYOUT)
N_STATE = 12
IDENTITY = torch.eye(N_STATE, dtype=torch.float64)


def observe(positions, channels, *, values, error) -> Observations:
    n_obs = len(positions)
    batch = ObsBatch(
        stream="gaussian",
        operator=PointsSpec().build(LAYOUT),
        where=Locations(torch.tensor(positions, dtype=torch.float64)[:, None], torch.tensor(channels)),
        values=torch.as_tensor(values, dtype=torch.float64),
        error=torch.as_tensor(error, dtype=torch.float64).expand(n_obs),
        times=np.repeat(TIME, n_obs),
        ids=np.arange(n_obs).astype(str),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


FEW = observe([0.0, 2.3, 5.0], [0, 1, 1], values=[1.5, -0.3, 2.0], error=[0.7, 0.2, 0.5])
MANY = observe(
    [0.5 + 0.2 * i for i in range(20)], [i % 2 for i in range(20)], values=[0.1 * i for i in range(20)], error=0.5
)
both = pytest.mark.parametrize("observations", [FEW, MANY], ids=["3 observations", "20 observations"])


def covariance_matrix(seed=0):
    root = torch.randn((N_STATE, N_STATE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / N_STATE + 0.2 * IDENTITY


def draw(n_members, *, covariance=None, seed=1):
    draws = torch.randn((n_members, N_STATE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 1 + draws @ torch.linalg.cholesky(covariance_matrix() if covariance is None else covariance).T


def analyse(scheme, draws, observations, *, seed=3, carry=None):
    values = draws.reshape(len(draws), 1, *LAYOUT.state_shape)
    background = Ensemble(values, TIME, tuple(range(len(draws))), LAYOUT)
    return scheme.analyse(Prior(background), observations, noise=Noise(seed), carry=carry or {})


def matrix(observations):
    return observations.hx(IDENTITY.reshape(N_STATE, *LAYOUT.state_shape)).T


def kalman(mean, p, observations):
    """Mean, covariance and gain of the Kalman analysis."""
    h = matrix(observations)
    k = p @ h.T @ torch.linalg.inv(h @ p @ h.T + torch.diag(observations.error_variance))
    return mean + k @ (observations.values - h @ mean), (IDENTITY - k @ h) @ p, k


def within_standard_errors(sample, mean, covariance, *, n_effective, largest=5.0):
    """Sample mean and covariance agree with the given ones within standard errors of independent draws."""
    variance = covariance.diagonal()
    assert ((sample.mean(0) - mean).abs() / (variance / n_effective).sqrt()).max() < largest
    error = ((variance[:, None] * variance[None] + covariance**2) / n_effective).sqrt()
    assert ((torch.cov(sample.T) - covariance).abs() / error).max() < largest


@both
@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("n_members", [2, 7, 40])
def test_etkf_equals_the_kalman_analysis_of_the_sample(observations, rotation, n_members):
    draws, inflation = draw(n_members), 1.1
    analysis = analyse(EtkfSpec(inflation=inflation, rotation=rotation).build(CONTEXT), draws, observations)
    got = analysis.ensemble.latest.flatten(1)
    mean, covariance, k = kalman(draws.mean(0), inflation**2 * torch.cov(draws.T), observations)
    torch.testing.assert_close(got.mean(0), mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cov(got.T), covariance, rtol=0, atol=1e-10)
    assert analysis.diagnostics["dof_signal"] == pytest.approx(float((matrix(observations) @ k).trace()), abs=1e-10)


def test_rotation_moves_members_and_follows_the_cycle():
    draws = draw(7)
    plain, first, second = (
        analyse(EtkfSpec(rotation=rotation).build(CONTEXT), draws, FEW, seed=seed).ensemble.latest
        for rotation, seed in ((False, 1), (True, 1), (True, 2))
    )
    assert (plain - first).abs().max() > 0.1
    assert (first - second).abs().max() > 0.1


@both
@pytest.mark.parametrize("n_members", [2, 7, 40])
@pytest.mark.parametrize("radius", [None, 1e8], ids=["global", "endless radius"])
def test_mean_of_the_enkf_equals_the_kalman_analysis_of_the_sample(observations, n_members, radius):
    draws, inflation = draw(n_members), 1.1
    scheme = EnkfSpec(inflation=inflation, localization_radius_cells=radius).build(CONTEXT)
    analysis = analyse(scheme, draws, observations)
    mean, _, k = kalman(draws.mean(0), inflation**2 * torch.cov(draws.T), observations)
    torch.testing.assert_close(analysis.ensemble.latest.flatten(1).mean(0), mean, rtol=0, atol=1e-10)
    assert analysis.diagnostics["dof_signal"] == pytest.approx(float((matrix(observations) @ k).trace()), abs=1e-10)


@both
def test_enkf_with_many_members_equals_the_kalman_filter(observations):
    n_members, p = 20000, covariance_matrix()
    analysis = analyse(EnkfSpec(inflation=1.0).build(CONTEXT), draw(n_members), observations)
    mean, covariance, _ = kalman(torch.ones(N_STATE, dtype=torch.float64), p, observations)
    # The sampled gain adds its own error, of the size of the sampling error itself: hence half of the members.
    within_standard_errors(analysis.ensemble.latest.flatten(1), mean, covariance, n_effective=n_members / 2)


def test_localized_enkf_spreads_one_observation_as_the_tapered_covariance():
    one = observe([2.0], [0], values=[3.0], error=0.5)
    draws, radius = draw(10), 1.5
    analysis = analyse(EnkfSpec(inflation=1.0, localization_radius_cells=radius).build(CONTEXT), draws, one)
    p, place = torch.cov(draws.T), 2
    taper = gaspari_cohn((torch.arange(6, dtype=torch.float64) - place).abs(), radius).repeat(2)
    expected = taper * p[:, place] / (p[place, place] + 0.25) * (3.0 - draws[:, place].mean())
    increment = analysis.ensemble.latest.flatten(1).mean(0) - draws.mean(0)
    torch.testing.assert_close(increment, expected, rtol=0, atol=1e-12)
    assert increment[5] == increment[11] == 0


@both
@pytest.mark.parametrize("solver", ["dense", "cg"])
@pytest.mark.parametrize("members", ["perturbed_observations", "mean"])
@pytest.mark.parametrize("n_members", [1, 5])
def test_mean_of_3dvar_equals_the_dense_solution(observations, solver, members, n_members):
    factor, b = 0.3, covariance_matrix()
    scheme = Var3d(Var3dSpec(factor=factor, solver=solver, members=members), LAYOUT, FullCovariance(b))
    draws = draw(n_members)
    analysis = analyse(scheme, draws, observations)
    mean, _, k = kalman(draws.mean(0), factor * b, observations)
    # The eigenvalues of the whitened system are at least 1: the residual of 1e-10 bounds the error.
    torch.testing.assert_close(analysis.ensemble.latest.flatten(1).mean(0), mean, rtol=0, atol=1e-10)
    trace = float((matrix(observations) @ k).trace())
    # Eight random vectors: the estimate of the trace scatters by 2 |H K| / sqrt(16), below 0.5 here.
    assert analysis.diagnostics["dof_signal"] == pytest.approx(trace, abs=1e-10 if solver == "dense" else 1.5)
    innovation = observations.values - matrix(observations) @ draws.mean(0)
    s = factor * matrix(observations) @ b @ matrix(observations).T + torch.diag(observations.error_variance)
    chi_square = float(innovation @ torch.linalg.solve(s, innovation)) / len(observations)
    assert analysis.diagnostics["innovation_chi_square"] == pytest.approx(chi_square, rel=1e-8)


def test_shifted_3dvar_keeps_the_anomalies():
    draws = draw(5)
    scheme = Var3d(Var3dSpec(members="mean"), LAYOUT, FullCovariance(covariance_matrix()))
    got = analyse(scheme, draws, MANY).ensemble.latest.flatten(1)
    torch.testing.assert_close(got - got.mean(0), draws - draws.mean(0), rtol=0, atol=1e-12)


def test_an_ensemble_of_3dvars_has_the_kalman_covariance_when_b_is_right():
    n_members, p = 20000, covariance_matrix()
    scheme = Var3d(Var3dSpec(factor=1.0), LAYOUT, FullCovariance(p))
    got = analyse(scheme, draw(n_members), MANY).ensemble.latest.flatten(1)
    mean, covariance, _ = kalman(torch.ones(N_STATE, dtype=torch.float64), p, MANY)
    within_standard_errors(got, mean, covariance, n_effective=n_members)


def test_3dvar_refuses_more_observations_than_its_dense_solver_takes():
    scheme = Var3d(Var3dSpec(max_observations=19), LAYOUT, FullCovariance(covariance_matrix()))
    with pytest.raises(AnalysisFailed, match="20 observations; expected at most 19"):
        analyse(scheme, draw(5), MANY)


def test_3dvar_refuses_a_model_without_climatology():
    with pytest.raises(ConfigError, match="without a climatology"):
        Var3dSpec().build(CONTEXT)


def test_weighted_particles_have_the_kalman_mean_and_variance():
    n_members = 20000
    scheme = ParticleSpec(resample_threshold=0.0).build(CONTEXT)
    analysis = analyse(scheme, draw(n_members), FEW)
    x, weights = analysis.ensemble.latest.flatten(1), analysis.carry[LOG_WEIGHTS].exp()
    mean, covariance, _ = kalman(torch.ones(N_STATE, dtype=torch.float64), covariance_matrix(), FEW)
    ess, got = analysis.diagnostics["ess"], weights @ x
    assert ess == pytest.approx(float(1 / weights.square().sum()))
    assert ((got - mean).abs() / (covariance.diagonal() / ess).sqrt()).max() < 5
    variance = weights @ (x - got) ** 2
    assert ((variance / covariance.diagonal() - 1).abs() / (2 / ess) ** 0.5).max() < 5


def kalman_filter(f, q, h, r, ys):
    """Means, covariances and the log evidence of a Kalman filter that starts from N(0, I)."""
    mean, p, log_evidence, kept = torch.zeros(2).double(), torch.eye(2).double(), 0.0, []
    for y in ys:
        mean, p = f @ mean, f @ p @ f.T + q
        s, d = h @ p @ h.T + r, y - h @ mean
        k = p @ h.T @ torch.linalg.inv(s)
        log_evidence -= 0.5 * float(d @ torch.linalg.solve(s, d) + torch.logdet(2 * math.pi * s))
        mean, p = mean + k @ d, (torch.eye(2) - k @ h) @ p
        kept.append((mean, p))
    return kept, log_evidence


def test_particle_filter_follows_the_kalman_filter_over_many_cycles():
    layout = Layout("two", VARIABLES, Grid((Axis("x", 1),)), np.timedelta64(3600, "s"))
    f = torch.tensor([[0.9, 0.3], [-0.2, 0.8]]).double()
    q, h, r = 0.25 * torch.eye(2).double(), torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.25]]).double()
    generator = torch.Generator().manual_seed(8)
    ys = torch.randn((20, 1), generator=generator, dtype=torch.float64)
    expected, log_evidence = kalman_filter(f, q, h, r, ys)
    n_members = 4000
    # Process noise keeps the copies apart: no regularisation, and the filter is consistent.
    scheme = ParticleSpec(resample_threshold=0.5, regularisation=0.0).build(SchemeContext(layout))
    x, carry, errors, evidence = torch.randn((n_members, 2), generator=generator).double(), {}, [], 0.0
    for i_cycle, y in enumerate(ys):
        x = x @ f.T + 0.5 * torch.randn((n_members, 2), generator=generator, dtype=torch.float64)
        where = Locations(torch.zeros((1, 1)).double(), torch.tensor([0]))
        batch = ObsBatch(
            "one",
            PointsSpec().build(layout),
            where,
            y,
            torch.tensor([0.5]).double(),
            TIME,
            np.array(["o"]),
            torch.zeros(1, dtype=torch.int32),
        )
        background = Ensemble(x[:, None, :, None], TIME, tuple(range(n_members)), layout)
        observations = Observations((batch,), layout)
        analysis = scheme.analyse(Prior(background), observations, noise=Noise(1, i_cycle), carry=carry)
        x, carry = analysis.ensemble.latest[..., 0], analysis.carry
        evidence += analysis.diagnostics["log_evidence"]
        mean, p = expected[i_cycle]
        errors.append((carry[LOG_WEIGHTS].exp() @ x - mean) / p.diagonal().sqrt())
    # Errors of past cycles and of resampling add to that of the weights: twice 1 / sqrt(N) and a margin of two.
    assert torch.stack(errors).square().mean().sqrt() < 4 / n_members**0.5
    # Published for 4000 particles over 20 such steps (twisted and plain filters): within 0.15.
    assert evidence == pytest.approx(log_evidence, abs=0.3)


def test_only_copies_are_moved_by_regularisation():
    draws = draw(60)
    plain, moved = (
        analyse(ParticleSpec(regularisation=amount).build(CONTEXT), draws, FEW).ensemble.latest.flatten(1)
        for amount in (0.0, 0.5)
    )
    is_copy = (plain[:, None] == plain[None]).all(dim=2).sum(dim=1) > 1
    assert is_copy.any()
    assert torch.equal((plain != moved).any(dim=1), is_copy)
    origin = (plain[:, None] == draws[None]).all(dim=2)
    assert origin.any(dim=1).all()


def test_carried_weights_of_another_number_of_members_are_refused():
    with pytest.raises(AnalysisFailed, match=r"shape \(3,\); expected \(5,\)"):
        analyse(ParticleSpec().build(CONTEXT), draw(5), FEW, carry={LOG_WEIGHTS: torch.zeros(3)})


def test_the_regularised_filter_moves_every_member():
    draws = draw(60)
    plain, moved = (
        analyse(ParticleSpec(regularisation=amount, regularise="all").build(CONTEXT), draws, FEW).ensemble.latest
        for amount in (0.0, 0.5)
    )
    assert (plain != moved).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("resampling", ["systematic", "stratified", "residual"])
def test_particles_with_many_members_equal_the_kalman_filter_however_they_are_drawn(resampling):
    n_members, p = 20000, covariance_matrix()
    scheme = ParticleSpec(regularisation=0.0, resampling=resampling).build(CONTEXT)
    one = observe([2.3], [1], values=[0.4], error=0.7)
    analysis = analyse(scheme, draw(n_members, covariance=p), one)
    mean, covariance, _ = kalman(torch.ones(N_STATE, dtype=torch.float64), p, one)
    # The weights and the draw that follows them each leave about half of the members' worth.
    n_effective = 0.5 * analysis.diagnostics["ess"]
    within_standard_errors(analysis.ensemble.latest.flatten(1), mean, covariance, n_effective=n_effective)


def test_the_weighted_mean_is_that_of_the_members_with_their_carried_weights():
    draws = draw(60)
    analysis = analyse(ParticleSpec(resample_threshold=0.0).build(CONTEXT), draws, FEW)
    expected = torch.tensordot(analysis.carry[LOG_WEIGHTS].exp(), analysis.ensemble.latest, dims=1)
    got = weighted_mean(draws.view(60, *LAYOUT.state_shape), FEW, carry={})
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@both
def test_the_local_particle_filter_has_the_weighted_moments_where_it_is_not_localized(observations):
    draws, n_members = draw(40), 40
    scheme = LocalParticleSpec(rotation=True, effective_share=0.0).build(CONTEXT)
    got = analyse(scheme, draws, observations).ensemble.latest.flatten(1)
    hx = draws @ matrix(observations).T
    w = (-0.5 * ((observations.values - hx) ** 2 / observations.error_variance).sum(dim=1)).softmax(dim=0)
    torch.testing.assert_close(got.mean(0), w @ draws, rtol=0, atol=1e-10)
    anomalies = draws - w @ draws
    weighted = anomalies.T @ (w[:, None] * anomalies) * n_members / (n_members - 1)
    torch.testing.assert_close(torch.cov(got.T), weighted, rtol=0, atol=1e-10)


def test_the_local_particle_filter_weighs_every_point_by_what_is_near_it():
    one = observe([2.0], [0], values=[3.0], error=0.5)
    draws, radius = draw(40), 1.5
    scheme = LocalParticleSpec(localization_radius_cells=radius, rotation=False).build(CONTEXT)
    got = analyse(scheme, draws, one).ensemble.latest
    taper = gaspari_cohn((torch.arange(6, dtype=torch.float64) - 2).abs(), radius)
    misfit = (3.0 - draws[:, 2]) ** 2 / 0.25
    w = (-0.5 * taper * misfit[:, None]).softmax(dim=0)  # (member, x)
    expected = torch.einsum("mx,mcx->cx", w, draws.view(40, *LAYOUT.state_shape))
    torch.testing.assert_close(got.mean(0), expected, rtol=0, atol=1e-10)
    assert torch.equal(got[:, :, 5], draws.view(40, *LAYOUT.state_shape)[:, :, 5])


def test_tempering_keeps_the_share_of_members_that_was_asked_for():
    s = torch.randn((3, 20, 5), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = torch.tensor([[0.0] * 5, [3.0] * 5, [30.0] * 5], dtype=torch.float64)
    plain, tempered = local_weights(s, b, share=0.0), local_weights(s, b, share=0.4)
    assert (1 / (20 * plain.square().sum(dim=1))).max() < 0.4
    # beta is found to 2^-20, in steps of which the share moves by less than 1e-3.
    share = 1 / (20 * tempered.square().sum(dim=1))
    torch.testing.assert_close(share, torch.full_like(share, 0.4), rtol=0, atol=1e-3)


@pytest.mark.parametrize("spec", [EtkfSpec, EnkfSpec, LetkfSpec])
def test_inflation_of_the_analysis_multiplies_its_anomalies_and_keeps_its_mean(spec):
    draws, factor = draw(10), 1.3
    plain = analyse(spec(inflation=1.0).build(CONTEXT), draws, FEW).ensemble.latest
    inflated = analyse(spec(inflation=1.0, analysis_inflation=factor).build(CONTEXT), draws, FEW).ensemble.latest
    mean = plain.mean(dim=0)
    torch.testing.assert_close(inflated, mean + factor * (plain - mean), rtol=0, atol=1e-12)


def test_a_rotated_letkf_keeps_mean_and_covariance_and_moves_members():
    draws = draw(10)
    plain, rotated = (
        analyse(LetkfSpec(localization_radius_cells=1.5, rotation=rotation).build(CONTEXT), draws, FEW).ensemble.latest
        for rotation in (False, True)
    )
    torch.testing.assert_close(rotated.mean(0), plain.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.cov(rotated.flatten(1).T), torch.cov(plain.flatten(1).T), rtol=0, atol=1e-12)
    assert (rotated - plain).abs().max() > 0.1


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (ParticleSpec, {"resampling": "other"}),
        (ParticleSpec, {"regularise": "none"}),
        (LocalParticleSpec, {"effective_share": 1.0}),
        (LocalParticleSpec, {"weight_stride": 0}),
        (LocalParticleSpec, {"analysis_inflation": 0.0}),
    ],
)
def test_options_of_particle_filters_that_cannot_be_right_are_refused(spec, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        spec(**options)
