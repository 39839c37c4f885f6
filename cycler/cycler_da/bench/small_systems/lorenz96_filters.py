"""Benchmark `lorenz96_filters`: filters with a learned model on cycled Lorenz-96, beside the LETKF with the true model.

Settings and methods: `lorenz96_cases`; how they are run: `lorenz96_cycles`, how their numbers are chosen:
`lorenz96_search`. All methods see the same truths and observations. RMSE of the ensemble mean over all cycles, points
and trials; fair CRPS and spread/skill likewise; outer ranks: how often the truth is outside of the ensemble, 1 where it
is as often as it should be, 2 / (M + 1); network passes of each member and cycle, the forecast's share included.
Intervals are over trials (truths), Student's t. Rows `minus LETKF, true model` are paired: trial by trial, RMSE of the
method minus RMSE of the reference with as many members.

What is learned here is learned from simulations of the true model with its process noise (`cycler train
config/train/lorenz96_*.yaml`). About 45 minutes of one core, shared by a process for each setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from cycler_da.bench.in_processes import in_processes
from cycler_da.bench.independent import independent_row
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems import dapper_cases
from cycler_da.bench.small_systems.lorenz96_cases import (
    CANDIDATES,
    CASES,
    INFLATIONS,
    RADII,
    REFERENCE,
    SEED,
    SHARES,
    TUNING_SEED,
    WEIGHT_INFLATIONS,
    Candidate,
    Case,
    Numbers,
)
from cycler_da.bench.small_systems.lorenz96_cycles import Outcome, Size, load_ring_transition, run
from cycler_da.bench.small_systems.lorenz96_search import choose
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.sums import ScoreSums

FULL, TUNING = Size(8, 50, 100), Size(3, 25, 50)
QUICK = Size(2, 10, 10)
METRICS = {"rmse": "RMSE", "fair_crps": "fair CRPS", "spread_skill": "spread/skill"}


@dataclass(frozen=True)
class Found:
    """What was found in one case."""

    case: Case
    rows: list[Row]
    chosen: Mapping[str, Numbers]  # of every method
    ends: list[str]  # words on numbers at the end of what was tried

    def searched(self) -> dict[str, dict[str, float | None]]:
        """Numbers of the methods that have some of their own."""
        axes = {one.name: {*one.axes, "inflation"} for one in CANDIDATES if one.axes}
        return {
            name: {key: value for key, value in asdict(numbers).items() if key in axes[name]}
            for name, numbers in self.chosen.items()
            if name in axes
        }


@benchmark("lorenz96_filters", summary="filters with a learned Lorenz-96 model, beside the LETKF with the true model")
def lorenz96_filters(quick: bool, progress: Progress) -> BenchResult:
    """Choose the free numbers of every method on other truths, then run all; a process for each setting."""
    size, tuning = (QUICK, QUICK) if quick else (FULL, TUNING)
    cases = (replace(CASES[0], others=(10,)),) if quick else CASES
    settings = {case.setting: (case, size, tuning) for case in cases}
    found = [one for some in in_processes(run_setting, settings, progress) for one in some]
    return BenchResult(
        name="lorenz96_filters",
        config={
            "trials": size.trials,
            "cycles scored": size.scored,
            "cycles before": size.before,
            "tuning": f"{tuning.trials} other trials, {tuning.scored} cycles after {tuning.before}",
            "radii": list(RADII),
            "inflations": list(INFLATIONS),
            "inflations, local weights": list(WEIGHT_INFLATIONS),
            "shares, local weights": list(SHARES),
            "chosen": {one.case.name: one.searched() for one in found},
        },
        seeds=(SEED, TUNING_SEED),
        rows=tuple(row for one in found for row in one.rows),
        notes=(*NOTES, *(line for one in found for line in one.ends)),
    )


def _published() -> str:
    methods = [one for one in dapper_cases.LORENZ96.methods if one.members >= 10]
    return ", ".join(f"{one.name} {one.published:g}" for one in methods)


NOTES = (
    "One time step is 0.05; error 1 of every observation; noise: of the process, in one time step.",
    "guided members alone: exact guidance of every member, p(x' | x, y), without p(y | x). global weights: the "
    "weights of the optimal proposal, with resampling. Neither has a radius or an inflation.",
    "local weights: p(y | x) weighs the members point by point, as a transform of second order (LNETF) in place of the "
    "Kalman transform, before guidance. local particle filter: the same transform of forecasts, with the bootstrap's "
    "weights p(y | x').",
    "Radius and inflation (local weights: effective share too) of the others were chosen on other truths; adaptive "
    "inflation: radius of the plain filter, inflation from 1 on. Radius 20 reaches all of the ring.",
    "no noise, 40 observed: system, network and error of DAPPER's settings of Sakov and Oke (2008), `cycler bench "
    "dapper`; cycles, truths and first members (deviation 1, there 0.03) differ. Published there: " + _published(),
    "DAPPER's other settings of Lorenz-96 have 10 points, or observations 0.4 time units apart: there is no learned "
    "transition of them.",
)


def run_setting(case: Case, size: Size, tuning: Size) -> list[Found]:
    """A case, then the same with other numbers of members, where searches begin at what was found first."""
    torch.set_num_threads(1)
    transition = load_ring_transition(case.weights)
    first = run_case(case, CANDIDATES, transition, size, tuning, known={})
    some = tuple(one for one in CANDIDATES if one.resized)
    others = [run_case(one, some, transition, size, tuning, known=first.chosen) for one in case.resized()]
    return [first, *others]


def run_case(
    case: Case,
    candidates: tuple[Candidate, ...],
    transition: DenseTransition,
    size: Size,
    tuning: Size,
    *,
    known: Mapping[str, Numbers],
) -> Found:
    """All methods of a case; searches begin at what is known, or at what was found for another method."""
    rows: list[Row] = []
    chosen: dict[str, Numbers] = {}
    ends: list[str] = []
    reference = np.zeros(0)
    for candidate in candidates:
        numbers, at_end = choose(case, candidate, transition, tuning, start=candidate.start({**chosen, **known}))
        ends += [f"{case.name}, {candidate.name}: last value tried of {', '.join(at_end)}"] if at_end else []
        chosen[candidate.name] = numbers
        outcome = run(case, candidate, transition, size, seed=SEED, numbers=[numbers] * size.trials)
        reference = outcome.scores("rmse") if candidate.name == REFERENCE else reference
        rows += make_rows(case, candidate, outcome, reference)
    return Found(case, rows, chosen, ends)


def outer_ranks(sums: ScoreSums) -> float:
    """How often the truth has the first or last rank, divided by how often it would in a calibrated ensemble."""
    ranks = np.asarray(sums.totals.values["state"]["ranks"])
    return float((ranks[0] + ranks[-1]) / ranks.sum() * len(ranks) / 2)


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
