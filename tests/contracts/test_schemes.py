"""What every registered analysis scheme keeps, whatever its method; a new scheme needs no change here.

The toy problem: a learned forecast model that happens to be linear, with a climatology, on a periodic
8 x 8 grid of two variables. It offers schemes everything a learned model offers.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil

import numpy as np
import pytest
import torch
from torch import nn

import cycler_da.schemes
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.covariance import SpectralCovariance
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.registry import Spec, registered
from cycler_da.schemes.base import AnalysisScheme, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checked import checked_analysis
from cycler_da.schemes.particle import LOG_WEIGHTS

for _module in pkgutil.iter_modules(cycler_da.schemes.__path__):
    importlib.import_module(f"cycler_da.schemes.{_module.name}")
every_scheme = pytest.mark.parametrize("kind", sorted(registered("scheme")))
#: Schemes that move the frames before the last one, too, by the same weights.
SMOOTHERS = ("etkf", "letkf", "pdediff", "sda", "soad")

STEP = np.timedelta64(3600, "s")
TIME = np.datetime64("2020-01-01T12:00:00", "s")
LAYOUT = Layout(
    system="toy",
    variables=(Variable("q1", "1", "first"), Variable("q2", "1", "second")),
    grid=Grid((Axis("y", 8, periodic=True), Axis("x", 8, periodic=True))),
    step=STEP,
)


class Damping(nn.Module):
    """Scaled increment of x' = 0.9 x."""

    def forward(self, scaled):
        return -0.1 * scaled


def white(variance: float) -> SpectralCovariance:
    values = torch.full((8, 5, 2), variance, dtype=torch.float64)
    return SpectralCovariance(values, torch.eye(2, dtype=torch.float64).expand(8, 5, 2, 2))


def make_model() -> InterpolantForecast:
    """A learned model whose answers are known: x' = 0.9 x + noise of standard deviation 0.1."""
    transition = Transition(
        mean_network=Damping(),
        scaling=Scaling(mean=(0.0, 0.0), std=(1.0, 1.0)),
        residual_covariance=white(0.01),
        climatology=white(1.0),
    )
    return InterpolantForecast(LAYOUT, transition, (0.0,), "toy")


def make_prior(dtype=torch.float64) -> Prior:
    """Six members, started 2 steps ago: the background holds a history frame and the cycle time."""
    members, noise = (3, 5, 8, 9, 12, 20), Noise(4)
    # Most of the variance is the same everywhere, so that five directions can follow the observations.
    offset = noise.normal("offset", (1, 1, 1, 1), members=members, dtype=dtype)
    ripple = noise.normal("ripple", (1, *LAYOUT.state_shape), members=members, dtype=dtype)
    start_values = 2 * offset + 0.2 * ripple
    start = Ensemble(start_values, np.array([TIME - 2 * STEP]), members, LAYOUT)
    model = make_model()
    return Prior(model.forecast(start, TIME - STEP * np.arange(1, -1, -1), noise=noise), start, model)


def make_observations(*, n_obs=24, error=0.2) -> Observations:
    """Accurate observations of cells, all 1.5 above the climatological mean."""
    generator = torch.Generator().manual_seed(6)
    where = Locations(
        torch.randint(0, 8, (n_obs, 2), generator=generator).to(torch.float64),
        torch.randint(0, 2, (n_obs,), generator=generator),
    )
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=where,
        values=torch.full((n_obs,), 1.5, dtype=torch.float64),
        error=torch.full((n_obs,), error, dtype=torch.float64),
        times=np.full(n_obs, TIME),
        ids=np.array([f"o{i}" for i in range(n_obs)]),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


def build(kind: str) -> AnalysisScheme:
    return registered("scheme")[kind]().build(SchemeContext(LAYOUT, make_model()))


def analyse(kind, prior, observations, *, seed=1, carry=None):
    return build(kind).analyse(prior, observations, noise=Noise(seed), carry=carry or {})


@every_scheme
def test_options_are_a_frozen_spec_with_defaults(kind):
    spec = registered("scheme")[kind]
    assert issubclass(spec, Spec)
    assert spec.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(spec))
    scheme = build(kind)
    assert isinstance(scheme, AnalysisScheme)
    assert isinstance(scheme.needs, Needs)


@every_scheme
@pytest.mark.parametrize(
    "empty", [Observations((), LAYOUT), make_observations(n_obs=0)], ids=["no batch", "empty batch"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_analysis_equals_background_without_observations(kind, empty, dtype):
    prior = make_prior(dtype)
    analysis = analyse(kind, prior, empty)
    assert torch.equal(analysis.ensemble.values, prior.background.values)
    assert analysis.diagnostics["n_obs"] == 0


@every_scheme
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_times_layout_and_dtype_stay(kind, dtype):
    prior = make_prior(dtype)
    ensemble = analyse(kind, prior, make_observations()).ensemble
    assert ensemble.members == prior.background.members
    assert np.array_equal(ensemble.valid_times, prior.background.valid_times)
    assert ensemble.layout == prior.background.layout
    assert ensemble.values.dtype == dtype
    assert bool(ensemble.values.isfinite().all())


@every_scheme
def test_frames_before_the_last_one_stay_unless_the_scheme_smooths(kind):
    prior = make_prior()
    ensemble = analyse(kind, prior, make_observations()).ensemble
    has_moved = not torch.equal(ensemble.values[:, :-1], prior.background.values[:, :-1])
    assert has_moved == (kind in SMOOTHERS)


@every_scheme
def test_the_analysis_moves_towards_the_observations_that_it_uses(kind):
    prior, observations = make_prior(), make_observations()
    analysis = analyse(kind, prior, observations)
    if analysis.diagnostics["n_obs"] == 0:
        assert torch.equal(analysis.ensemble.values, prior.background.values)
        return
    before = observations.values - observations.hx(prior.background.latest).mean(dim=0)
    after = observations.values - observations.hx(analysis.ensemble.latest).mean(dim=0)
    assert after.square().mean() < 0.8 * before.square().mean()


@every_scheme
def test_inputs_are_not_changed(kind):
    prior, observations = make_prior(), make_observations()
    background, previous = prior.background.values.clone(), prior.previous.values.clone()
    values = observations.values.clone()
    analyse(kind, prior, observations)
    assert torch.equal(prior.background.values, background)
    assert torch.equal(prior.previous.values, previous)
    assert torch.equal(observations.values, values)


@every_scheme
def test_the_same_noise_gives_the_same_bytes(kind):
    first = analyse(kind, make_prior(), make_observations())
    second = analyse(kind, make_prior(), make_observations())
    assert torch.equal(first.ensemble.values, second.ensemble.values)
    assert first.diagnostics == second.diagnostics


@every_scheme
def test_diagnostics_are_finite_numbers_for_json(kind):
    diagnostics = analyse(kind, make_prior(), make_observations()).diagnostics
    assert json.loads(json.dumps(diagnostics, allow_nan=False)) == diagnostics
    assert {"n_obs", "dof_signal"} <= diagnostics.keys()
    assert 0 <= diagnostics["dof_signal"] <= len(make_observations())


@every_scheme
def test_what_is_carried_can_be_given_back(kind):
    first = analyse(kind, make_prior(), make_observations())
    assert all(isinstance(value, torch.Tensor) for value in first.carry.values())
    second = analyse(kind, make_prior(), make_observations(), carry=dict(first.carry))
    assert first.carry.keys() == second.carry.keys()


@every_scheme
def test_members_that_are_not_coupled_can_be_analysed_alone(kind):
    if build(kind).needs.couples_members:
        pytest.skip(f"{kind} couples its members")
    prior = make_prior()
    together = analyse(kind, prior, make_observations()).ensemble
    for i_member in range(prior.background.n_members):
        part = Prior(prior.background.select([i_member]), prior.previous.select([i_member]), prior.model)
        alone = analyse(kind, part, make_observations()).ensemble
        assert torch.equal(alone.values[0], together.values[i_member])


# ------------------------------------------------------------------ bad input: refused before there is an analysis


def checked(kind, prior, observations):
    return checked_analysis(build(kind), prior, observations, kind=kind, noise=Noise(1), carry={})


def with_batch(observations, **changes) -> Observations:
    return dataclasses.replace(observations, batches=(dataclasses.replace(observations.batches[0], **changes),))


@every_scheme
@pytest.mark.parametrize("error", [0.0, -0.2, torch.nan, torch.inf, 1e-170])
def test_an_error_that_makes_r_singular_is_refused_by_name(kind, error):
    errors = torch.full((24,), 0.2, dtype=torch.float64)
    errors[3] = error
    with pytest.raises(AnalysisFailed, match=f"{kind}: the error of 1 of 24 observations of stream toy .* is o3"):
        checked(kind, make_prior(), with_batch(make_observations(), error=errors))


@every_scheme
def test_an_observation_that_is_not_a_number_is_refused_by_name(kind):
    values = torch.full((24,), 1.5, dtype=torch.float64)
    values[5] = torch.nan
    with pytest.raises(AnalysisFailed, match=f"{kind}: the value of 1 of 24 observations of stream toy .* is o5"):
        checked(kind, make_prior(), with_batch(make_observations(), values=values))


@every_scheme
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_members_that_are_not_finite_are_refused_by_name(kind, bad):
    prior = make_prior()
    values = prior.background.values.clone()
    values[4, -1, 1, 2, 3] = bad
    prior = dataclasses.replace(prior, background=prior.background.with_values(values))
    with pytest.raises(AnalysisFailed, match=f"{kind}: q2 of the background is not finite in member 12"):
        checked(kind, prior, make_observations())


@every_scheme
def test_fewer_members_than_needed_are_refused(kind):
    needed, prior = build(kind).needs.n_members, make_prior()
    few = slice(0, needed - 1)
    prior = dataclasses.replace(prior, background=prior.background.select(few), previous=prior.previous.select(few))
    with pytest.raises(AnalysisFailed, match=f"{kind}: the background has {needed - 1} members; expected {needed}"):
        checked(kind, prior, make_observations())


@every_scheme
def test_as_few_members_as_needed_give_an_analysis_or_say_why_not(kind):
    few, prior = slice(0, build(kind).needs.n_members), make_prior()
    prior = dataclasses.replace(prior, background=prior.background.select(few), previous=prior.previous.select(few))
    assert bool(checked(kind, prior, make_observations()).ensemble.values.isfinite().all())


# ------------------------------------------------------------------ invariance


@every_scheme
def test_order_of_observations_does_not_matter_where_noise_has_no_say(kind):
    prior, observations = make_prior(), make_observations()
    first, other_noise = (analyse(kind, prior, observations, seed=seed).ensemble.values for seed in (1, 2))
    if not torch.equal(first, other_noise):
        pytest.skip(f"{kind} draws noise, in the order of the observations")
    batch, order = observations.batches[0], torch.randperm(24, generator=torch.Generator().manual_seed(3))
    where = Locations(batch.where.position[order], batch.where.channel[order])
    shuffled = with_batch(observations, where=where, ids=batch.ids[order.numpy()])
    torch.testing.assert_close(analyse(kind, prior, shuffled).ensemble.values, first, rtol=0, atol=1e-9)


@every_scheme
def test_order_of_members_does_not_matter(kind):
    order, prior = [4, 0, 5, 2, 1, 3], make_prior()
    permuted = dataclasses.replace(
        prior, background=prior.background.select(order), previous=prior.previous.select(order)
    )
    analysis = analyse(kind, prior, make_observations())
    if LOG_WEIGHTS in analysis.carry:
        pytest.skip(f"{kind} draws members by their weights, in their order")
    expected = analysis.ensemble.select(order)
    got = analyse(kind, permuted, make_observations()).ensemble
    assert got.members == expected.members
    torch.testing.assert_close(got.values, expected.values, rtol=0, atol=1e-9)
