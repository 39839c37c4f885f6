"""Benchmark `window_samplers`: which chain draws windows of two-layer QG, by all that an ensemble is for.

SDA and PDEDiff with the likelihood `known_covariance`, setting I of `soad_settings` (nine daily frames of 64 x 64, a
background with an error of .1, arctan(3 x) in 6.25 % of the cells every second day), the same truths, observations and
released weights. The rows differ in the sampler and its steps alone:

    redrawn        z_0 is drawn given z_t in every step (the default, 8 steps)
    ancestral      z_0 is taken for known as its estimate: variance is lost, 57 % of a Gaussian's in 8 steps
    second_order   the probability flow, the default before

RMSE of a member falls with the spread, whatever the ensemble knows; the fair CRPS does not. `RMSE of the mean / spread`
is 1.22 for two members that are drawn from what is known. PDEDiff begins at a first frame that SDA draws given the
background. Passes are steps of the transition for a window and member, a backward pass counted as two more (a smoother
takes one product with the derivative for a frame). Limits: few windows; a case with a background alone. Costs four
minutes of one core.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial

import torch

from cycler_da.bench.passes import Passes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import WEIGHTS, seen_of
from cycler_da.bench.turbulence.soad_settings_cases import CASES, FRAMES, LAYOUT, make_truths, observe
from cycler_da.bench.turbulence.soad_settings_scores import Tried, rows_of
from cycler_da.bench.turbulence.soad_settings_windows import Drawn, Seen
from cycler_da.errors import MissingInput
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.pdediff import Pdediff, PdediffSpec
from cycler_da.schemes.sda import Sda, SdaSpec
from cycler_da.schemes.window.guess import NOISE, Beginning
from cycler_da.schemes.window.prior import window_needs
from cycler_da.tables.report import BenchResult, Row

CASE = CASES[0]
SAMPLERS = (("redrawn", 8), ("redrawn", 4), ("ancestral", 8), ("second_order", 16))
#: Of two members that are drawn from what is known: E (mean - truth)^2 = (1 + 1/2) spread^2.
CALIBRATED = math.sqrt(1.5)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    windows: int = 4
    years: float = 1.5
    samplers: tuple[tuple[str, int], ...] = SAMPLERS


FULL, QUICK = Size(), Size(windows=2, years=0.1, samplers=(("redrawn", 2), ("second_order", 2)))


@benchmark("window_samplers", summary="samplers of windows on QG: error, spread and CRPS beside cost")
def window_samplers(quick: bool, progress: Progress) -> BenchResult:
    """Draw two members of every window with every sampler."""
    size, rows = QUICK if quick else FULL, list[Row]()
    if not WEIGHTS.is_dir():
        raise MissingInput(f"no weights in {WEIGHTS}; run from the repository root, or train them with `cycler train`")
    torch.set_num_threads(1)
    truths = make_truths(size.windows, size.years, seed=4711)
    noises = [Noise(99, i) for i in range(size.windows)]
    seen = seen_of(CASE, [(x, observe(CASE, x, noise), noise) for x, noise in zip(truths, noises, strict=True)])
    known = SdaSpec(weights=str(WEIGHTS)).build(SchemeContext(LAYOUT)).known
    for i, (sampler, n_steps) in enumerate(size.samplers):
        for j, (name, draw) in enumerate(methods(known, sampler, n_steps).items()):
            progress(2 * i + j, 2 * len(size.samplers), f"{name}, {sampler}")
            found = rows_of(name, f"{sampler}, {n_steps} steps", two_members(known, draw, seen), truths)
            rows += [*found, ratio_of(found)]
    return BenchResult(
        "window_samplers",
        {"windows": size.windows, "members": 2, "case": CASE.label, "weights": str(WEIGHTS)},
        (99, 4711),
        tuple(rows),
        (f"RMSE of the mean / spread of two members that are drawn from what is known: {CALIBRATED:.2f}.",),
    )


def methods(known: WindowPrior, sampler: str, n_steps: int) -> dict[str, Drawn]:
    """The two schemes, with one prior."""
    states = Sda(SdaSpec(sampler=sampler, n_steps=n_steps), known, window_needs(known), Beginning(NOISE))
    onward = Pdediff(PdediffSpec(sampler=sampler, n_steps=n_steps), known, needs=window_needs(known))
    return {"SDA": partial(whole, states), "PDEDiff": partial(continued, states, onward)}


def whole(scheme: Sda, seen: Seen, noise: Noise, n_frames: int = FRAMES) -> torch.Tensor:
    """All frames at once."""
    shape = (n_frames, *LAYOUT.state_shape)
    keyed = MemberNoise(noise, tuple(range(len(seen.windows))), "sda", torch.float32)
    return scheme.draw(seen.measurement(scheme.known, shape), shape, keyed)


def continued(first: Sda, scheme: Pdediff, seen: Seen, noise: Noise) -> torch.Tensor:
    """On from a first frame that is drawn given the background."""
    frames, rows = whole(first, seen, noise, 1), tuple(range(len(seen.windows)))
    return scheme.continue_from(frames, seen.parts_of(scheme.known), FRAMES, noise, rows)


def two_members(known: WindowPrior, draw: Drawn, seen: Seen) -> Tried:
    """Two members of every window, with passes and seconds for one of them."""
    passes, begun, n = Passes(), time.process_time(), 2 * len(seen.windows)
    assert known.evaluated is not None
    known.evaluated._forward_hooks.clear()
    passes.watch(known.evaluated)
    pairs = zip(draw(seen, Noise(99, 1000)), draw(seen, Noise(99, 1001)), strict=True)
    frames = [torch.stack(pair).to(torch.float64) for pair in pairs]
    return Tried(frames, (time.process_time() - begun) / n, passes.total / 2)


def ratio_of(rows: list[Row]) -> Row:
    """Error of the mean of two beside their spread."""
    found = {row.metric: row.value for row in rows}
    error, spread = found["RMSE of the mean"], found["spread"]
    return Row(rows[0].case, rows[0].method, "RMSE of the mean / spread", error / spread)
