"""Schemes of the benchmark `window_cost`, and what one of them costs on a window, in a process of its own.

A window scheme analyses all frames at once. A filter is carried through the same window from the same members: a
forecast of the released transition every day, an analysis wherever there are observations; the first one of the
interpolant filter, which needs a forecast, is the LETKF's.

Every number comes from a process of its own, which has done the same once on a small grid, so that libraries are loaded
and nothing of another case is left. Memory is the growth of its resident set to the peak: what the system must give,
with what the allocator keeps of freed blocks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cycler_da.bench.memory import added_at_peak
from cycler_da.bench.passes import Passes
from cycler_da.bench.turbulence.soad_settings import WEIGHTS
from cycler_da.bench.turbulence.soad_settings_cases import ERROR, LAYOUT, STD
from cycler_da.bench.turbulence.soad_settings_filters import letkf_spec
from cycler_da.bench.turbulence.window_cost_case import NOISE, Case, Problem
from cycler_da.bench.turbulence.window_cost_grids import forecast_on, untrained_bridge, windows_on
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast.interpolant import InterpolantForecast
from cycler_da.generative.transition import Transition
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.fields import observed_fields
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.field_scaling import field_scaling
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.masf import Masf, MasfSpec
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import Soad, SoadSpec
from cycler_da.schemes.window.guess import NOISE as NOISE_START

#: Steps of MASF's bridge, as on Kolmogorov flow (`kolmogorov_masf`).
BRIDGE_STEPS = 30
#: Grid and steps of the run that loads libraries.
_SMALL, _FEW_STEPS = 16, 2
PUBLISHED, GAUSSIAN = "SOAD, Algorithm 1", "SDA, Gaussian alone"
INTERPOLANT, MASF, MASF_PUBLISHED = "interpolant filter", "MASF", "MASF, as published"
LETKF = letkf_spec((4.0, 1.02, "members"))
#: Window schemes; None: in as many steps as they take where nothing is said. All begin at noise, as the one without a
#: transition must.
_KNOWN: dict[str, Any] = {"weights": str(WEIGHTS), "background_error": ERROR, "start": NOISE_START}
WINDOW_SCHEMES: Mapping[str, Any] = {
    "SOAD, corrected": SoadSpec(**_KNOWN),
    PUBLISHED: SoadSpec(variant="published", **_KNOWN),
    "SDA, C_t of every wave": SdaSpec(**_KNOWN),
    "SDA, gamma .1": SdaSpec(likelihood="sda", gamma=0.1, **_KNOWN),
    GAUSSIAN: SdaSpec(**_KNOWN),
    "PDEDiff": PdediffSpec(weights=str(WEIGHTS)),
}
FILTERS: Mapping[str, Any] = {
    "LETKF": LETKF,
    INTERPOLANT: InterpolantFilterSpec(localization_radius_cells=4, weight_stride=4),
    f"{MASF}, bridge": MasfSpec(steps=BRIDGE_STEPS),
    MASF_PUBLISHED: MasfSpec(sampler="guided"),
}


@dataclass(frozen=True)
class Cost:
    """What a window cost, all members together; passes are for each member."""

    seconds: float
    megabytes: float
    passes: float  # of the transition
    own_passes: float  # of MASF's denoiser
    told: str = ""  # why it failed in the end


def cost_of(name: str, case: Case, truth: np.ndarray, n_steps: int | None) -> Cost:
    """Run a scheme on a window, first on a small one. For a process of its own."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*degrees of freedom")  # variance of a single member, in reports
    states = torch.from_numpy(truth)
    _prepared(name, Problem(replace(case, size=_SMALL, members=2), states), _FEW_STEPS).run()
    prepared = _prepared(name, Problem(case, states), n_steps)
    counted, told, spent = [Passes(of_members=True) for _ in prepared.networks], list[str](), list[float]()
    for passes, network in zip(counted, prepared.networks, strict=True):
        passes.watch(network)

    def timed() -> None:
        begun = time.process_time()
        told.append(prepared.run())
        spent.append(time.process_time() - begun)

    megabytes = added_at_peak(timed)
    of_each = [passes.total / case.members for passes in counted] + [0.0, 0.0]
    return Cost(spent[0], megabytes, of_each[0], of_each[1], told[0])


def steps_of(name: str) -> int:
    """Steps of a window scheme where nothing is said."""
    return int(WINDOW_SCHEMES[name].sampling().n_steps)


@dataclass(frozen=True)
class Prepared:
    """An analysis that waits to be measured, and the networks in it: the transition, and the denoiser of MASF."""

    work: Callable[[], object]
    networks: list[nn.Module]

    def run(self) -> str:
        """Do it; returns why it failed, or nothing."""
        try:
            self.work()
        except AnalysisFailed as error:
            return str(error)
        return ""


def _prepared(name: str, problem: Problem, n_steps: int | None) -> Prepared:
    """All that is read and built before the clock starts."""
    model, start = forecast_on(problem.case.size), problem.start
    if name not in WINDOW_SCHEMES:
        scheme, networks = filter_of(name, problem, model, n_steps)
        first = LETKF.build(SchemeContext(problem.layout, model)) if name == INTERPOLANT else scheme
        seen = problem.seen(is_curved=not name.startswith(MASF))
        return Prepared(lambda: cycled(scheme, first, model, start, seen, problem.times), networks)
    scheme, known = window_scheme_of(name, problem, n_steps)
    batches = tuple(batch for some in problem.seen(is_curved=True) for batch in some.batches)
    prior = Prior(replace(start, valid_times=problem.times[-1:]), start, model)
    everything = Observations(batches, problem.layout)
    networks = [] if known.evaluated is None else [known.evaluated]
    return Prepared(lambda: scheme.analyse(prior, everything, noise=Noise(7), carry={}), networks)


def window_scheme_of(name: str, problem: Problem, n_steps: int | None) -> tuple[Any, WindowPrior]:
    """A window scheme with the released windows on the grid of a problem, and those windows."""
    spec, known = WINDOW_SCHEMES[name], windows_on(problem.case.size)
    if name == GAUSSIAN:
        known = replace(known, network=None)
    spec = spec if n_steps is None else replace(spec, n_steps=n_steps)
    scheme = replace(spec.build(SchemeContext(LAYOUT)), known=known)
    if isinstance(scheme, Soad):
        scheme = replace(scheme, fields=observed_fields(known.observed, problem.layout))
    return scheme, known


def filter_of(
    name: str, problem: Problem, model: InterpolantForecast, n_steps: int | None
) -> tuple[Any, list[nn.Module]]:
    """A filter and the networks that it and its forecasts evaluate."""
    assert isinstance(model.transition, Transition)
    spec, networks = FILTERS[name], [model.transition.mean_network]
    if not name.startswith(MASF):
        return spec.build(SchemeContext(problem.layout, model)), networks
    spec, weights = replace(spec, steps=n_steps or spec.steps), untrained_bridge(problem.case.size)
    scheme = Masf(spec, problem.layout, field_scaling((0.0, 0.0), STD, problem.layout), weights)
    return scheme, [*networks, weights.model]


def cycled(
    scheme: Any,
    first: Any,
    model: InterpolantForecast,
    start: Ensemble,
    seen: list[Observations],
    times: np.ndarray,
) -> Ensemble:
    """The last analysis of a filter that goes through a window."""
    ensemble = start
    for frame, some in enumerate(seen):
        background, noise = start, Noise(NOISE.seed, frame)
        if frame:
            background = model.forecast(ensemble, times[frame : frame + 1], noise=noise)
        if not len(some):
            ensemble = background
            continue
        now = scheme if frame else first
        ensemble = now.analyse(Prior(background, ensemble, model), some, noise=noise, carry={}).ensemble
    return ensemble
