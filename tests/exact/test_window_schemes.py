"""Window schemes on a Gaussian prior and linear observations, against dense Bayes over all frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gaussian_window import (
    CONTEXT,
    CORRELATION,
    FRAMES,
    LAYOUT,
    SCALING,
    START,
    STEP,
    N,
    continued,
    dense_observations,
    dense_prior,
    observations,
    prior,
)

from cycler_da.bench.unit_draws import UnitDraws, every_step, moments
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.gaussian import GaussianDenoiser
from cycler_da.generative.diffusion.schedule import COSINE, HIGH
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.shells import Shells
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.nonlinear import ArctanSpec
from cycler_da.obs.points import CellSpec, PointsSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import SoadSpec
from cycler_da.schemes.window import guess, sampling
from cycler_da.schemes.window.background import spectrum_of
from cycler_da.schemes.window.coupling import WindowCouplingSpec
from cycler_da.schemes.window.guess import LEAST_RATIO, Guess, start_ratio
from cycler_da.schemes.window.measurement import WindowMeasurement, split_by_frame
from cycler_da.schemes.window.sampling import Sampling
from cycler_da.schemes.window.state_part import state_part

PRECISE = {"n_steps": 60, "correlation": CORRELATION, "sampler": "second_order"}


def posterior(seen, background=None):
    """The dense answer: prior, background at the first frame (cells, waves), observations."""
    answer, states = dense_prior(), SCALING.to_scaled(prior().previous.latest)
    mean, n = states.mean(dim=0).flatten(), 2 * N * N
    if background == "waves":  # what the ensemble knows, in place of the climate
        answer = GaussianDenoiser(*continued(mean, covariance_of(spectrum_of(states))), COSINE)
    elif background == "cells":  # beside it
        matrix = torch.eye(answer.mean.shape[0], dtype=torch.float64)[:n]
        answer = answer.given(mean, matrix, states.var(dim=0).mean(dim=(-2, -1)).repeat_interleave(N * N))
    return answer.given(*dense_observations(seen))


def covariance_of(spectrum):
    """The dense covariance of frames of which every wave has the covariance of its shell."""
    waves = Shells(N).of_each_wave(spectrum).to(torch.complex128)
    units = torch.eye(2 * N * N, dtype=torch.float64).view(-1, 2, N, N)
    return torch.fft.irfft2(torch.einsum("ykij,bjyk->biyk", waves, torch.fft.rfft2(units)), s=(N, N)).flatten(1)


class Fixed:
    """Draws that start from given noise, the same for any member."""

    def __init__(self, start):
        self.start, self.dtype = start, torch.float64

    def normal(self, name, shape, *, step):
        assert name == "start"
        return self.start


def draw_with(monkeypatch, scheme, start, seen, before):
    """Windows that the scheme draws from given starts, or with given noise."""
    kept = {}
    original = sampling.Sampling.draw

    def watched(self, denoiser, shape, noise, **options):
        draws = start if isinstance(start, UnitDraws) else Fixed(start.view(-1, *shape))
        kept["windows"] = original(self, denoiser, shape, draws, **options)
        return kept["windows"][: before.background.n_members]

    monkeypatch.setattr(sampling.Sampling, "draw", watched)
    scheme.analyse(before, seen, noise=Noise(1), carry={})
    return kept["windows"].flatten(1)


@pytest.mark.parametrize("background", ["cells", "waves"])
@pytest.mark.parametrize(
    ("spec", "operator"), [(SdaSpec, PointsSpec()), (SoadSpec, CellSpec())], ids=["sda points", "soad cell"]
)
def test_sda_and_corrected_soad_are_the_kalman_smoother(monkeypatch, spec, operator, background):
    """The guided flow of a Gaussian is linear: mean goes to mean, and the matrix of the flow is a root of P."""
    seen, n, some = observations(operator.build(LAYOUT)), FRAMES * 2 * N * N, slice(40, 50)
    expected, scheme = posterior(seen, background), spec(background=background, **PRECISE).build(CONTEXT)
    sampling = scheme.settings.sampling()
    middle = sampling.law.mu(sampling.grid()[0]) * expected.mean
    start = middle + torch.cat([torch.zeros(1, n), torch.eye(n)[some]]).double()
    end = draw_with(monkeypatch, scheme, start, seen, prior())
    # The root of P that the flow is made of is symmetric; the grid ends at r = 0.01, systems are solved to 1.5e-3.
    values, vectors = torch.linalg.eigh(expected.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    torch.testing.assert_close(end[0], expected.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(end[1:] - end[:1], root[some], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("spec", "operator"), [(SdaSpec, PointsSpec()), (SoadSpec, CellSpec())], ids=["sda points", "soad cell"]
)
def test_by_default_both_are_the_kalman_smoother_in_three_steps(monkeypatch, spec, operator):
    """Mean and covariance of what is drawn, from every number of the noise by itself."""
    seen, n = observations(operator.build(LAYOUT)), FRAMES * 2 * N * N
    expected, scheme = posterior(seen, "waves"), spec(n_steps=3, correlation=CORRELATION).build(CONTEXT)
    assert scheme.settings.sampling().sampler == "redrawn"
    sizes = {"left": n, "seen": len(seen) + 2 * N * N, "redrawn": n}
    draws = UnitDraws({("start", 0): n, **every_step(sizes, 3)})
    mean, covariance = moments(draw_with(monkeypatch, scheme, draws, seen, prior()))
    # The start has the noise of r = 30 around 0, and systems are solved to 1.5e-3.
    torch.testing.assert_close(mean, expected.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(covariance, expected.covariance, rtol=0, atol=0.01)


def test_by_default_pdediff_draws_from_the_conditional_of_its_first_frame_in_three_steps(monkeypatch):
    seen, before = observations(), prior(2)
    scheme = PdediffSpec(n_steps=3, correlation=CORRELATION).build(CONTEXT)
    one = SCALING.to_scaled(before.previous.latest).flatten(1)[:1]
    n = one.shape[1]
    matrix = torch.eye(FRAMES * n, dtype=torch.float64)[:n]
    expected = dense_prior().given(one, matrix, torch.full((n,), 1e-9).double()).given(*dense_observations(seen))
    longer = dataclasses.replace(scheme, known=dataclasses.replace(scheme.known, frames=FRAMES))
    rest = (FRAMES - 1) * n
    draws = UnitDraws({("start", 0): rest, **every_step({"left": rest, "seen": len(seen), "redrawn": rest}, 3)})
    same = before.previous.values[:1].expand(draws.n_states, -1, -1, -1, -1)
    many = dataclasses.replace(before.previous, values=same, members=tuple(range(draws.n_states)))
    background = dataclasses.replace(before.background, values=same, members=many.members)
    mean, covariance = moments(draw_with(monkeypatch, longer, draws, seen, Prior(background, many)))
    torch.testing.assert_close(mean, expected.mean[0, n:], rtol=0, atol=0.01)
    torch.testing.assert_close(covariance, expected.covariance[n:, n:], rtol=0, atol=0.01)


def test_the_chain_that_draws_anew_goes_with_the_likelihood_that_knows_a_covariance():
    for spec in (SdaSpec, SoadSpec, PdediffSpec):
        sampling = spec().sampling()
        assert (sampling.sampler, sampling.n_steps) == ("redrawn", 8)
        sampling = spec(likelihood="sda").sampling()
        assert (sampling.sampler, sampling.n_steps) == ("second_order", 16)
        with pytest.raises(ConfigError, match=r"sampler redrawn draws with the covariance of .* got likelihood dps"):
            spec(likelihood="dps", sampler="redrawn")


@pytest.mark.parametrize("mode", ["universal", "joint"])
def test_pdediff_is_the_conditional_of_its_first_frame(monkeypatch, mode):
    seen, before = observations(), prior(2)
    scheme = PdediffSpec(mode=mode, **PRECISE).build(CONTEXT)
    known = SCALING.to_scaled(before.previous.latest).flatten(1)
    n = known.shape[1]
    matrix = torch.eye(FRAMES * n, dtype=torch.float64)[:n]
    expected = dense_prior().given(known, matrix, torch.full((n,), 1e-4 if mode == "joint" else 1e-9).double())
    expected = expected.given(*dense_observations(seen)).mean
    # With the whole window at once the network's length does not matter; without a network it is 2 frames.
    longer = dataclasses.replace(scheme, known=dataclasses.replace(scheme.known, frames=FRAMES))
    drawn = expected if mode == "joint" else expected[:, n:]
    start = COSINE.mu(scheme.settings.sampling().grid()[0]) * drawn
    end = draw_with(monkeypatch, longer, start, seen, before)
    torch.testing.assert_close(end[:, -n:], expected[:, -n:], rtol=0, atol=0.01)


def test_pdediff_goes_on_window_by_window():
    """With two frames a window, as without a network, the third frame starts from the second."""
    before, seen = prior(), observations(frames=(2,))
    scheme = PdediffSpec(correlation=CORRELATION).build(CONTEXT)
    analysis = scheme.analyse(before, seen, noise=Noise(1), carry={})
    hx = seen.hx(analysis.ensemble.latest)
    misfit = (seen.values - hx).square().mean(dim=1)
    assert bool((misfit < (seen.values - seen.hx(before.background.latest)).square().mean(dim=1)).all())


@pytest.mark.parametrize(("background", "is_same"), [("none", True), ("cells", False)])
def test_without_a_background_a_window_does_not_ask_what_was_known_before(background, is_same):
    before, seen = prior(3), observations()
    moved = before.previous.with_values(before.previous.values + 0.5)
    scheme = SdaSpec(background=background, n_steps=2, correlation=CORRELATION).build(CONTEXT)
    drawn = [
        scheme.analyse(Prior(before.background, previous), seen, noise=Noise(1), carry={}).ensemble.latest
        for previous in (before.previous, moved)
    ]
    assert torch.equal(*drawn) == is_same


def test_pdediff_takes_observations_nearest_to_the_given_frame_for_the_next():
    before, at_one = prior(2), observations(frames=(1,))
    early = dataclasses.replace(at_one.batches[0], times=at_one.batches[0].times - np.timedelta64(3000, "s"))
    scheme = PdediffSpec(correlation=CORRELATION).build(CONTEXT)
    drawn = [
        scheme.analyse(before, Observations((batch,), LAYOUT), noise=Noise(1), carry={}).ensemble.latest
        for batch in (at_one.batches[0], early)
    ]
    assert torch.equal(*drawn)


def test_published_soad_draws_near_the_posterior_but_not_from_it():
    """What the replacement and the stale score cost on a linear problem; the corrected scheme is exact (above)."""
    seen, before = observations(), prior(40)
    scheme = SoadSpec(variant="published", n_steps=32, correlation=CORRELATION).build(CONTEXT)
    analysis = scheme.analyse(before, seen, noise=Noise(1), carry={})
    states = SCALING.to_scaled(analysis.ensemble.latest).flatten(1)
    answer = posterior(seen, "cells")
    n = states.shape[1]
    mean, std = answer.mean[-n:], answer.covariance.diagonal()[-n:].sqrt()
    assert float(((states.mean(dim=0) - mean) / std).square().mean().sqrt()) < 1.0
    assert bool((states.std(dim=0) > 0.3 * std).all())


def test_observations_are_taken_at_the_nearest_frame_and_at_the_last_without_a_time():
    (batch,) = observations(frames=(1,), n_obs=4).batches
    times = START + np.array([100, 1700, 1900, 7300], dtype="m8[s]")
    times[3] = np.datetime64("NaT")
    seen = Observations((dataclasses.replace(batch, times=times),), LAYOUT)
    assert [len(some) for some in split_by_frame(seen, START + STEP * np.arange(FRAMES))] == [2, 1, 1]


@pytest.mark.parametrize("spec", [SdaSpec, SoadSpec, PdediffSpec], ids=["sda", "soad", "pdediff"])
def test_a_window_scheme_needs_the_previous_analysis_and_says_so(spec):
    before = dataclasses.replace(prior(), previous=None)
    with pytest.raises(AnalysisFailed, match="needs the previous analysis"):
        spec().build(CONTEXT).analyse(before, observations(), noise=Noise(1), carry={})


def test_without_weights_a_climatology_by_waves_is_needed():
    with pytest.raises(ConfigError, match=r"without weights it needs a forecast model with a climatology"):
        SdaSpec().build(SchemeContext(LAYOUT, None))


def test_soad_refuses_an_operator_that_its_weights_do_not_know():
    context = dataclasses.replace(CONTEXT, operators=(ArctanSpec().build(LAYOUT),))
    with pytest.raises(ConfigError, match=r"not made for the operator arctan .* know linear operators alone"):
        SoadSpec().build(context)
    with pytest.raises(AnalysisFailed, match="are of no field that the weights know"):
        SoadSpec().build(CONTEXT).analyse(prior(), observations(ArctanSpec().build(LAYOUT)), noise=Noise(1), carry={})


def test_sda_takes_any_operator_that_can_be_differentiated():
    seen = observations(ArctanSpec(scale=0.5).build(LAYOUT), error=0.1)
    before = prior()
    analysis = (
        SdaSpec(correlation=CORRELATION, n_steps=8).build(CONTEXT).analyse(before, seen, noise=Noise(1), carry={})
    )
    after, first = (seen.values - seen.hx(x.latest).mean(dim=0) for x in (analysis.ensemble, before.background))
    assert float(after.square().mean()) < 0.5 * float(first.square().mean())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SdaSpec(likelihood="none"), "likelihood is 'none'"),
        (lambda: SdaSpec(sampler="euler"), "sampler is 'euler'"),
        (lambda: SdaSpec(times="log"), "times is 'log'"),
        (lambda: SdaSpec(corrector_steps=2), "correctors go with exponential"),
        (lambda: SdaSpec(gamma=0.0), "gamma is 0.0"),
        (lambda: SdaSpec(correlation=1.0).build(CONTEXT), "correlation is 1.0"),
        (lambda: SoadSpec(variant="old"), "variant is 'old'"),
        (lambda: SoadSpec(replaced="observed"), "goes with sampler exponential"),
        (lambda: PdediffSpec(mode="plain"), "mode is 'plain'"),
        (lambda: SdaSpec(background="spectrum"), "background is 'spectrum'; valid: cells, waves, none"),
        (lambda: SdaSpec(background="none", background_error=0.1), "background none has no error"),
        (lambda: SdaSpec(background="waves", background_error=0.1), "leave one of them out"),
        (lambda: SdaSpec(background="waves", likelihood="sda"), "goes with likelihood known_covariance"),
        (lambda: SoadSpec(background="waves", variant="published"), "set background to cells"),
        (lambda: PdediffSpec(n_given=2).build(CONTEXT), "fewer than the 2 frames"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_members_do_not_depend_on_the_others_noise():
    """Keyed by id: the window of a member is the same whoever else is drawn, up to rounding."""
    scheme, seen = SdaSpec(correlation=CORRELATION, n_steps=4).build(CONTEXT), observations()
    shape = (FRAMES, 2, N, N)
    times = START + STEP * np.arange(FRAMES)
    parts = [state_part(f, some, SCALING, shape) for f, some in enumerate(split_by_frame(seen, times)) if len(some)]
    draws = [
        scheme.draw(WindowMeasurement(tuple(parts)), shape, MemberNoise(Noise(1), members, "sda"))
        for members in ((3, 7, 9), (7,))
    ]
    torch.testing.assert_close(draws[0][1:2], draws[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("spec", [SdaSpec, SoadSpec, PdediffSpec])
def test_frames_inside_the_window_become_smoothed_ones_and_leave_the_last_as_it_is(spec):
    seen, alone = observations(CellSpec().build(LAYOUT)), prior(2)
    last = alone.background
    values = last.values.expand(-1, FRAMES - 1, -1, -1, -1)
    times = START + STEP * np.arange(1, FRAMES)
    framed = Prior(Ensemble(values, times, last.members, LAYOUT), alone.previous)
    scheme = spec(n_steps=4, correlation=CORRELATION).build(CONTEXT)
    one, all_of_them = (scheme.analyse(p, seen, noise=Noise(1), carry={}).ensemble for p in (alone, framed))
    assert np.array_equal(all_of_them.valid_times, times)
    assert torch.equal(all_of_them.latest, one.latest)
    early = split_by_frame(seen, START + STEP * np.arange(FRAMES))[1]
    misfit = [(early.hx(x) - early.values).square().mean() for x in (all_of_them.values[:, 0], values[:, 0])]
    assert misfit[0] < 0.5 * misfit[1]  # errors of 0.3, backgrounds that are about one deviation off


def test_a_frame_that_is_none_of_the_window_is_refused():
    last = prior(2)
    times = START + np.array([STEP // 2, (FRAMES - 1) * STEP])
    framed = Prior(Ensemble(last.background.values.expand(-1, 2, -1, -1, -1), times, (0, 1), LAYOUT), last.previous)
    with pytest.raises(AnalysisFailed, match="expected frames of the window"):
        SdaSpec(n_steps=2).build(CONTEXT).analyse(framed, observations(), noise=Noise(1), carry={})


def test_a_window_that_begins_at_a_good_guess_is_still_drawn_from_the_posterior():
    """A sharp prior, a guess from it, observations that halve its variance: 0.05 is small beside the start's noise."""
    mean, std, n_draws = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.05, 4000
    exact = GaussianDenoiser(mean, std**2 * torch.eye(2, dtype=torch.float64), Sampling(schedule="cosine").law)
    posterior = exact.given(mean + 0.03, torch.eye(2, dtype=torch.float64), torch.full((2,), std**2).double())
    draws = MemberNoise(Noise(5), tuple(range(n_draws)), "draws", torch.float64)
    begun = Guess(mean + std * draws.normal("guess", (2,), step=0), LEAST_RATIO)
    drawn = Sampling(schedule="cosine", sampler="ancestral", n_steps=40).draw(
        posterior, (2,), draws, dtype=torch.float64, guess=begun
    )
    # What is left of the guess is std^2 / (std^2 + 0.3^2) of its error; the rest is the error of the mean.
    assert float((drawn.mean(dim=0) - mean - 0.015).abs().max()) < 0.03 * std + 5 * std / n_draws**0.5


def test_noise_at_the_start_is_three_times_the_largest_spread_and_no_less_than_a_least_one():
    spread = torch.tensor([0.02, 0.5, 0.1, 0.2], dtype=torch.float64).view(2, 2, 1, 1)  # of frames and variables
    windows = spread * Noise(5).normal("w", (2, 2, 16, 16), members=range(40), dtype=torch.float64)
    assert start_ratio(windows) == pytest.approx(1.5, rel=0.02)
    assert start_ratio(0.1 * windows) == LEAST_RATIO
    assert start_ratio(100.0 * windows) == HIGH
    assert start_ratio(0.1 * windows, 0.5) == pytest.approx(1.5)  # an error that a config gives


def test_a_member_that_is_carried_out_of_all_bounds_is_named(monkeypatch):
    windows = torch.zeros(6, FRAMES, 2, N, N)
    windows[3, -1, 0, 0, 0] = torch.inf
    monkeypatch.setattr(guess, "carried", lambda known, states, n_frames: windows)
    known = SdaSpec(correlation=CORRELATION).build(CONTEXT).known
    with pytest.raises(AnalysisFailed, match=r"sda: the transition of the weights carries members \[3\] out of all"):
        guess.Beginning("background").guess(prior(), known, observations(), FRAMES, scheme="sda")


@pytest.mark.parametrize("error", [0.4, 1.0])
def test_a_window_that_begins_at_a_poor_guess_with_its_noise_is_drawn_from_the_posterior(error):
    """Guesses that are as far off as draws of the climate cost what r^2 + s^2 is more than r^2."""
    n_draws, mean = 4000, torch.tensor([1.0, -0.5], dtype=torch.float64)
    exact = GaussianDenoiser(
        torch.zeros(2).double(), torch.eye(2, dtype=torch.float64), Sampling(schedule="cosine").law
    )
    posterior = exact.given(mean, torch.eye(2, dtype=torch.float64), torch.full((2,), 0.25).double())
    draws = MemberNoise(Noise(5), tuple(range(n_draws)), "draws", torch.float64)
    begun = Guess(mean + error * draws.normal("guess", (2,), step=0), 3.0 * error)
    drawn = Sampling(schedule="cosine", sampler="ancestral", n_steps=400).draw(
        posterior, (2,), draws, dtype=torch.float64, guess=begun
    )
    # The posterior is N(0.8 mean, 0.2): of the guess 0.2 / (0.2 + r^2) is left, of what it is off by, 0.2 of the mean.
    left = 0.2 * 0.2 / (0.2 + begun.ratio**2)
    assert float((drawn.mean(dim=0) - 0.8 * mean).abs().max()) < left + 5 * (0.2 / n_draws) ** 0.5
    torch.testing.assert_close(drawn.var(dim=0), torch.full((2,), 0.2).double(), rtol=0.1, atol=0)


def test_a_start_at_the_background_needs_a_transition_and_the_grid_of_ratios():
    for spec, scheme in ((SdaSpec, "sda"), (SoadSpec, "soad")):
        with pytest.raises(ConfigError, match=f"scheme {scheme}: start is 'background', which needs window weights"):
            spec(start="background").build(CONTEXT)
        with pytest.raises(ConfigError, match=f"scheme {scheme}: start background goes with times ratio"):
            spec(start="background", times="linear")
        with pytest.raises(ConfigError, match=r"start is 'forecast'; valid: noise, background"):
            spec(start="forecast")


@pytest.mark.parametrize("ratio", [0.1, 1.0])
def test_windows_that_begin_at_draws_of_the_posterior_stay_draws_of_it(ratio):
    """Whatever the noise, in two steps: coupled members lose nothing, and no observation counts twice."""
    seen, n, shape = observations(), FRAMES * 2 * N * N, (FRAMES, 2, N, N)
    expected, scheme = posterior(seen), SdaSpec(n_steps=2, correlation=CORRELATION).build(CONTEXT)
    sizes = {"left": n, "seen": len(seen), "redrawn": n}
    draws = UnitDraws({("guess", 0): n, ("start", 0): n, **every_step(sizes, 2)})
    root = torch.linalg.cholesky(expected.covariance)
    begun = expected.mean + draws.normal("guess", (n,), step=0) @ root.mT
    frames = split_by_frame(seen, START + STEP * np.arange(FRAMES))
    parts = [state_part(frame, some, SCALING, shape) for frame, some in enumerate(frames) if len(some)]
    drawn = scheme.draw(WindowMeasurement(tuple(parts)), shape, draws, guess=Guess(begun.view(-1, *shape), ratio))
    mean, covariance = moments(drawn)
    torch.testing.assert_close(mean, expected.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(covariance, expected.covariance, rtol=0, atol=0.01)


def test_coupled_windows_are_the_carried_ones_moved_with_half_of_their_spread_as_noise(monkeypatch):
    before, seen = prior(), observations(frames=(2,))
    windows = before.previous.values.expand(-1, FRAMES, -1, -1, -1)
    monkeypatch.setattr(guess, "carried", lambda known, states, n_frames: SCALING.to_scaled(windows))
    known, coupling = SdaSpec(correlation=CORRELATION).build(CONTEXT).known, WindowCouplingSpec().build(LAYOUT)
    begun = guess.Beginning("background", coupling=coupling).guess(before, known, seen, FRAMES, scheme="sda")
    moved = coupling.moved(windows, before, seen, scheme="sda")
    torch.testing.assert_close(SCALING.to_physical(begun.windows), moved, rtol=0, atol=1e-12)
    assert begun.ratio == pytest.approx(0.5 * guess.largest_spread(begun.windows))
    assert float((moved - windows).abs().max()) > 0.1
    same = guess.Beginning("background").guess(before, known, seen, FRAMES, scheme="sda")
    torch.testing.assert_close(same.windows, SCALING.to_scaled(windows), rtol=0, atol=0)


@pytest.mark.parametrize(("spec", "scheme"), [(SdaSpec, "sda"), (SoadSpec, "soad")])
def test_coupling_goes_with_windows_that_begin_at_the_background(spec, scheme):
    coupling = WindowCouplingSpec(localization_radius_cells=2.0)
    for options in ({"start": "noise"}, {"times": "linear"}):
        with pytest.raises(ConfigError, match=f"scheme {scheme}: coupling moves the windows that chains begin at"):
            spec(coupling=coupling, **options)
    with pytest.raises(ConfigError, match=f"scheme {scheme}: start is 'background', which needs window weights"):
        spec(coupling=coupling).build(CONTEXT)
    assert (spec(coupling=coupling).sampling().n_steps, spec().sampling().n_steps) == (2, 8)
    assert spec(coupling=coupling, n_steps=5).sampling().n_steps == 5


def test_published_soad_begins_at_noise_and_takes_no_coupling():
    with pytest.raises(ConfigError, match="coupling moves the windows"):
        SoadSpec(variant="published", coupling=WindowCouplingSpec())
