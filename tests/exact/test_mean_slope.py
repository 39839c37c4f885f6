"""Curves of cells by their mean slope: a straight one is an entry, a bent one the line of the field it belongs to."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cycler_da.bench.unit_draws import UnitDraws, moments
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.climatology import ScaledCovariance, StateClimatology
from cycler_da.generative.covariance import spectral_from_shells
from cycler_da.generative.diffusion.likelihood import KnownCovariance
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.generative.diffusion.window import WindowDenoiser
from cycler_da.generative.diffusion.window_gaussian import persistent_lags, window_gaussian
from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs.base import Locations
from cycler_da.obs.networks import Sites
from cycler_da.obs.nonlinear import ArctanSpec, SigmoidSpec, SineSpec, logistic
from cycler_da.obs.points import PointsSpec
from cycler_da.obs.seen_stream import SeenStream
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import SoadSpec
from cycler_da.schemes.window.cells import CurvePart, EntryPart, frame_cells
from cycler_da.schemes.window.linearised_fields import Curves
from cycler_da.schemes.window.mean_slope import LinearisedCurves, LinearPosterior, line_part, mean_line
from cycler_da.schemes.window.measurement import WindowMeasurement, frame_part
from cycler_da.schemes.window.sampling import guided

N, SHAPE = 4, (2, 2, 4, 4)
SCALING = Scaling((1.0, -1.0), (2.0, 0.5))
LAYOUT = Layout(
    "toy",
    (Variable("q1", "1", "first"), Variable("q2", "1", "second")),
    Grid((Axis("y", N, periodic=True), Axis("x", N, periodic=True))),
    np.timedelta64(3600, "s"),
)
SHELLS = torch.stack([torch.eye(2).double() * power for power in (3.0, 2.0, 1.0, 0.5, 0.3, 0.2)])
CONTEXT = SchemeContext(
    LAYOUT,
    SimpleNamespace(
        climatology=StateClimatology(
            torch.tensor(SCALING.mean).double(), ScaledCovariance(SCALING, spectral_from_shells(SHELLS, N))
        )
    ),
)
CELLS = frame_cells(1, torch.tensor([3, 4, 20, 31]), SHAPE)  # of both channels
TIME = COSINE.time_of(0.6)


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def denoiser():
    block = torch.tensor([[1.0, -0.4], [-0.4, 1.0]], dtype=torch.complex128)
    power = torch.linspace(2.0, 0.2, N * (N // 2 + 1), dtype=torch.float64).view(N, N // 2 + 1, 1, 1)
    return WindowDenoiser(window_gaussian(persistent_lags(power * block, 0.8, 2), 2), COSINE)


def curve_of(curve):
    std, mean = torch.tensor([2.0, 2.0, 0.5, 0.5]).double(), torch.tensor([0.3, 0.3, -0.1, -0.1]).double()
    values, square = numbers(4, seed=1), torch.full((4,), 0.04, dtype=torch.float64)
    return CurvePart(1, CELLS, values, square, curve, std, mean)


def background():
    return frame_part(0, numbers(2, N, N, seed=2), torch.tensor([0.1, 0.2]), SHAPE)


@pytest.mark.parametrize("known", [(), background()], ids=["alone", "with a background"])
def test_a_straight_curve_is_an_entry(known):
    part = curve_of(lambda s: 3.0 * s - 1.0)
    slope, zero = 3.0 * part.std, 3.0 * part.mean - 1.0
    entry = EntryPart(1, CELLS, (part.values - zero) / slope, part.error_variance / slope**2)
    ours = LinearisedCurves(denoiser(), (*known, part), 1e-12, 2000)
    theirs = KnownCovariance(denoiser(), WindowMeasurement((*known, entry)), denoiser().left, 1e-12)
    z = numbers(3, *SHAPE, seed=3)
    torch.testing.assert_close(ours(z, TIME), theirs(z, TIME), rtol=0, atol=1e-8)
    n_seen = 4 + 32 * bool(known)
    draws = UnitDraws({("left", 0): 64, ("seen", 0): n_seen})
    z = z[:1].expand(draws.n_states, *SHAPE)
    for one, other in zip(*(moments(x.drawn(z, TIME, draws=draws, step=0)) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_a_bent_curve_has_the_line_of_its_field():
    part, at, std = curve_of(torch.atan), numbers(2, *SHAPE, seed=4), torch.tensor([[1.0, 1.0], [0.7, 0.2]]).double()
    line = line_part(part, at, std)
    scale = torch.tensor([2.0, 0.5]).double()[:, None, None], torch.tensor([0.3, -0.1]).double()[:, None, None]
    field = Curves(lambda x: torch.atan(x * scale[0] + scale[1]), (0, 1)).line(at, std)
    for ours, theirs in ((line.mean, field.mean), (line.rise, field.slope), (line.at, field.at)):
        torch.testing.assert_close(ours, CELLS.taken(theirs), rtol=0, atol=1e-12)
    torch.testing.assert_close(line.error_variance, 0.04 + CELLS.taken(field.left), rtol=0, atol=1e-9)
    assert line.density.shape == (2,) and bool((line.density > 0).all())


@pytest.mark.parametrize(("n_seen", "square"), [(3, 1e-4), (16, 1e-2), (128, 1e-1)])
def test_few_linear_observations_leave_what_the_dense_posterior_leaves(n_seen, square):
    """What they tell on average over cells would leave a tenth of the deviation where three cells are seen."""
    size, ratio = 16, 1.5
    power = torch.linspace(3.0, 0.1, size * (size // 2 + 1)).double().view(size, size // 2 + 1, 1, 1)
    gaussian = window_gaussian(persistent_lags(power.to(torch.complex128), 0.5, 1), 1)
    cells = torch.randperm(size * size, generator=torch.Generator().manual_seed(1))[:n_seen]
    part = EntryPart(
        0, frame_cells(0, cells, (1, 1, size, size)), torch.zeros(n_seen).double(), square * torch.ones(n_seen).double()
    )
    posterior = LinearPosterior((part,), gaussian.left_covariance, 1e-10, 2000)
    _, found = posterior.about(torch.zeros(1, 1, 1, size, size).double(), ratio)
    units = torch.eye(size * size).double().view(-1, 1, 1, size, size)
    c = gaussian.left(units, ratio).flatten(1)
    gain = torch.linalg.solve(c[cells][:, cells] + square * torch.eye(n_seen).double(), c[cells]).mT
    dense = (c - gain @ c[cells]).diagonal().mean().sqrt()
    torch.testing.assert_close(found[0, 0], dense, rtol=0.05, atol=0)


def test_without_curves_nothing_changes():
    z = numbers(2, *SHAPE, seed=5)
    ours = LinearisedCurves(denoiser(), background(), 1e-12, 2000)(z, TIME)
    theirs = KnownCovariance(denoiser(), WindowMeasurement(background()), denoiser().left, 1e-12)(z, TIME)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("spec", [SdaSpec, PdediffSpec])
def test_operators_that_an_option_does_not_fit_are_refused(spec):
    steep, straight = SineSpec(scale=0.05).build(LAYOUT), PointsSpec().build(LAYOUT)
    with pytest.raises(ConfigError, match=r"sine has the scale 0\.05, 10 of which are a climatological deviation"):
        spec().build(dataclasses.replace(CONTEXT, operators=(steep,)))
    spec(linearisation="tangent").build(dataclasses.replace(CONTEXT, operators=(steep,)))
    with pytest.raises(ConfigError, match="linearisation tangent is for operators that are curves"):
        spec(linearisation="tangent").build(dataclasses.replace(CONTEXT, operators=(straight,)))


BENDS = {"arctan": (ArctanSpec, torch.atan, 8.0), "sigmoid": (SigmoidSpec, logistic, 15.0)}


def line_errors(curve, steep):
    """Largest error of the mean, and of the slope as a part of it, within 1.5 deviations; fine quadrature."""
    at, fine = torch.linspace(-1.5, 1.5, 25).double()[:, None], torch.linspace(-9, 9, 40_001).double()
    weight = torch.softmax(-0.5 * fine**2, dim=0)
    h = curve(steep * (at + fine))
    mean, rise, _ = mean_line(lambda node: curve(steep * (at[:, 0] + node)))
    expected = (h * weight).sum(dim=1), (h * weight * fine).sum(dim=1)
    return float((mean - expected[0]).abs().max()), float((rise / expected[1] - 1.0).abs().max())


@pytest.mark.parametrize("kind", BENDS)
def test_bends_are_known_up_to_their_limit_and_not_far_beyond(kind):
    _, curve, limit = BENDS[kind]
    mean, slope = line_errors(curve, limit)
    assert mean < 0.01 and slope < 0.02
    mean, slope = line_errors(curve, 1.5 * limit)
    assert mean > 0.01 or slope > 0.02


@pytest.mark.parametrize("kind", BENDS)
@pytest.mark.parametrize("spec", [SdaSpec, PdediffSpec])
def test_bends_beyond_their_limit_are_refused_for_the_variables_that_are_seen(kind, spec):
    """The deviations are 2 and 0.5; of a stream that may see either the smaller one counts, and an analysis tells."""
    curved, _, limit = BENDS[kind]

    def build(scale, channels, **options):
        operator = curved(scale=scale).build(LAYOUT)
        sites = Sites(Locations(torch.zeros(len(channels), 2).double(), torch.tensor(channels)), ("a",) * len(channels))
        stream = SeenStream("toy", operator, (lambda: sites) if channels else None)
        spec(**options).build(dataclasses.replace(CONTEXT, operators=(operator,), streams=(stream,)))

    for std, channels in ((0.5, [1]), (0.5, []), (2.0, [0, 1])):
        build(1.001 * std / limit, channels)
        with pytest.raises(ConfigError, match=rf"{kind} has the scale .* mean slope is known up to {limit:g}. Set a"):
            build(0.97 * std / limit, channels)
        build(0.97 * std / limit, channels, linearisation="tangent")


def test_an_analysis_refuses_bends_beyond_their_limit():
    measurement = WindowMeasurement((dataclasses.replace(curve_of(torch.atan), std=torch.full((4,), 8.1).double()),))
    with pytest.raises(AnalysisFailed, match=r"deviation is 8.1 scales of an observed curve; .* up to 8"):
        guided(denoiser(), COSINE, measurement, likelihood="known_covariance")
    guided(denoiser(), COSINE, measurement, likelihood="known_covariance", linearisation="tangent")


def test_a_relation_to_fields_that_weights_do_not_know_is_refused():
    with pytest.raises(ConfigError, match="relation linearised is for observed fields, and the weights know none"):
        SoadSpec(relation="linearised").build(CONTEXT)


@pytest.mark.parametrize("spec", [SdaSpec, PdediffSpec])
def test_linearisations_that_make_no_sense_are_refused(spec):
    with pytest.raises(ConfigError, match="linearisation is 'none'; valid: mean_slope, tangent"):
        spec(linearisation="none")
    with pytest.raises(ConfigError, match="linearisation tangent goes with likelihood known_covariance, got sda"):
        spec(linearisation="tangent", likelihood="sda")
