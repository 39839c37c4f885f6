"""States and fields tied by the mean slope of h: closed forms, dense matrices, and quadrature near a background."""

from __future__ import annotations

import math

import pytest
import torch

from cycler_da.bench.unit_draws import UnitDraws, moments
from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.generative.diffusion.window import WindowDenoiser
from cycler_da.generative.diffusion.window_gaussian import measure_lags, persistent_lags, window_gaussian
from cycler_da.schemes.soad import SoadSpec
from cycler_da.schemes.window.linearised_fields import Curves, FieldValues, LinearisedFields, without_fields
from cycler_da.schemes.window.mean_slope import STEEPEST
from cycler_da.schemes.window.measurement import entry_part, frame_part

FRAMES, STATES, FIELDS, N = 2, 2, 1, 4
CELLS, SHAPE = N * N, (FRAMES, STATES + FIELDS, N, N)
NX, NH = FRAMES * STATES * CELLS, FRAMES * FIELDS * CELLS
TIME = COSINE.time_of(0.7)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sine(x):
    return 1.5 * torch.sin(3.0 * x[:, 1:2])


def straight(x):
    return 0.7 * x[:, 1:2] + 0.2


def gaussian():
    drifting = [numbers(STATES, N, N, seed=1)]
    for step in range(11):
        drifting.append(0.8 * torch.roll(drifting[-1], 1, dims=-1) + 0.6 * numbers(STATES, N, N, seed=step + 2))
    return window_gaussian(measure_lags(torch.stack(drifting)[None], FRAMES, mirror=False), FRAMES)


def parts(with_background):
    seen = entry_part(
        1, STATES, torch.tensor([1, 5, 6, 11]), numbers(4, seed=30), torch.full((4,), 0.04).double(), SHAPE
    )
    if not with_background:
        return (seen,)
    return (*frame_part(0, numbers(STATES, N, N, seed=31), torch.tensor([0.09, 0.16]), SHAPE), seen)


def posterior(h, *, with_background):
    every = parts(with_background)
    return LinearisedFields(
        WindowDenoiser(gaussian(), COSINE),
        Curves(h, (1,)),
        without_fields(every, STATES, SHAPE),
        FieldValues.of(every, STATES, SHAPE),
        tolerance=1e-12,
    )


def dense(known, z, line):
    """Mean and covariance of (x, h) from matrices, for h = line(x) + e."""
    x, noisy = (part.flatten() / COSINE.mu(TIME) for part in (z[0, :, :STATES], z[0, :, STATES:]))
    units = torch.eye(NX, dtype=torch.float64).view(NX, FRAMES, STATES, N, N)
    c = gaussian().left(units, 1e8).flatten(1)
    square = COSINE.ratio(TIME) ** 2
    h_of_x = torch.zeros(NH, NX, dtype=torch.float64)
    place = torch.arange(NX).view(FRAMES, STATES, CELLS)[:, 1].flatten()
    h_of_x[torch.arange(NH), place] = line.slope.flatten()
    zero = line.mean.flatten() - line.slope.flatten() * line.at.flatten()
    mean = torch.cat([torch.zeros(NX).double(), zero])
    prior = torch.cat([torch.cat([c, c @ h_of_x.mT], 1), torch.cat([h_of_x @ c, h_of_x @ c @ h_of_x.mT], 1)])
    prior[NX:, NX:] += torch.diag(line.left.flatten())
    rows, values, variances = [torch.eye(NX + NH).double()], [torch.cat([x, noisy])], [torch.full((NX + NH,), square)]
    for part in known:
        size = STATES + FIELDS
        frame, channel = part.cells.places // (size * CELLS), part.cells.places // CELLS % size
        cell = part.cells.places % CELLS
        flat = torch.where(channel < STATES, (frame * STATES + channel) * CELLS + cell, NX + frame * CELLS + cell)
        rows.append(torch.eye(NX + NH).double()[flat])
        values.append(part.values)
        variances.append(part.error_variance)
    a, y, r = torch.cat(rows), torch.cat(values), torch.cat([v.double() for v in variances])
    gain = torch.linalg.solve(a @ prior @ a.mT + torch.diag(r), a @ prior).mT
    return mean + gain @ (y - a @ mean), prior - gain @ a @ prior


def flat(z):
    return torch.cat([z[:, :, :STATES].flatten(1), z[:, :, STATES:].flatten(1)], dim=1)


@pytest.mark.parametrize("steep", [3.0, STEEPEST])
@pytest.mark.parametrize("std", [0.05, 0.4, 1.0])
def test_the_line_of_a_sine_is_its_closed_form(std, steep):
    m = torch.linspace(-1, 1, CELLS, dtype=torch.float64).view(1, 1, 1, N, N)
    line = Curves(lambda x: 1.5 * torch.sin(steep * x), (0,)).line(m, torch.full((1, 1), std, dtype=torch.float64))
    once, twice = math.exp(-0.5 * (steep * std) ** 2), math.exp(-2.0 * (steep * std) ** 2)
    torch.testing.assert_close(line.mean, 1.5 * torch.sin(steep * m) * once, rtol=0, atol=1e-7)
    torch.testing.assert_close(line.slope, 1.5 * steep * torch.cos(steep * m) * once, rtol=0, atol=1e-7)
    spread = 1.125 * (1 - twice * torch.cos(2 * steep * m)) - line.mean**2 - (line.slope * std) ** 2
    torch.testing.assert_close(line.left, spread, rtol=0, atol=1e-7)


def test_the_line_of_an_arctangent_is_that_of_many_more_nodes():
    x = torch.linspace(-9, 9, 40_001, dtype=torch.float64)
    weight, h = torch.softmax(-0.5 * x**2, dim=0), torch.atan(3.0 * x)
    line = Curves(lambda s: torch.atan(3.0 * s), (0,)).line(torch.zeros(1, 1, 1, N, N).double(), torch.ones(1, 1))
    slope = (weight * h * x).sum()
    torch.testing.assert_close(line.slope[0, 0, 0, 0, 0], slope, rtol=1e-3, atol=0)
    torch.testing.assert_close(line.left[0, 0, 0, 0, 0], (weight * h**2).sum() - slope**2, rtol=1e-2, atol=0)


@pytest.mark.parametrize("with_background", [False, True])
def test_states_and_straight_fields_are_bayes(with_background):
    found = posterior(straight, with_background=with_background)
    z = numbers(1, *SHAPE, seed=40)
    whole = found.curves.line(torch.zeros(1, FRAMES, STATES, N, N).double(), torch.ones(FRAMES, STATES).double())
    known = parts(with_background)
    mean, _ = dense(known, z, whole)
    torch.testing.assert_close(flat(found(z, TIME))[0], mean, rtol=0, atol=1e-7)


def test_drawn_states_have_the_moments_of_the_line_and_fields_are_h_of_them():
    """About the estimate of the noisy states, which has no background here."""
    found, known = posterior(sine, with_background=False), parts(with_background=False)
    z = numbers(1, *SHAPE, seed=41)
    clean, left = found.states(z[:, :, :STATES], TIME), found.states.left(TIME)
    line = found.curves.line(clean, left.std(clean))
    mean, covariance = dense(known, z, line)
    torch.testing.assert_close(flat(found(z, TIME))[0], mean, rtol=0, atol=1e-7)
    draws = UnitDraws({("left", 0): NX, ("seen", 0): NH})
    drawn = found.drawn(z.expand(draws.n_states, *SHAPE), TIME, draws=draws, step=0)
    ours, spread = moments(drawn[:, :, :STATES].flatten(1))
    torch.testing.assert_close(ours, mean[:NX], rtol=0, atol=1e-7)
    torch.testing.assert_close(spread, covariance[:NX, :NX], rtol=0, atol=1e-7)
    for states, fields in zip(drawn[:, :, :STATES], drawn[:, :, STATES:], strict=True):
        torch.testing.assert_close(fields, sine(states), rtol=0, atol=1e-12)


def test_what_is_left_has_its_deviation():
    left, like = gaussian().left_covariance(0.7), torch.zeros(1, FRAMES, STATES, N, N).double()
    units = torch.eye(NX, dtype=torch.float64).view(NX, FRAMES, STATES, N, N)
    each = gaussian().left(units, 0.7).flatten(1).diagonal().sqrt().view(FRAMES, STATES, CELLS)
    torch.testing.assert_close(left.std(like)[..., None].expand_as(each), each, rtol=0, atol=1e-7)


def nearest_branch(error, ratio):
    """Error of the mean of one cell against quadrature, in its posterior deviations; the truth is 0.3."""
    shape, cells = (1, 2, N, N), torch.arange(CELLS)
    truth, square = 0.3, torch.full((CELLS,), 0.01).double()
    lags = persistent_lags(torch.eye(1).double().expand(N, N // 2 + 1, 1, 1), 0.5, 1)
    known = (
        *frame_part(0, torch.full((1, N, N), truth + error).double(), torch.tensor([error**2]), shape),
        entry_part(0, 1, cells, torch.full((CELLS,), 1.5 * math.sin(3 * truth) + 0.05).double(), square, shape),
    )
    found = LinearisedFields(
        WindowDenoiser(window_gaussian(lags, 1), COSINE),
        Curves(lambda x: 1.5 * torch.sin(3 * x), (0,)),
        without_fields(known, 1, shape),
        FieldValues.of(known, 1, shape),
        tolerance=1e-12,
    )
    t = COSINE.time_of(ratio)
    noisy = (truth - 0.5 * error, 1.5 * math.sin(3 * truth))
    z = COSINE.mu(t) * torch.tensor(noisy).double()[None, None, :, None, None].expand(1, *shape)
    x = torch.linspace(truth - 2, truth + 2, 400_001, dtype=torch.float64)
    h = 1.5 * torch.sin(3 * x)
    log_p = -0.5 * (x**2 + ((x - truth - error) / error) ** 2 + ((x - noisy[0]) / ratio) ** 2)
    log_p = log_p - 0.5 * (((h - noisy[1]) / ratio) ** 2 + (h - 1.5 * math.sin(3 * truth) - 0.05) ** 2 / 0.01)
    p = torch.softmax(log_p, dim=0)
    mean = (p * x).sum()
    return float((found(z, t)[0, 0, 0, 0, 0] - mean).abs() / (p * (x - mean) ** 2).sum().sqrt())


def test_near_a_background_a_fold_is_no_trouble():
    """What curvature gets wrong falls with the square of the deviation at which h is linearised."""
    for ratio in (0.2, 0.5, 2.0):
        wide, middle, narrow = (nearest_branch(error, ratio) for error in (0.2, 0.025, 0.0125))
        assert wide < 0.3 and middle < 0.03 and narrow < 0.3 * middle


def test_far_from_a_fold_and_at_large_noise_the_sine_tells_nothing():
    line = Curves(sine, (1,)).line(torch.zeros(1, 1, 2, N, N).double(), torch.ones(1, 2).double())
    assert float(line.slope.abs().max()) < 0.1 and float(line.left.min()) > 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relation": "none"}, "relation is 'none'; valid: linearised, learned"),
        ({"relation": "linearised", "variant": "published"}, "goes with likelihood known_covariance and replaced none"),
        ({"relation": "linearised", "likelihood": "sda"}, "goes with likelihood known_covariance"),
    ],
)
def test_relations_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SoadSpec(**options)


def test_the_relation_follows_the_other_options():
    assert SoadSpec().resolved().relation == "linearised"
    assert SoadSpec(variant="published").resolved().relation == "learned"
    assert SoadSpec(likelihood="moment_matching").resolved().relation == "learned"
