"""Benchmark `lorenz_masf`: MASF on Lorenz-63 and Lorenz-96 beside classical filters, EnSF and the interpolant filter.

Systems, networks and methods: `lorenz_masf_cases`. All methods see the same truths and observations and have 40 members
(particle filters more); the forecast model is the true one but for the interpolant filter. MASF: with the Gaussian of
the members as prior; with networks trained on the climate (amortised: they do not know the forecast); and fine-tuned on
the members in every cycle (120 steps, as published). Radius, inflation and the EnSF's eps_beta are searched on other
truths; networks, particle filters, and the interpolant filter of Lorenz-63 are not tuned on anything here.

RMSE of the ensemble mean, fair CRPS and spread/skill over analyses after the first ones, with intervals over truths;
`diverged` counts trials that were started afresh. Seconds are processor seconds of one analysis, its fine-tuning
included; those of the training on the climate stand in their own rows, from the weight cards. Runs are short: members
begin about a state that is as far from the truth as they are from it, and cycles 6 to 12 are scored. Slow methods have
fewer truths, the first of the same. About ten minutes of one core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.bench.independent import independent_row, spread_skill_row
from cycler_da.bench.pattern_search import pattern_search
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.lorenz_masf_cases import (
    CASES,
    MEMBERS,
    WEIGHTS,
    Case,
    Listed,
    Searched,
    Timed,
    methods,
    searched,
)
from cycler_da.bench.small_systems.twin import MOST_SCORED, Method, Run, Twin
from cycler_da.errors import AnalysisFailed
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.scores import score
from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SEED, TUNING_SEED = 20261130, 20261131


@dataclass(frozen=True)
class Size:
    """How much is run."""

    truths: Mapping[str, int]  # by what a method costs
    cycles: int
    before: int  # cycles that are not scored
    tuning_cycles: int


FULL = Size(truths={"fast": 8, "slow": 4, "slowest": 3}, cycles=12, before=5, tuning_cycles=12)
QUICK = Size(truths={"fast": 2, "slow": 1, "slowest": 1}, cycles=3, before=1, tuning_cycles=0)


@benchmark("lorenz_masf", summary="MASF on Lorenz-63 and Lorenz-96: published and corrected, beside other filters")
def lorenz_masf(quick: bool, progress: Progress) -> BenchResult:
    """Search options on other truths, then run all methods."""
    size, rows, notes = QUICK if quick else FULL, list[Row](), list[str]()
    cases = (CASES[1], CASES[2]) if quick else CASES
    for done, case in enumerate(cases):
        progress(done, len(cases), case.name)
        chosen = {name: choose(case, name, method, size, notes) for name, method in searched(case).items()}
        twin = case.twin(size.truths["fast"], size.cycles, seed=SEED)
        rows += climatology_rows(case, twin, size)
        for name, listed in methods(case, chosen).items():
            rows += method_rows(case, name, listed, twin, size, notes)
    rows += training_rows()
    return BenchResult(
        name="lorenz_masf",
        config={
            "members": MEMBERS,
            "truths": ", ".join(f"{name} methods {n}" for name, n in size.truths.items()),
            "cycles scored": f"{size.cycles - size.before} after {size.before}",
            "tuning": f"2 other truths, {size.tuning_cycles} cycles",
        },
        seeds=(SEED, TUNING_SEED),
        rows=tuple(rows),
        notes=(
            *notes,
            "Slow: EnSF and MASF, but for the Gaussian of the members in its augmented form; slowest: fine-tuned.",
            "The published settings of both systems (gaps, errors, members) could not be found; all are ours.",
        ),
    )


def choose(case: Case, name: str, method: Searched, size: Size, notes: list[str]) -> Any:
    """The options of least RMSE on other truths; a note says which."""
    if not size.tuning_cycles:
        return method.make(*method.start)
    twin = case.twin(2, size.tuning_cycles, seed=TUNING_SEED)

    def rmse(point: tuple[float, ...]) -> float:
        run = run_of(case, name, Listed(method.make(*point), is_learned=method.is_learned), twin)
        try:
            sums = [one for of_trial in scored(run, size.before) for one in of_trial]
        except AnalysisFailed:
            return np.inf
        value = score(reduce(add, sums), variable="state", metric="rmse")
        return float(np.inf if run.diverged.sum() else np.nan_to_num(value, nan=np.inf))

    found = pattern_search(method.axes, method.start, rmse)
    values = ", ".join(f"{axis} {value:g}" for axis, value in zip(method.axes, found.point, strict=True))
    notes.append(f"{case.name}, {name}: {values}{found.ends}")
    return method.make(*found.point)


def run_of(case: Case, name: str, listed: Listed, twin: Twin) -> Run:
    """A method on a twin, not yet run."""
    learned = case.learned() if listed.is_learned else None
    return Run(twin, Method(name, listed.members, listed.spec, learned))


def scored(run: Run, before: int) -> list[list[ScoreSums]]:
    """Score sums of every trial and cycle after the first ones."""
    found: list[list[ScoreSums]] = [[] for _ in range(run.twin.n_trials)]
    for cycle, states in enumerate(run, start=1):
        if cycle > before:
            for trial, members in enumerate(states):
                found[trial].append(_sums(members, run.twin.truth[trial, cycle]))
    return found


def method_rows(case: Case, name: str, listed: Listed, twin: Twin, size: Size, notes: list[str]) -> list[Row]:
    """Scores of a method with intervals over truths, and its seconds; one that fails has a row that says so."""
    own = part_of(twin, size.truths[listed.cost], size.cycles)
    timed = None if listed.spec is None else Timed(listed.spec)
    run = run_of(case, name, Listed(timed, listed.members, listed.is_learned), own)
    try:
        sums = [reduce(add, of_trial) for of_trial in scored(run, size.before)]
    except AnalysisFailed as error:
        notes.append(f"failed, {case.name}, {name}: {error}")
        return [Row(case.name, name, "failed", 1.0)]
    rows = [*score_rows(case.name, name, sums), Row(case.name, name, "diverged", float(run.diverged.sum()))]
    if timed is not None:
        rows.append(Row(case.name, name, "seconds per analysis", timed.seconds / timed.count, n=timed.count))
    return rows


def score_rows(case: str, name: str, sums: list[ScoreSums]) -> list[Row]:
    """RMSE, CRPS and spread/skill; `sums` has one entry for each truth."""
    of = {metric: [score(one, variable="state", metric=metric) for one in sums] for metric in METRICS}
    return [
        independent_row(case, name, "RMSE", of["rmse"]),
        independent_row(case, name, "fair CRPS", of["fair_crps"]),
        spread_skill_row(case, name, "spread/skill", of["rmse"], of["spread_skill"]),
    ]


METRICS = ("rmse", "fair_crps", "spread_skill")


def climatology_rows(case: Case, twin: Twin, size: Size) -> list[Row]:
    """The same ensemble of independent states at every time."""
    members = case.climate(MEMBERS, seed=SEED + 1)
    sums = [
        reduce(add, [_sums(members, twin.truth[trial, cycle]) for cycle in range(size.before + 1, size.cycles + 1)])
        for trial in range(twin.n_trials)
    ]
    return score_rows(case.name, "climatology", sums)


def part_of(twin: Twin, n_trials: int, n_cycles: int) -> Twin:
    """The first truths and cycles."""
    changed: Mapping[str, Any] = {
        "truth": twin.truth[:n_trials, : n_cycles + 1],
        "values": twin.values[:n_trials, :n_cycles],
        "centre": twin.centre[:n_trials],
    }
    return Twin(**{**twin.__dict__, **changed})


def training_rows() -> list[Row]:
    """Seconds of the trainings on the climate, from the weight cards."""
    rows = []
    for system, stem in WEIGHTS.items():
        for form in ("augmented", "dual_head"):
            card = json.loads(Path(f"{stem}_{form}", "card.json").read_text())
            rows.append(Row(system, f"training on the climate, {form}", "seconds", float(card["training"]["seconds"])))
    return rows


def _sums(members: Float[Tensor, "member channel *space"], truth: Float[Tensor, "channel *space"]) -> ScoreSums:
    thinned = members[:: max(1, len(members) // MOST_SCORED)]
    return ensemble_sums(thinned.reshape(len(thinned), 1, -1).numpy(), truth.reshape(1, -1).numpy(), names=["state"])
