"""Benchmark `kolmogorov_masf_128`: MASF's smallest published grid, 128 x 128 points, every 10th of them observed.

Protocol of arXiv:2604.02889 as in `kolmogorov_masf`, and here at its own size: 169 places (1.03 %), both velocities
with error 0.1, ten members, Re 1000, six analyses 2 time units apart, scores over all 51 steps. The flow is solved by
spectra here, by finite volumes there, so that its smallest eddies differ; we know of no published RMSE to compare with.

    free run             no observations
    EnKF, LETKF          localized, true model; radius and relaxation searched on another truth, three analyses
    MASF, amortised      a network of this grid, trained on its climate for minutes: exact bridge of 30 steps, and the
                         published sampler
    MASF, fine-tuned     the same, 120 steps on the members in every analysis after the first, exact bridge

Every truth has a process. Seconds are processor seconds of one analysis of all members, without the first; intervals
are over truths. About 25 minutes of processor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cycler_da.bench.in_processes import in_processes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.kolmogorov_masf import TUNING_ANALYSES, require_weights
from cycler_da.bench.turbulence.kolmogorov_masf_case import ERROR, GAP, MEMBERS, Setting, known_case
from cycler_da.bench.turbulence.kolmogorov_masf_costs import card_rows
from cycler_da.bench.turbulence.kolmogorov_masf_methods import REFERENCES, SEARCHED, STEPS, Method
from cycler_da.bench.turbulence.kolmogorov_masf_rows import RunsOfTruth, runs_of_truth, setting_rows
from cycler_da.bench.turbulence.kolmogorov_masf_search import search, unsearched
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.masf import MasfSpec
from cycler_da.systems.kolmogorov import KolmogorovSpec
from cycler_da.tables.report import BenchResult

WEIGHTS = "data/weights/kolmogorov/masf_128"
SYSTEM = KolmogorovSpec(size=128)
SETTING = Setting(10, size=SYSTEM.size)
#: Seed of the tuning truth; the truths that are scored have the seeds after it.
SEED = 20261228
CLASSICAL = {name: SEARCHED[name] for name in REFERENCES}


@dataclass(frozen=True)
class Size:
    """How much is run."""

    truths: int = 3
    analyses: int = 6
    is_searched: bool = True
    is_tuned: bool = True  # with the row of MASF that is tuned on the members


FULL, QUICK = Size(), Size(truths=1, analyses=2, is_searched=False, is_tuned=False)


@benchmark("kolmogorov_masf_128", summary="MASF's smallest published grid, 128 x 128: MASF beside EnKF and LETKF")
def kolmogorov_masf_128(quick: bool, progress: Progress) -> BenchResult:
    """Search options on one truth, score on others."""
    size = QUICK if quick else FULL
    require_weights((WEIGHTS,))
    seeds = tuple(SEED + 1 + i for i in range(size.truths))
    chosen, notes = options(size, progress)
    parts = {f"truth {seed}": (seed, size, chosen) for seed in seeds}
    found = in_processes(run_part, parts, progress)
    rows = [*setting_rows(SETTING.label, found, notes), *card_rows({"MASF": WEIGHTS})]
    return BenchResult(
        name="kolmogorov_masf_128",
        config={
            "grid": "128 x 128",
            "Reynolds number": SYSTEM.reynolds,
            "members": MEMBERS,
            "truths": size.truths,
            "analyses": size.analyses,
            "time between analyses": GAP * SYSTEM.count()[1],
            "error": ERROR,
            "weights": WEIGHTS,
        },
        seeds=(SEED, *seeds),
        rows=tuple(rows),
        notes=(
            *notes,
            f"Seed {SEED} is the truth on which options are searched; the others are scored.",
            "The network is small and was trained for minutes (its card); it stands on an interpolation of the "
            "observed cells with the covariance of the climate, which the published ones do not have.",
        ),
    )


def options(size: Size, progress: Progress) -> tuple[dict[str, Any], list[str]]:
    """EnKF and LETKF with their options, and how they were found."""
    if not size.is_searched:
        return unsearched(CLASSICAL), ["options are not searched"]
    found = in_processes(search_part, {f"options, {name}": (name,) for name in CLASSICAL}, progress)
    chosen = {name: scheme for name, (scheme, _) in zip(CLASSICAL, found, strict=True)}
    return chosen, [f"{name}: {told}" for name, (_, told) in zip(CLASSICAL, found, strict=True)]


def search_part(name: str) -> tuple[Any, str]:
    """The search of one filter."""
    torch.set_num_threads(1)
    return search(CLASSICAL[name], known_case(SEED, TUNING_ANALYSES, SYSTEM), SETTING, true_model())


def run_part(seed: int, size: Size, chosen: Mapping[str, Any]) -> RunsOfTruth:
    """All methods on one truth."""
    torch.set_num_threads(1)
    listed = methods(chosen, true_model(), is_tuned=size.is_tuned)
    return runs_of_truth(listed, known_case(seed, size.analyses, SYSTEM), SETTING, i_truth=0)


def true_model() -> ForecastModel:
    """The solver that makes the truth."""
    return NumericalSpec(system={"kind": "kolmogorov", "size": SYSTEM.size}).build(SYSTEM.layout())


def methods(chosen: Mapping[str, Any], true: ForecastModel, *, is_tuned: bool) -> dict[str, Method]:
    """Name -> scheme and model."""
    specs = {
        "free run": FreeRunSpec(),
        **chosen,
        "MASF, amortised, bridge": MasfSpec(weights=WEIGHTS, steps=STEPS),
        "MASF, amortised, as published": MasfSpec(weights=WEIGHTS, sampler="guided"),
    }
    if is_tuned:
        specs["MASF, fine-tuned, bridge"] = MasfSpec(weights=WEIGHTS, steps=STEPS, fine_tune=FineTuneSpec())
    return {name: Method(spec, true) for name, spec in specs.items()}
