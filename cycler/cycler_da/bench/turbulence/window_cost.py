"""Benchmark `window_cost`: what one analysis of a window costs, scheme by scheme.

    passes     steps of the learned transition inside the denoiser for one member, a backward pass counted as two more
    seconds    processor time of one analysis for one member, one thread
    MB         growth of the resident set to its peak during the analysis

for windows of 5 and 9 daily frames and 2 and 4 members on two-layer QG, 64 x 64: a background with an error of .1
climatological deviations and arctan(3 x) in 6.25 % of the cells every second day. All window schemes take the same
number of steps, and cost in proportion to it; as published SOAD takes 256, and with four its windows may not be finite,
which changes no cost. Moment matching, a backward pass in every iteration of a solve, is measured on the shortest
window alone. Filters are there for scale: one analysis at the end of the window, without the forecasts that they need.
The grid: one denoising of nine frames by an untrained transition on 32, 64 and 128 points a side.
Limits: seconds and memory are of this machine; that the solutions cost iterations that depend on the observations.
Costs about four minutes of processor time; `--quick` has two steps and one window.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from cycler_da.bench.memory import added_at_peak
from cycler_da.bench.passes import Passes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import WEIGHTS
from cycler_da.bench.turbulence.soad_settings_cases import (
    CASES,
    ERROR,
    LAYOUT,
    STD,
    TIMES,
    background,
    make_truths,
    observe,
    scaled_to_physical,
)
from cycler_da.bench.turbulence.soad_settings_filters import LEARNED, letkf_spec
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, MissingInput
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.generative.diffusion.schedule import COSINE_SQUARED
from cycler_da.generative.diffusion.window_gaussian import persistent_lags
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.shells import Shells
from cycler_da.generative.window_weights import RATIO_AXIS, WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import SoadSpec
from cycler_da.tables.report import BenchResult, Row


@dataclass(frozen=True)
class Size:
    """How much is done."""

    n_steps: int = 4
    windows: tuple[tuple[int, int], ...] = ((5, 2), (9, 2), (9, 4))  # frames, members
    grids: tuple[int, ...] = (32, 64, 128)


MOMENTS = "SDA, moment matching"
FULL, QUICK = Size(), Size(n_steps=2, windows=((5, 2),), grids=(32,))


@benchmark("window_cost", summary="passes, seconds and memory of one window for every score-based scheme")
def window_cost(quick: bool, progress: Progress) -> BenchResult:
    """Measure every scheme on every size of window, then the grids."""
    size, rows, failures = QUICK if quick else FULL, list[Row](), list[str]()
    for folder in (WEIGHTS, LEARNED):
        if not folder.is_dir():
            raise MissingInput(f"no weights in {folder}; run from the repository root, or train them")
    torch.set_num_threads(1)
    truth = make_truths(1, 0.3 if quick else 1.5, seed=4711)[0]
    context = SchemeContext(LAYOUT, InterpolantSpec(weights=str(LEARNED)).build(LAYOUT))
    specs = schemes(size.n_steps)
    total = len(size.windows) * len(specs)
    for i_window, (frames, members) in enumerate(size.windows):
        case = f"{frames} frames, {members} members"
        for i_spec, (name, spec) in enumerate(specs.items()):
            if name == MOMENTS and i_window:
                continue
            progress(i_window * len(specs) + i_spec, total, f"{case}, {name}")
            scheme, told = spec.build(context), list[str]()
            rows += analysis_rows(case, name, scheme, *problem(truth, frames, members, context), told)
            failures += [f"{case}, {name}, measured up to its failure: {text}" for text in told]
    for grid in size.grids:
        rows += grid_rows(grid)
    return BenchResult(
        "window_cost", {"n_steps": size.n_steps, "weights": str(WEIGHTS)}, (99, 4711), tuple(rows), tuple(failures)
    )


def schemes(n_steps: int) -> Mapping[str, Any]:
    """All schemes of the table, with the same number of steps."""
    known: dict[str, Any] = {"weights": str(WEIGHTS), "n_steps": n_steps}
    return {
        "SOAD, corrected": SoadSpec(**known),
        "SOAD, as published": SoadSpec(variant="published", **known),
        "SDA, C_t of every wave": SdaSpec(**known),
        "SDA, gamma .1": SdaSpec(likelihood="sda", gamma=0.1, **known),
        MOMENTS: SdaSpec(likelihood="moment_matching", **known),
        "SDA, Gaussian without weights": SdaSpec(n_steps=n_steps, correlation=0.99),
        "PDEDiff": PdediffSpec(**known),
        "LETKF, one analysis": letkf_spec((4.0, 1.02, "members")),
        "interpolant filter, one analysis": InterpolantFilterSpec(localization_radius_cells=4, weight_stride=4),
    }


def problem(truth: torch.Tensor, frames: int, members: int, context: SchemeContext) -> tuple[Prior, Observations]:
    """Previous analysis, background and observations of a window that begins with the truth's first frame."""
    ids, noise = tuple(range(members)), Noise(99, 0)
    z = noise.normal("start", LAYOUT.state_shape, members=ids, dtype=torch.float64)
    start = (background(truth, noise) + ERROR * scaled_to_physical(z)).to(torch.float32)[:, None]
    previous = Ensemble(start, TIMES[:1], ids, LAYOUT)
    last = Ensemble(start, TIMES[frames - 1 : frames], ids, LAYOUT)
    seen = observe(replace(CASES[0], interval=2), truth, noise)[:frames]
    everything = Observations(tuple(batch for some in seen for batch in some.batches), LAYOUT)
    return Prior(last, previous, context.model), everything


def analysis_rows(
    case: str, name: str, scheme: Any, prior: Prior, observations: Observations, failures: list[str]
) -> list[Row]:
    """Passes, seconds and memory of one analysis, also of one that fails in the end."""
    passes, n = Passes(), prior.background.n_members
    known = getattr(scheme, "known", None)
    if isinstance(known, WindowPrior) and known.evaluated is not None:
        passes.watch(known.evaluated)
    spent: list[float] = []

    def work() -> None:
        begun = time.process_time()
        try:
            scheme.analyse(prior, observations, noise=Noise(7), carry={})
        except AnalysisFailed as error:
            failures.append(str(error))
        spent.append(time.process_time() - begun)

    megabytes = added_at_peak(work)
    rows = [Row(case, name, "seconds", spent[0] / n), Row(case, name, "MB", megabytes)]
    if passes.forward:
        rows.append(Row(case, name, "passes", float(passes.forward + 2 * passes.backward)))
    return rows


def grid_rows(size: int) -> list[Row]:
    """One denoising of nine frames on a grid, by the Gaussian alone and with a transition that is not trained."""
    prior, z = untrained(size, 9), torch.randn(4, 9, 2, size, size, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, known in (("transition", prior), ("Gaussian alone", replace(prior, network=None))):
        denoiser = known.denoiser(COSINE_SQUARED, 9)
        with torch.no_grad():
            denoiser(z[:1], 0.5)
            begun = time.process_time()
            denoiser(z, 0.5)
        seconds = (time.process_time() - begun) / len(z)
        rows.append(Row(f"one denoising, {size} x {size}", name, "seconds", seconds))
    return rows


def untrained(size: int, frames: int) -> WindowPrior:
    """Windows smoothed by a transition that is not trained, with gains of zero: what matters is the work."""
    arguments = {"size": size, "channels": 2, "products": 8, "stages": 4}
    network, inner = build_network(NetworkSpec("quadratic_spectral", arguments)), 3 * size // 4
    eye, shells = torch.eye(2, dtype=torch.complex128), Shells(inner).count
    shapes = {"spread": 2, "forward": 4, "back": 6}
    gains = {f"states.{frames}.{name}": torch.zeros(2, frames, shells, 2, p) for name, p in shapes.items()}
    gains[f"states.{frames}.left"] = torch.ones(2, 1, 1, 1, 1)
    gains[RATIO_AXIS] = torch.tensor([0.02, 20.0], dtype=torch.float64)
    lags = persistent_lags(eye.expand(size, size // 2 + 1, 2, 2), 0.9, frames)
    return WindowPrior(lags, Scaling((0.0, 0.0), STD), 2, 5, network, inner=inner, gains=gains)
