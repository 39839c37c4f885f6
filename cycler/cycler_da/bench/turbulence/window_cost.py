"""Benchmark `window_cost`: what a window of two-layer QG costs, scheme by scheme, and how that grows.

    passes            steps of the learned transition for one member, a backward pass counted as two more
    own passes        the same of the network of MASF, which has no transition but in its forecasts
    seconds           processor time of the window, all members together, one thread
    seconds a member  the same for each
    MB                growth of the resident set to its peak, all members together (`window_cost_schemes`)

for five daily frames of 64 x 64 and two members, then for nine frames, for 1, 4 and 8 members, and for 32 x 32 and
128 x 128 points (`window_cost_grids`), each beside the first case: times the seconds, times the MB. A background with
an error of .1 climatological deviations, arctan(3 x) in 6.25 % of the cells every second day (`window_cost_case`).

Window schemes take their own number of steps. Algorithm 1 of SOAD takes 256; but for one row that runs them all, its
rows are of 4 steps, times 257 / 5 (evaluations are one more than steps): right for passes, too many seconds, for what
is built once is multiplied as well; the row with every step says by how much. Filters go through the same window:
forecasts by the same transition, an analysis of every second frame; they need two members at least, and 16 is what they
usually have. MASF sees the states of the same cells, and has an untrained network of its released size; as published it
is there once.
Moment matching is not here: as it is defined, its system of equations takes thousands of backward passes and does not
converge on these windows.
Limits: one run each; seconds are of this machine; conditional solves take iterations that depend on the observations.
Costs about five minutes of processor time; `--quick` has few steps and one case.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.soad_settings import WEIGHTS, require_weights
from cycler_da.bench.turbulence.soad_settings_cases import make_truths
from cycler_da.bench.turbulence.window_cost_case import Case
from cycler_da.bench.turbulence.window_cost_grids import BRIDGE
from cycler_da.bench.turbulence.window_cost_schemes import (
    BRIDGE_STEPS,
    FILTERS,
    GAUSSIAN,
    MASF,
    MASF_PUBLISHED,
    PUBLISHED,
    WINDOW_SCHEMES,
    Cost,
    cost_of,
    steps_of,
)
from cycler_da.errors import MissingInput
from cycler_da.tables.report import BenchResult, Row

BASE = Case()
GROWTH = (Case(frames=9), Case(members=1), Case(members=4), Case(members=8), Case(size=32), Case(size=128))
FULL_RUN = f"{PUBLISHED}, every step run"
#: Members that filters usually have.
MANY = Case(members=16)
#: Steps from which the cost of Algorithm 1 is told.
FEW = 4
#: In the first case alone.
ONCE = (GAUSSIAN, MASF_PUBLISHED)


@dataclass(frozen=True)
class Run:
    """A scheme on a case; `factor` is what its seconds and passes are multiplied by."""

    method: str
    case: Case
    scheme: str
    n_steps: int | None = None
    factor: float = 1.0


def runs_of(*, quick: bool) -> list[Run]:
    """All rows of the table, in its order."""
    cases = (BASE,) if quick else (BASE, *GROWTH)
    found: list[Run] = []
    for case in cases:
        for name in (*WINDOW_SCHEMES, *FILTERS):
            is_possible = name not in FILTERS or case.members > 1
            if is_possible and (name not in ONCE or case == BASE):
                found.append(run_of(name, case, quick=quick))
        if case == Case(members=1):
            found.append(Run(FULL_RUN, case, PUBLISHED))
    usual = (name for name in FILTERS if not name.startswith(MASF))
    return found if quick else [*found, *(run_of(name, MANY, quick=False) for name in usual)]


def run_of(name: str, case: Case, *, quick: bool) -> Run:
    """Of a scheme as it is, or in few steps."""
    if quick:
        return Run(name, case, name, 2)
    if name != PUBLISHED:
        return Run(name, case, name)
    return Run(f"{name} (from {FEW} steps)", case, name, FEW, (steps_of(name) + 1) / (FEW + 1))


@benchmark("window_cost", summary="passes, seconds and memory of a window for every score-based scheme and filter")
def window_cost(quick: bool, progress: Progress) -> BenchResult:
    """Measure every scheme in every case, one after the other."""
    require_weights()
    if not BRIDGE.is_dir():
        raise MissingInput(f"no weights in {BRIDGE}; run from the repository root")
    truth = make_truths(1, 0.1 if quick else 1.5, seed=4711)[0].numpy()
    runs, costs = runs_of(quick=quick), list[Cost]()
    # A process that has run nothing, for every one; forked from one that has loaded what all need.
    is_forked = "forkserver" in get_all_start_methods()
    context = get_context("forkserver" if is_forked else "spawn")
    context.set_forkserver_preload(["cycler_da.bench.turbulence.window_cost_schemes"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for i, run in enumerate(runs):
            progress(i, len(runs), f"{run.case.label}, {run.method}")
            costs.append(pool.submit(cost_of, run.scheme, run.case, truth, run.n_steps).result())
    found = dict(zip(runs, costs, strict=True))
    rows = [row for run, cost in found.items() for row in rows_of(run, cost, base_of(run, found))]
    notes = [
        f"{run.case.label}, {run.method}, measured up to its failure: {c.told}" for run, c in found.items() if c.told
    ]
    config = {
        "steps": ", ".join(f"{name} {steps_of(name)}" for name in WINDOW_SCHEMES) if not quick else 2,
        "steps of MASF": f"bridge {BRIDGE_STEPS}, as published 150" if not quick else 2,
        "weights": str(WEIGHTS),
    }
    return BenchResult("window_cost", config, (99, 4711), tuple(rows), tuple(notes))


def base_of(run: Run, found: dict[Run, Cost]) -> Cost | None:
    """The cost of the same in the first case."""
    if run.case == BASE:
        return None
    return next((cost for one, cost in found.items() if (one.case, one.method) == (BASE, run.method)), None)


def rows_of(run: Run, cost: Cost, base: Cost | None) -> list[Row]:
    """What a run says of the scheme in all of its steps, and beside the first case."""
    label, name, seconds = run.case.label, run.method, run.factor * cost.seconds
    rows = [
        Row(label, name, "seconds", seconds),
        Row(label, name, "seconds a member", seconds / run.case.members),
        Row(label, name, "MB", cost.megabytes),
    ]
    for metric, passes in (("passes", cost.passes), ("own passes", cost.own_passes)):
        if passes:
            rows.append(Row(label, name, metric, run.factor * passes))
    if base is not None:
        rows.append(Row(label, name, "times the seconds", cost.seconds / base.seconds))
        rows.append(Row(label, name, "times the MB", cost.megabytes / base.megabytes))
    return rows
