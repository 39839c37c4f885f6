"""Curves of cells by their mean slope: a straight one is an entry, a bent one the line of the field it belongs to."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.unit_draws import UnitDraws, moments
from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.likelihood import KnownCovariance
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.generative.diffusion.window import WindowDenoiser
from cycler_da.generative.diffusion.window_gaussian import persistent_lags, window_gaussian
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.window.cells import CurvePart, EntryPart, frame_cells
from cycler_da.schemes.window.linearised_fields import Curves
from cycler_da.schemes.window.mean_slope import LinearisedCurves, line_part
from cycler_da.schemes.window.measurement import WindowMeasurement, frame_part

N, SHAPE = 4, (2, 2, 4, 4)
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


def test_without_curves_nothing_changes():
    z = numbers(2, *SHAPE, seed=5)
    ours = LinearisedCurves(denoiser(), background(), 1e-12, 2000)(z, TIME)
    theirs = KnownCovariance(denoiser(), WindowMeasurement(background()), denoiser().left, 1e-12)(z, TIME)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("spec", [SdaSpec, PdediffSpec])
def test_linearisations_that_make_no_sense_are_refused(spec):
    with pytest.raises(ConfigError, match="linearisation is 'none'; valid: mean_slope, tangent"):
        spec(linearisation="none")
    with pytest.raises(ConfigError, match="linearisation tangent goes with likelihood known_covariance, got sda"):
        spec(linearisation="tangent", likelihood="sda")
