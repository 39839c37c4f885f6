"""Benchmark `navier_stokes_cycled`: driven turbulence over many cycles from an uncertain start.

5 % of the cells, the same in every cycle, are observed every 0.2 time units with error 0.05 deviations; members start
with errors of 0.25 deviations of the climate about the truth. Localization radius and inflation of each method are
searched (`bench.pattern_search`) on a truth of their own, by the CRPS of the analysis in the second half of its cycles.
Scores are means over the cycles after the spin-up, intervals over truths. A truth on which a method fails (its members
are not finite) has no scores and is counted as lost. Models and errors are those of `navier_stokes`.

One cell in twenty is one observation in the square of a correlation length, and what most changes a field within a
cycle are four numbers of noise, the same for all of it. Methods that localize every covariance cannot see that; the
coupling by square roots of the interpolant filter has the whole covariance of the model's noise
(`schemes.ensemble.root_smoother`). About 35 minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from cycler_da.bench.independent import pooled_spread_skill
from cycler_da.bench.pattern_search import Found, pattern_search
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.navier_stokes_case import (
    MEMBERS,
    METRICS,
    SEED,
    START,
    SYSTEM,
    WEIGHTS,
    Metrics,
    Models,
    at_time,
    ensemble_of,
    make_models,
    metric_rows,
    observe,
    scores_of,
)
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast import ForecastModel
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.observations_only import ObservationsOnlySpec
from cycler_da.tables.report import BenchResult, Row

START_ERROR = 0.25  # deviations
SETTING = "SO 5 %"
EVERY = 2  # model steps of a cycle
#: Cells, and factors; a search begins at the second pair.
AXES = {"radius": (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0), "inflation": (1.0, 1.02, 1.05, 1.1, 1.15, 1.25)}
FIRST = (5.0, 1.05)
TUNING_TRUTH = 0
OURS = "interpolant filter, square roots"


@dataclass(frozen=True)
class Size:
    """How much is run."""

    truths: int
    cycles: int
    spin_up: int
    tuning_cycles: int  # 0: no search


FULL, QUICK = Size(4, 40, 20, 20), Size(1, 2, 1, 0)


Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Chain:
    """A method: its forecast model, and its scheme with a radius and an inflation."""

    model: ForecastModel
    make: Callable[[float, float], Any]
    is_tuned: bool = True


@benchmark("navier_stokes_cycled", summary="driven turbulence over many cycles, learned and true model")
def navier_stokes_cycled(quick: bool, progress: Progress) -> BenchResult:
    """Tune every method on one truth and cycle it on others."""
    size, models = QUICK if quick else FULL, make_models()
    chains = chains_of(models)
    rows, chosen = list[Row](), dict[str, str]()
    for done, (name, chain) in enumerate(chains.items()):
        progress(done, len(chains), name)
        found = choose(models, chain, size)
        radius, inflation = found.point
        if chain.is_tuned:
            chosen[name] = f"radius {radius:g}, inflation {inflation:g} (best of {found.n_scored}{found.ends})"
        truths = range(TUNING_TRUTH + 1, TUNING_TRUTH + 1 + size.truths)
        judged = [scores_on(models, chain, chain.make(radius, inflation), truth, size) for truth in truths]
        whole = [scores for scores in judged if scores is not None]
        rows += metric_rows(SETTING, name, whole)
        rows.append(Row(SETTING, name, "lost", float(len(judged) - len(whole)), n=len(judged)))
    config = {**asdict(size), "members": MEMBERS, "weights": str(WEIGHTS), "chosen": chosen}
    return BenchResult("navier_stokes_cycled", config, (SEED,), tuple(rows), ("Units: deviations of the climate.",))


def chains_of(models: Models) -> dict[str, Chain]:
    """Every method of the table."""
    return {
        OURS: Chain(models.learned, _root_filter),
        "interpolant filter, transform": Chain(models.learned, _filter),
        "LETKF, learned model": Chain(models.learned, _letkf),
        "LETKF, true model": Chain(models.true, _letkf),
        "EnKF, true model": Chain(models.true, _enkf),
        "observations alone": Chain(models.learned, lambda *_: ObservationsOnlySpec(), is_tuned=False),
        "free run, learned model": Chain(models.learned, lambda *_: FreeRunSpec(), is_tuned=False),
    }


def scores_on(models: Models, chain: Chain, scheme: Any, truth: int, size: Size) -> Metrics | None:
    """Mean scores on a truth after the spin-up; None when the method fails on it."""
    try:
        pairs = list(cycle(models, chain.model, scheme, truth, size.cycles))[size.spin_up :]
        return mean_scores([scores_of(*pair) for pair in pairs])
    except AnalysisFailed:
        return None


def choose(models: Models, chain: Chain, size: Size) -> Found:
    """The radius and inflation with the least CRPS on the tuning truth; a pair that fails comes last."""
    if not (chain.is_tuned and size.tuning_cycles):
        return Found(FIRST, np.nan, 0, ())
    short = replace(size, cycles=size.tuning_cycles, spin_up=size.tuning_cycles // 2)

    def crps(pair: tuple[float, float]) -> float:
        scores = scores_on(models, chain, chain.make(*pair), TUNING_TRUTH, short)
        return np.inf if scores is None else scores["crps"]

    return pattern_search(AXES, FIRST, crps)


def cycle(models: Models, model: ForecastModel, spec: Any, truth_index: int, n_cycles: int) -> Iterator[Pair]:
    """Members of the analysis of every cycle, and the truth."""
    layout, step = SYSTEM.layout(), SYSTEM.layout().step
    seed = SEED + 1000 * (1 + truth_index)
    truth = ensemble_of(SYSTEM.spun_up(Noise(seed), members=[0]), START)
    states = _first_members(models, truth.latest, seed)
    scheme, carry = spec.build(SchemeContext(layout, model)), dict[str, torch.Tensor]()
    for i in range(1, n_cycles + 1):
        time = START + i * EVERY * step
        truth = models.true.forecast(truth, np.array([time]), noise=Noise(seed, 1000 + i))
        steps = model.forecast(states, time - step * np.array([1, 0]), noise=Noise(seed, 2000 + i))
        prior = Prior(at_time(steps, 1), at_time(steps, 0), model)
        seen = observe(SETTING, truth.latest[0], index=(1 + truth_index) * 1000 + i, time=time)
        # The last step is drawn anew from the state before it, under another key.
        analysis = scheme.analyse(prior, seen, noise=Noise(seed, 3000 + i), carry=carry)
        states, carry = at_time(analysis.ensemble, -1), dict(analysis.carry)
        yield states.latest, truth.latest[0]


def mean_scores(scores: Sequence[Metrics]) -> Metrics:
    """Means over cycles: root mean squares of errors, spread/skill from summed squares."""
    found = {key: np.array([one[key] for one in scores]) for key in METRICS}
    errors = {key: float(np.sqrt(np.mean(found[key] ** 2))) for key in ("rmse", "member")}
    spread_skill = pooled_spread_skill(list(found["rmse"]), list(found["spread_skill"]))
    return {**errors, "crps": float(found["crps"].mean()), "spread_skill": spread_skill}


def _first_members(models: Models, truth: torch.Tensor, seed: int) -> Any:
    climatology = models.learned.climatology
    assert climatology is not None
    shape = SYSTEM.layout().state_shape
    z = Noise(seed, 1).normal("start", shape, members=range(MEMBERS + 1), dtype=torch.float64)
    p = START_ERROR * climatology.covariance.color(z)
    return ensemble_of((truth.to(torch.float64) + p[1:] - p[:1]).to(torch.float32), START)


def _filter(radius: float, inflation: float) -> InterpolantFilterSpec:
    return InterpolantFilterSpec(localization_radius_cells=radius, weight_stride=2, inflation=inflation)


def _root_filter(radius: float, inflation: float) -> InterpolantFilterSpec:
    return InterpolantFilterSpec(coupling="square_root", localization_radius_cells=radius, inflation=inflation)


def _enkf(radius: float, inflation: float) -> EnkfSpec:
    return EnkfSpec(localization_radius_cells=radius, inflation=inflation)


def _letkf(radius: float, inflation: float) -> LetkfSpec:
    return LetkfSpec(localization_radius_cells=radius, weight_stride=2, inflation=inflation)
