"""Benchmark `lorenz96_filters`: filters with a learned model on cycled Lorenz-96, beside the LETKF with the true model.

Settings and methods: `lorenz96_cases`. All methods see the same truths and observations. RMSE of the ensemble mean over
all cycles, points and trials; fair CRPS and spread/skill likewise; outer ranks: how often the truth is outside of the
ensemble, 1 where it is as often as it should be, 2 / (M + 1); network passes of each member and cycle, the forecast's
share included. Intervals are over trials (truths), Student's t. Rows `minus LETKF, true model` are paired: trial by
trial, RMSE of the method minus RMSE of the reference.

A trial is lost when a member is far from the attractor (|X| > 100) or not finite: its ring starts afresh so that the
others may go on, the trial has no scores, and the row `lost trials` counts it. The radius is searched on other truths,
all inflations of a radius at once (`pattern_search`); a pair that loses a trial comes last.

What is learned here is learned from simulations of the true model with its process noise (`cycler train
config/train/lorenz96_*.yaml`). About 45 minutes of one core, shared by a process for each case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from multiprocessing import get_context
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.bench.independent import independent_row
from cycler_da.bench.pattern_search import pattern_search
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.lorenz96_cases import (
    CANDIDATES,
    CASES,
    FIRST_RADIUS,
    FROZEN,
    INFLATIONS,
    RADII,
    REFERENCE,
    SEED,
    TUNING_SEED,
    WEIGHTS,
    Candidate,
    Case,
)
from cycler_da.bench.small_systems.rings import START, RingModel, RingTransition, RingTwin, make_ring_twin
from cycler_da.ensemble import Ensemble
from cycler_da.errors import WeightsMismatch
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.weights import load_transition
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.ensemble.adaptive_inflation import FACTOR, AdaptiveInflationSpec
from cycler_da.schemes.ensemble.adaptive_inflation import STD as FACTOR_STD
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.scores import score
from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

ERROR, START_STD = 1.0, 1.0
SPIN_UP_TRUTH = 400  # time steps, from a state drawn about the climatological mean
MEAN, STD = 2.34, 3.63
FAR = 100.0  # the attractor reaches 15
METRICS = {"rmse": "RMSE", "fair_crps": "fair CRPS", "spread_skill": "spread/skill"}


@dataclass(frozen=True)
class Size:
    """How much is run: trials, cycles before the scored ones, and scored ones."""

    trials: int
    before: int
    scored: int


FULL, TUNING = Size(8, 50, 100), Size(3, 25, 50)
QUICK = Size(2, 10, 10)


@dataclass(frozen=True)
class Outcome:
    """One method on one case: scores of every trial, which trials were lost, and what it cost."""

    sums: list[ScoreSums]
    lost: list[bool]
    passes: float

    def scores(self, metric: str) -> np.ndarray:
        """A score of every trial; NaN for lost ones."""
        return self.of_trials(lambda sums: score(sums, variable="state", metric=metric))

    def of_trials(self, read: Callable[[ScoreSums], float]) -> np.ndarray:
        """A number of every trial; NaN for lost ones."""
        return np.array([np.nan if lost else read(sums) for sums, lost in zip(self.sums, self.lost, strict=True)])


@benchmark("lorenz96_filters", summary="filters with a learned Lorenz-96 model, beside the LETKF with the true model")
def lorenz96_filters(quick: bool, progress: Progress) -> BenchResult:
    """Choose the free numbers of every method on other truths, then run all; each case has a process."""
    size, tuning = (QUICK, QUICK) if quick else (FULL, TUNING)
    cases = CASES[:1] if quick else CASES
    rows: list[Row] = []
    chosen: dict[str, Mapping[str, Any]] = {}
    ends: list[str] = []
    with ProcessPoolExecutor(len(cases), mp_context=get_context("spawn")) as pool:  # a fork would share torch's threads
        waiting = [pool.submit(run_case, case, size, tuning) for case in cases]
        for done, (case, found) in enumerate(zip(cases, waiting, strict=True)):
            progress(done, len(cases), case.name)
            of_case, chosen[case.name], of_ends = found.result()
            rows += of_case
            ends += of_ends
    return BenchResult(
        name="lorenz96_filters",
        config={
            "trials": size.trials,
            "cycles scored": size.scored,
            "cycles before": size.before,
            "tuning": f"{tuning.trials} other trials, {tuning.scored} cycles after {tuning.before}",
            "radii": list(RADII),
            "inflations": list(INFLATIONS),
            "chosen": chosen,
        },
        seeds=(SEED, TUNING_SEED),
        rows=tuple(rows),
        notes=(
            "One time step is 0.05; error 1 of every observation; noise: of the process, in one time step.",
            "guided members alone: exact guidance of every member, p(x' | x, y), without p(y | x). global weights: the "
            "weights of the optimal proposal, with resampling. Neither has a radius or an inflation.",
            "Radius and inflation of the others were chosen on other truths. Two passes: as the plain interpolant "
            "filter; adaptive inflation: its radius, and inflation from 1 on.",
            *ends,
        ),
    )


def run_case(case: Case, size: Size, tuning: Size) -> tuple[list[Row], dict[str, Any], list[str]]:
    """Rows of all methods of a case, the numbers that were chosen, and which of them are the last that were tried."""
    torch.set_num_threads(1)
    transition = load_ring_transition(case.weights)
    rows: list[Row] = []
    chosen: dict[str, tuple[float, float | None]] = {}
    ends: list[str] = []
    reference = np.zeros(0)
    for candidate in CANDIDATES:
        if candidate.as_in is not None:
            radius, inflation = chosen[candidate.as_in]
        else:
            radius, inflation, at_end = choose(case, candidate, transition, tuning)
            ends += [f"{case.name}, {candidate.name}{at_end}"] if at_end else []
        chosen[candidate.name] = radius, None if candidate.adapts else inflation
        inflations = [chosen[candidate.name][1]] * size.trials
        outcome = run(case, candidate, transition, size, seed=SEED, radius=radius, inflations=inflations)
        reference = outcome.scores("rmse") if candidate.name == REFERENCE else reference
        rows += make_rows(case, candidate, outcome, reference)
    names = [candidate.name for candidate in CANDIDATES if candidate.tuned and candidate.as_in is None]
    return rows, {name: dict(zip(("radius", "inflation"), chosen[name], strict=True)) for name in names}, ends


def choose(case: Case, candidate: Candidate, transition: DenseTransition, size: Size) -> tuple[float, float, str]:
    """Radius and inflation with the least RMSE on the tuning truths, and words on a value that is the last tried."""
    if not candidate.tuned:
        return FIRST_RADIUS, 1.0, ""
    best: dict[float, float] = {}
    factors = [factor for factor in INFLATIONS for _ in range(size.trials)]

    def least(point: tuple[float, ...]) -> float:
        """Least RMSE among the inflations of a radius, which are tried at once."""
        found = run(case, candidate, transition, size, seed=TUNING_SEED, radius=point[0], inflations=factors)
        squares = found.scores("rmse").reshape(len(INFLATIONS), size.trials) ** 2
        errors = np.nan_to_num(np.sqrt(squares.mean(axis=1)), nan=np.inf)
        best[point[0]] = INFLATIONS[int(errors.argmin())]
        return float(errors.min())

    found = pattern_search({"radius": RADII}, (FIRST_RADIUS,), least)
    radius, inflation = found.point[0], best[found.point[0]]
    at_end = (*found.at_end, *(("inflation",) if inflation == INFLATIONS[-1] else ()))
    return radius, inflation, replace(found, at_end=at_end).ends


def run(
    case: Case,
    candidate: Candidate,
    transition: DenseTransition,
    size: Size,
    *,
    seed: int,
    radius: float,
    inflations: Sequence[float | None],
) -> Outcome:
    """Cycle one method on all trials, once for each inflation given (None: its own, from 1)."""
    twin = twin_of(case, size, seed).select([i % size.trials for i in range(len(inflations))])
    parts = [range(len(inflations))] if candidate.is_local else [range(i, i + 1) for i in range(len(inflations))]
    outcomes = [
        cycle_rings(twin.select(part), case, candidate, transition, size, radius, [inflations[i] for i in part])
        for part in parts
    ]
    sums = [sums for outcome in outcomes for sums in outcome.sums]
    return Outcome(sums, [lost for outcome in outcomes for lost in outcome.lost], outcomes[0].passes)


def cycle_rings(
    twin: RingTwin,
    case: Case,
    candidate: Candidate,
    transition: DenseTransition,
    size: Size,
    radius: float,
    inflations: Sequence[float | None],
) -> Outcome:
    """Cycle one method on the rings of a twin."""
    layout, counted = twin.layout, RingTransition(transition)
    model = InterpolantForecast(layout, counted, (0.0,), "rings")
    adapt = AdaptiveInflationSpec() if candidate.adapts else FROZEN
    scheme = candidate.make(radius / 1000.0, adapt).build(SchemeContext(layout, model))
    carry: Mapping[str, Tensor] = {} if candidate.adapts else _carried(inflations, layout)
    ids = tuple(range(case.n_members))
    sums: list[list[ScoreSums]] = [[] for _ in inflations]
    first = states = twin.first_members(case.n_members, START_STD)
    lost = torch.zeros(len(inflations), dtype=torch.bool)
    n_cycles = size.before + size.scored
    for cycle in range(1, n_cycles + 1):
        noise, time = Noise(twin.seed, cycle), START + cycle * layout.step
        if candidate.learned:
            start = Ensemble(states[:, None], np.array([time - layout.step]), ids, layout)
            ahead = model.forecast(start, np.array([time]), noise=noise).latest
        else:
            ahead = twin.model.advance(states, noise, stream="forecast")
        gone = diverged(ahead)
        lost |= gone
        before, background = (
            Ensemble(started_afresh(x, first, gone)[:, None], np.array([when]), ids, layout)
            for x, when in ((states, time - layout.step), (ahead, time))
        )
        prior = Prior(background, before, model)
        analysis = scheme.analyse(prior, twin.observations(cycle), noise=noise, carry=carry)
        states, carry = analysis.ensemble.latest, analysis.carry
        if cycle > size.before:
            for ring, of_ring in enumerate(sums):
                of_ring.append(_sums(states[:, 0, ring], twin.truth[cycle, ring]))
    passes = counted.n_passes / (n_cycles * case.n_members)
    return Outcome([reduce(add, of_ring) for of_ring in sums], lost.tolist(), passes)


def twin_of(case: Case, size: Size, seed: int) -> RingTwin:
    """Truths and observations of a case; the same for all methods."""
    dynamics = case.system.build()
    z = Noise(seed).shared_normal("first", (size.trials, case.system.size), dtype=torch.float64)
    first = RingModel(dynamics, SPIN_UP_TRUTH).advance((MEAN + STD * z)[None, None], Noise(seed), stream="spin up")
    n_cycles, model = size.before + size.scored, RingModel(dynamics, case.n_steps)
    return make_ring_twin(model, first[0, 0], n_cycles=n_cycles, stride=case.stride, error=ERROR, seed=seed)


def make_rows(case: Case, candidate: Candidate, outcome: Outcome, reference: np.ndarray) -> Iterator[Row]:
    """All scores of a method."""

    def row(metric: str, series: np.ndarray) -> Row:
        return independent_row(case.name, candidate.name, metric, series.tolist())

    for metric, heading in METRICS.items():
        yield row(heading, outcome.scores(metric))
    yield row("outer ranks", outcome.of_trials(outer_ranks))
    yield Row(case.name, candidate.name, "lost trials", float(sum(outcome.lost)), n=len(outcome.lost))
    if candidate.name != REFERENCE:
        yield row(f"RMSE minus {REFERENCE}", outcome.scores("rmse") - reference)
    if candidate.learned:
        yield Row(case.name, candidate.name, "network passes", outcome.passes)


def diverged(states: Float[Tensor, "member 1 ring x"]) -> Bool[Tensor, "ring"]:
    """Rings of which a member is far from the attractor, or not finite."""
    return ~(states.abs() <= FAR).all(dim=3).all(dim=0)[0]


def started_afresh(states: Tensor, first: Tensor, gone: Bool[Tensor, "ring"]) -> Float[Tensor, "member 1 ring x"]:
    """The states, with those of the first cycle in rings that are gone."""
    return torch.where(gone[:, None], first, states)


def outer_ranks(sums: ScoreSums) -> float:
    """How often the truth has the first or last rank, divided by how often it would in a calibrated ensemble."""
    ranks = np.asarray(sums.totals.values["state"]["ranks"])
    return float((ranks[0] + ranks[-1]) / ranks.sum() * len(ranks) / 2)


def load_ring_transition(name: str) -> DenseTransition:
    """Released weights of one ring."""
    transition = load_transition(WEIGHTS / name)
    if not isinstance(transition, DenseTransition):
        raise WeightsMismatch(f"weights {WEIGHTS / name}: expected a dense transition, got {type(transition).__name__}")
    return transition


def _carried(inflations: Sequence[float | None], layout: Layout) -> dict[str, Tensor]:
    """One factor for each ring, for schemes that carry them."""
    column = torch.tensor([1.0 if factor is None else factor for factor in inflations], dtype=torch.float64)
    factor = column[None, :, None].expand(1, *layout.grid.shape).clone()
    return {FACTOR: factor, FACTOR_STD: torch.full_like(factor, FROZEN.std)}


def _sums(members: Tensor, truth: Tensor) -> ScoreSums:
    return ensemble_sums(members[:, None].numpy(), truth[None].numpy(), names=["state"])
