"""Benchmark of recovery: every fault drill many times, each at another random point (`cycler drill` runs single ones).

    recovered    share of trials after which everything was as in a run that nothing disturbed, or as the rule for the
                 fault says, at most one command later
    wrong        share of trials in which anything else was published
    cycles       commands until then, the largest of all trials
    lost         complete cycles that were there before and not after, of all trials

About 15 CPU minutes; `--quick` runs two trials of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from cycler_da.bench.registry import Progress, benchmark, no_progress
from cycler_da.bench.shares import share_row
from cycler_da.drills.catalogue import DRILLS, NOT_DRILLED, chosen
from cycler_da.drills.trials import FaultDrill, Outcome, open_ground, run_trials
from cycler_da.products.provenance import code_version
from cycler_da.tables.machine import machine
from cycler_da.tables.report import BenchResult, Row

SEED = 1


@benchmark("drill", summary="faults: share of recoveries, wrong publications, cycles to recover, data lost")
def drill(quick: bool, progress: Progress) -> BenchResult:
    """Run all drills."""
    return drill_result([], trials=2 if quick else None, seed=SEED, progress=progress)


def drill_result(
    names: Sequence[str], *, trials: int | None, seed: int, progress: Progress = no_progress
) -> BenchResult:
    """Run drills by name (all without names) and count what came of them; raises ConfigError for an unknown name."""
    drills, commit = chosen(names), code_version()
    total = sum(trials or one.trials for one in drills)
    with open_ground() as ground:
        count = iter(range(total))
        found = run_trials(
            drills, ground, trials=trials, seed=seed, on_trial=lambda name: progress(next(count), total, name)
        )
    failures = [f"{name}: {one.told}" for name, all_of in found.items() for one in all_of if one.told]
    return BenchResult(
        name="drill",
        commit=commit,
        machine=machine(),
        command=f"cycler drill {' '.join([*names, *([f'--trials {trials}'] if trials else []), f'--seed {seed}'])}",
        config={"system": "two-layer QG, 16 x 16, 6 members, 2 cycles, LETKF", "trials": total},
        seeds=(seed,),
        rows=tuple(row for one in drills for row in _rows(one, found[one.name])),
        notes=(
            *(f"NOT AS IT SHOULD BE: {text}" for text in failures),
            *(f"Not drilled, {number}: {text}." for number, text in NOT_DRILLED.items() if len(drills) == len(DRILLS)),
        ),
    )


def _rows(one: FaultDrill, outcomes: Sequence[Outcome]) -> list[Row]:
    case = f"{one.number} {one.fault}"
    return [
        share_row(case, one.name, "recovered", sum(o.recovered for o in outcomes), len(outcomes)),
        share_row(case, one.name, "wrong", sum(o.wrong for o in outcomes), len(outcomes)),
        Row(case, one.name, "cycles", float(max(o.cycles for o in outcomes)), n=len(outcomes)),
        Row(case, one.name, "lost", float(sum(o.lost for o in outcomes)), n=len(outcomes)),
    ]
