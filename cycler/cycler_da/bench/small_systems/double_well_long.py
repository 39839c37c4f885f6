"""Benchmark `double_well_long`: what is a residual that is not Gaussian worth in a filter?

dX = 4 (X - X^3) dt + 0.9 dW, observed once in a time unit: a particle that stands near the barrier is in either well by
then, and one in 14 in a well has left it. X^3 is observed with error

    sharp    0.2: an observation tells the well
    blurred  1: it takes several observations

The learned model is the released transition of one time unit, with a denoiser of its residual. Draws, in forecasts and
in guided analyses alike, take 1, 2, 5 or 10 points of tau; one point is the Gaussian, bit for bit, as if there were no
denoiser. The interpolant filter is there without and with the exact weights of its draws (`path_weights`), the latter
coupled as a mixture. Filters of the true model stand beside it. RMSE and fair CRPS of the position; Brier score and
reliability of the right well (`double_well`). Rows `minus Gaussian` are paired, truth by truth, with the same filter of
one point. About ten minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.double_well import FORMULAS, SYSTEM, run_method
from cycler_da.bench.small_systems.twin import CurvedOperator, Method, Network, TrueModel, Twin, make_twin
from cycler_da.errors import ConfigError
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.localisation import tau_grid
from cycler_da.generative.weights import load_transition
from cycler_da.noise import Noise
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.particle import ParticleSpec
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import paired_difference, score_interval
from cycler_da.verification.sums import ScoreSums

SEED = 20261129
N_STEPS = 50  # model steps of a cycle
WEIGHTS = "data/weights/double_well/long"
ERRORS = {"sharp": 0.2, "blurred": 1.0}
#: Points of tau, and where their grids end.
GRIDS = {1: 3.0, 2: 3.0, 5: 20.0, 10: 60.0}
#: Filters of the learned model, by name, from the points of tau.
LEARNED: dict[str, Callable[[int], EnkfSpec | ParticleSpec | InterpolantFilterSpec]] = {
    "EnKF": lambda points: EnkfSpec(inflation=1.0),
    "particle filter": lambda points: ParticleSpec(regularisation=0.0),
    "interpolant filter": lambda points: InterpolantFilterSpec(
        coupling="perturbed_observations", inflation=1.0, gamma=0.25, tau_points=points, tau_max=GRIDS[points]
    ),
    "interpolant filter, path weights": lambda points: InterpolantFilterSpec(
        coupling="mixture", inflation=1.0, path_weights=True, tau_points=points, tau_max=GRIDS[points]
    ),
}


@benchmark("double_well_long", summary="a residual that is not Gaussian, drawn in 1 to 10 points of tau")
def double_well_long(quick: bool, progress: Progress) -> BenchResult:
    """Run every method on the same truths and observations."""
    n_trials, n_cycles, spin_up = (4, 15, 5) if quick else (8, 80, 10)
    transition = learned_transition()
    n_rows = len(ERRORS) * (3 + len(LEARNED) * len(GRIDS))
    rows: list[Row] = []
    done = 0

    def run(twin: Twin, case: str, method: Method) -> list[ScoreSums]:
        nonlocal done
        progress(done, n_rows, f"{case}: {method.name}")
        done += 1
        return run_method(twin, method, spin_up=spin_up)[0]

    for case, error in ERRORS.items():
        twin = make_case(error, n_trials=n_trials, n_cycles=n_cycles)
        for method in true_methods():
            rows += _scores(case, method.name, run(twin, case, method))
        for name in LEARNED:
            by_points = {points: run(twin, case, learned_method(name, points, transition)) for points in GRIDS}
            for points, sums in by_points.items():
                rows += _scores(case, f"{name}, 100, learned, {_points(points)}", sums)
            rows += _compared(case, name, by_points)
    config = {"trials": n_trials, "cycles scored": n_cycles - spin_up, "cycles before": spin_up, "error": ERRORS}
    return BenchResult("double_well_long", config, (SEED,), tuple(rows), _NOTES)


def true_methods() -> list[Method]:
    """Filters of the true model."""
    particle = ParticleSpec(regularisation=0.0)
    return [
        Method("particle filter, 5000, true model", 5000, particle),
        Method("particle filter, 100, true model", 100, particle),
        Method("EnKF, 100, true model", 100, EnkfSpec(inflation=1.0)),
    ]


def learned_method(name: str, points: int, transition: DenseTransition) -> Method:
    """A filter of the learned model; the names of its noise do not depend on the points."""
    return Method(name, 100, LEARNED[name](points), transition, taus=tau_grid(points, GRIDS[points]))


def learned_transition() -> DenseTransition:
    """Released weights; raises ConfigError outside a checkout, and for weights without a denoiser."""
    if not Path(WEIGHTS).is_dir():
        raise ConfigError(f"weights {WEIGHTS} are not in this folder; run the benchmark from the root of a checkout")
    transition = load_transition(Path(WEIGHTS))
    if not isinstance(transition, DenseTransition) or transition.denoiser is None:
        raise ConfigError(f"weights {WEIGHTS} have no denoiser; train them with config/train/double_well_long.yaml")
    return transition


def make_case(error: float, *, n_trials: int, n_cycles: int) -> Twin:
    """Truths that begin in either well, and members anywhere."""
    z = Noise(SEED).shared_normal("starts", (n_trials, 1, 1), dtype=torch.float64)
    network = Network(CurvedOperator(lambda x: x * x * x), (0,), error)
    model = TrueModel(SYSTEM.build(), N_STEPS)
    return make_twin(model, network, z.sign(), n_cycles=n_cycles, start_std=1.0, seed=SEED)


def _scores(case: str, method: str, sums: Sequence[ScoreSums]) -> list[Row]:
    estimates = {heading: score_interval(sums, formula) for heading, formula in FORMULAS.items()}
    return [Row(case, method, heading, e.value, e.low, e.high, len(sums)) for heading, e in estimates.items()]


def _compared(case: str, name: str, by_points: dict[int, list[ScoreSums]]) -> list[Row]:
    """Every number of points minus one."""
    rows = []
    for points, sums in by_points.items():
        for heading, formula in FORMULAS.items() if points > 1 else ():
            less = paired_difference(sums, by_points[1], formula)
            method = f"{name}, {_points(points)} minus Gaussian"
            rows.append(Row(case, method, heading, less.value, less.low, less.high, len(sums)))
    return rows


def _points(points: int) -> str:
    return "Gaussian" if points == 1 else f"{points} points"


_NOTES = (
    "Nothing is tuned: no inflation anywhere; gamma 0.25 and the grids of tau are those used elsewhere.",
    "Reliability of few cases is above 0 even for a perfect filter: compare it with the large particle filter's.",
)
