"""Benchmark `double_well`: do filters find the well, say how sure they are, and follow a switch?

dX = 4 (X - X^3) dt + 0.9 dW; a particle stays 14 time units in a well. Every 0.1 time units X^3 is observed,

    sharp    error 0.2, as in the FlowDAS paper (arXiv:2501.16642): an observation tells the well
    blurred  error 2: it takes ten observations or more, and the analysis has two modes meanwhile

RMSE and fair CRPS of the position. Event "right well", X > 0, by the share of members: Brier score; reliability, the
part of it that bad calibration costs: mean (p - frequency)^2 over tenths of the probabilities p that were said. A
switch is a passage of the truth from beyond -0.7 to beyond 0.7 or back that lasts `LASTING` cycles; it is recovered
when most members have changed sides at some time from its beginning to `LASTING` cycles after, and the delay is the
mean number of cycles until then. The learned model is the released transition of 0.1 time units. About three minutes
of one core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.twin import (
    CurvedOperator,
    Method,
    Network,
    Run,
    TrueModel,
    Twin,
    make_twin,
    score_states,
)
from cycler_da.errors import ConfigError
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.weights import load_transition
from cycler_da.noise import Noise
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.particle import ParticleSpec
from cycler_da.systems.double_well import DoubleWellSpec
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import score_interval
from cycler_da.verification.scores import event_scores, reliability, score
from cycler_da.verification.sums import ScoreSums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

SEED = 20261128
SYSTEM = DoubleWellSpec(process_noise=0.9)
N_STEPS = 5  # model steps of a cycle
WEIGHTS = "data/weights/double_well/step"
ERRORS = {"sharp": 0.2, "blurred": 2.0}
#: Cycles that a particle stays before and after what counts as a switch: 1.5 time units.
LASTING = 15
_BEYOND = 0.7


@dataclass(frozen=True)
class Switches:
    """Switches of the truth, those that the members followed, and after how many cycles."""

    n: int
    n_recovered: int
    delay: float


def methods() -> list[Method]:
    """Every method of the table."""
    learned = learned_transition()
    particle, enkf = ParticleSpec(regularisation=0.0), EnkfSpec(inflation=1.0)
    hybrid = InterpolantFilterSpec(coupling="perturbed_observations", inflation=1.0, gamma=0.25)
    alone = InterpolantFilterSpec(coupling="none")
    return [
        Method("particle filter, 5000, true model", 5000, particle),
        Method("particle filter, 100, true model", 100, particle),
        Method("EnKF, 100, true model", 100, enkf),
        Method("EnKF, 100, learned", 100, enkf, learned),
        Method("interpolant filter, 100, learned", 100, hybrid, learned),
        Method("interpolant filter, 100, gamma 1, learned", 100, replace(hybrid, gamma=1.0), learned),
        Method("guided one by one, 100, learned", 100, alone, learned, together=True),
        Method("free run, 100, true model", 100),
    ]


def learned_transition() -> LearnedTransition:
    """Released weights; raises ConfigError outside a checkout."""
    if not Path(WEIGHTS).is_dir():
        raise ConfigError(f"weights {WEIGHTS} are not in this folder; run the benchmark from the root of a checkout")
    return load_transition(Path(WEIGHTS))


@benchmark("double_well", summary="the right well, how sure, and how soon after a switch")
def double_well(quick: bool, progress: Progress) -> BenchResult:
    """Run every method on the same truths and observations."""
    n_trials, n_cycles, spin_up = (4, 60, 10) if quick else (10, 420, 20)
    jobs = [(case, method) for case in ERRORS for method in methods()]
    rows: list[Row] = []
    for done, (case, method) in enumerate(jobs):
        progress(done, len(jobs), f"{case}: {method.name}")
        twin = make_case(ERRORS[case], n_trials=n_trials, n_cycles=n_cycles)
        sums, sides = run_method(twin, method, spin_up=spin_up)
        rows += _rows(case, method.name, sums, find_switches(twin.truth[:, spin_up + 1 :, 0, 0], sides))
    config = {"trials": n_trials, "cycles scored": n_cycles - spin_up, "cycles before": spin_up, "error": ERRORS}
    return BenchResult("double_well", config, (SEED,), tuple(rows), _NOTES)


def make_case(error: float, *, n_trials: int, n_cycles: int) -> Twin:
    """Truths that begin in either well, and members anywhere."""
    model = TrueModel(SYSTEM.build(), N_STEPS)
    z = Noise(SEED).shared_normal("starts", (n_trials, 1, 1), dtype=torch.float64)
    network = Network(CurvedOperator(lambda x: x * x * x), (0,), error)
    return make_twin(model, network, z.sign(), n_cycles=n_cycles, start_std=1.0, seed=SEED)


def run_method(twin: Twin, method: Method, *, spin_up: int) -> tuple[list[ScoreSums], Bool[Tensor, "trial cycle"]]:
    """Score sums of every trial, and whether most members were in the right well."""
    scored, sides = [], []
    for cycle, states in enumerate(Run(twin, method), start=1):
        if cycle > spin_up:
            scored.append(score_states(states, twin.truth[:, cycle], thresholds={"state": (0.0,)}))
            sides.append((states > 0).to(torch.float64).mean(dim=1).flatten() > 0.5)
    return [reduce(add, trial) for trial in zip(*scored, strict=True)], torch.stack(sides, dim=1)


def find_switches(truth: Float[Tensor, "trial cycle"], sides: Bool[Tensor, "trial cycle"]) -> Switches:
    """Lasting switches of the truth and what the members made of them."""
    n, delays = 0, []
    for x, side in zip(truth, sides, strict=True):
        for before, after in _lasting_passages(x):
            n += 1
            target = bool(x[after] > 0)
            there = (side[before + 1 : after + LASTING] == target).nonzero()
            if len(there):
                delays.append(max(0, before + 1 + int(there[0]) - after))
    return Switches(n, len(delays), sum(delays) / len(delays) if delays else float("nan"))


def _lasting_passages(x: Float[Tensor, "cycle"]) -> list[tuple[int, int]]:
    """(last cycle beyond one well's mark, first beyond the other's) where both stays last."""
    marks = [(k, bool(x[k] > 0)) for k in range(len(x)) if abs(float(x[k])) > _BEYOND]
    found = []
    for (before, old), (after, new) in pairwise(marks):
        enough = before >= LASTING and after + LASTING <= len(x)
        if old != new and enough:
            stayed = bool(((x[before - LASTING : before] > 0) == old).all())
            stays = bool(((x[after : after + LASTING] > 0) == new).all())
            found += [(before, after)] if stayed and stays else []
    return found


def _rows(case: str, method: str, sums: list[ScoreSums], switches: Switches) -> list[Row]:
    rows = []
    for heading, formula in FORMULAS.items():
        estimate = score_interval(sums, formula)
        rows.append(Row(case, method, heading, estimate.value, estimate.low, estimate.high, len(sums)))
    share = switches.n_recovered / switches.n if switches.n else float("nan")
    rows.append(Row(case, method, "switches recovered", share, n=switches.n))
    return [*rows, Row(case, method, "delay, cycles", switches.delay, n=switches.n_recovered)]


def _reliability(sums: ScoreSums) -> float:
    table = reliability(sums, "state", 0.0)
    said = table["n"] > 0
    n, p = table["n"][said], table["probability"][said]
    events, bins = n * table["frequency"][said], np.minimum((10 * p).astype(int), 9)
    count, mean, share = (np.bincount(bins, weights=w, minlength=10) for w in (n, n * p, events))
    return float(((mean - share) ** 2 / np.maximum(count, 1)).sum() / count.sum())


#: Scores of the table, by heading.
FORMULAS: dict[str, Any] = {
    "RMSE": lambda sums: score(sums, variable="state", metric="rmse"),
    "fair CRPS": lambda sums: score(sums, variable="state", metric="fair_crps"),
    "spread/skill": lambda sums: score(sums, variable="state", metric="spread_skill"),
    "Brier, right well": lambda sums: event_scores(sums, "state")[0.0]["brier"],
    "reliability": _reliability,
}

_NOTES = (
    "Nothing is tuned: no inflation anywhere; gamma 0.25 is that of Lorenz-63.",
    "Reliability of few cases is above 0 even for a perfect filter: compare it with the large particle filter's.",
    "n of switches is the number of lasting switches of the truth, n of the delay that of those recovered.",
)
