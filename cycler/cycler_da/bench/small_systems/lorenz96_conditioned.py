"""Benchmark `lorenz96_conditioned`: can members be guided one by one if each is told how wrong it is?

Two settings of `lorenz96_filters`, its truths, observations, trials and cycles: no noise, 40 members, all or half of
the values observed. p(x' | x, y) of every member by itself hardly assimilates, for the transition is sharp and p(y | x)
missing. Here it is drawn from weights that take the member for a state with an error (`conditioned_transition`), of a
level that is the spread of the members, or a number: the one of LEVELS with the least RMSE on other truths. LETKF and
interpolant filter have the radius and inflation that `lorenz96_filters` found.

What is learned is learned from simulations of the true model (`cycler train config/train/lorenz96_conditioned.yaml`).
About six minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cycler_da.bench.independent import independent_row
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.from_mean import FromMeanSpec
from cycler_da.bench.small_systems.lorenz96_cases import (
    CANDIDATES,
    CASES,
    OURS,
    REFERENCE,
    SEED,
    TUNING_SEED,
    WEIGHTS,
    Candidate,
    Case,
    Numbers,
)
from cycler_da.bench.small_systems.lorenz96_cycles import STD, Outcome, Size, load_ring_transition, run
from cycler_da.bench.small_systems.lorenz96_filters import FULL, QUICK, TUNING, make_rows
from cycler_da.bench.small_systems.lorenz96_search import tuning_errors
from cycler_da.errors import WeightsMismatch
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.weights import load_transition
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.tables.report import BenchResult, Row

N_MEMBERS = 40
#: Setting -> radius and inflation found by `lorenz96_filters` with as many members, the same for both filters.
SETTINGS = {"no noise, 40 observed": Numbers(20.0, 1.0), "no noise, 20 observed": Numbers(20.0, 1.0)}
#: Levels that are tried on other truths; 1 is the spread of the climate, and an observation has an error of 0.28.
LEVELS = (0.1, 0.14, 0.2, 0.28, 0.4, 0.56)
QUICK_LEVELS = (0.14, 0.28)
ALONE, SPREAD, TUNED, FREE = "guided members alone", "conditioned on spread", "conditioned on a level", "free run"
MEAN = "conditioned on a level, from the mean"


def conditioned(name: str, level: float | str) -> Candidate:
    """Members guided one by one, told a level; rings have spreads of their own."""
    spec = InterpolantFilterSpec(coupling="none", conditioning_level=level)
    return Candidate(name, _always(spec), axes={}, is_local=not isinstance(level, str))


def from_mean(name: str, level: float | str) -> Candidate:
    """Draws of the mean of the members, told a level: what differing members add to the spread is left out."""
    spec = InterpolantFilterSpec(coupling="none", conditioning_level=level)
    return Candidate(name, _always(FromMeanSpec(spec)), axes={})


#: Methods whose level is chosen on other truths.
CHOSEN: Mapping[str, Callable[[str, float], Candidate]] = {TUNED: conditioned, MEAN: from_mean}


def _always(spec: Any) -> Callable[[Numbers], Any]:
    return lambda _: spec


@dataclass(frozen=True)
class Learned:
    """The weights of the benchmark."""

    clean: Any
    told: ConditionedTransition


@benchmark("lorenz96_conditioned", summary="members of Lorenz-96 guided one by one, told how wrong they are")
def lorenz96_conditioned(quick: bool, progress: Progress) -> BenchResult:
    """Choose the level on other truths, then run all methods, setting by setting."""
    torch.set_num_threads(1)
    size, tuning, levels = (QUICK, QUICK, QUICK_LEVELS) if quick else (FULL, TUNING, LEVELS)
    cases = tuple(
        Case(one.setting, one.weights, N_MEMBERS, stride=one.stride) for one in CASES if one.setting in SETTINGS
    )
    learned = Learned(load_ring_transition("step"), load_conditioned())
    rows: list[Row] = []
    errors: dict[str, dict[str, dict[str, float]]] = {}
    for done, case in enumerate(cases):
        progress(done, len(cases), case.setting)
        errors[case.name] = {name: level_errors(case, name, learned.told, tuning, levels) for name in CHOSEN}
        chosen = {name: float(min(found, key=found.__getitem__)) for name, found in errors[case.name].items()}
        rows += run_case(case, learned, size, levels=chosen)
    return BenchResult(
        name="lorenz96_conditioned",
        config={
            "trials": size.trials,
            "cycles scored": size.scored,
            "cycles before": size.before,
            "tuning": f"{tuning.trials} other trials, {tuning.scored} cycles after {tuning.before}",
            "RMSE on other truths by level": errors,
        },
        seeds=(SEED, TUNING_SEED),
        rows=tuple(rows),
        notes=NOTES,
    )


NOTES = (
    "guided members alone: exact guidance of every member, p(x' | x, y). conditioned on spread: the same from weights "
    "that take the member for the state with a white error, as large as the spread of the members before the step; on "
    "a level: of a size chosen on other truths, the same in all cycles; from the mean: all draws are those of the "
    "ensemble mean, which takes away what differing members add to the spread.",
    "level: of the error that members were told, in climatological standard deviations; the mean over cycles of the "
    "analysis spread where that is the level.",
    "LETKF and interpolant filter: truths, observations, radius and inflation of `lorenz96_filters`.",
)


def level_errors(
    case: Case, method: str, transition: ConditionedTransition, tuning: Size, levels: tuple[float, ...]
) -> dict[str, float]:
    """RMSE of a method on other truths by level; levels that lose a trial are left out."""
    tried = {f"{level:g}": CHOSEN[method](method, level) for level in levels}
    found = {name: tuning_errors(case, one, transition, tuning, [Numbers()]) for name, one in tried.items()}
    return {name: float(error[0]) for name, error in found.items() if np.isfinite(error[0])}


def run_case(case: Case, learned: Learned, size: Size, *, levels: Mapping[str, float]) -> list[Row]:
    """All methods of a setting."""
    known: Mapping[str, Candidate] = {one.name: one for one in CANDIDATES}
    methods: list[tuple[Candidate, Any]] = [
        (known[REFERENCE], learned.clean),
        (known[OURS], learned.clean),
        (known[ALONE], learned.clean),
        (conditioned(SPREAD, "spread"), learned.told),
        *((CHOSEN[name](name, level), learned.told) for name, level in levels.items()),
        (Candidate(FREE, _always(FreeRunSpec()), axes={}), learned.clean),
    ]
    rows: list[Row] = []
    reference = np.zeros(0)
    for method, transition in methods:
        numbers = [SETTINGS[case.setting]] * size.trials
        outcome = run(case, method, transition, size, seed=SEED, numbers=numbers)
        reference = outcome.scores("rmse") if method.name == REFERENCE else reference
        rows += make_rows(case, method, outcome, reference)
        if method.name in levels:
            rows.append(Row(case.name, method.name, "level", levels[method.name]))
        if method.name == SPREAD:
            rows.append(independent_row(case.name, SPREAD, "level", spread_levels(outcome).tolist()))
    return rows


def spread_levels(outcome: Outcome) -> np.ndarray:
    """Analysis spread of every trial in climatological standard deviations."""
    return outcome.scores("spread_skill") * outcome.scores("rmse") / STD


def load_conditioned() -> ConditionedTransition:
    """Released weights that are told levels."""
    transition = load_transition(WEIGHTS / "conditioned")
    if not isinstance(transition, ConditionedTransition):
        raise WeightsMismatch(f"weights {WEIGHTS / 'conditioned'}: expected a transition that is told levels")
    return transition
