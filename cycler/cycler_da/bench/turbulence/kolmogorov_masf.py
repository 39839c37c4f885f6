"""Benchmark `kolmogorov_masf`: sparse velocities of a known turbulence, after the protocol of MASF, on 64 x 64 points.

Protocol (arXiv:2604.02889 and its code): both velocities observed on a regular grid with error 0.1, an analysis every 2
time units, six of them; members start as independent states of the climate and are carried by the true model; scores of
the ensemble over all 51 steps of 0.2 time units, analyses and forecasts. Its grids hold 1.03, 0.49 and 0.26 % of 128^2
to 512^2 points. Here the nearest whole strides of 64 points, every 10th, 16th and 22nd point each way: 1.20, 0.39 and
0.22 %. That is 49, 16 and 9 places in the box, where the published grids have 169, 324 and 676: the same share of a
coarser grid sees less of the flow, so that errors are not comparable with the published ones. Re is 1000; truths and
members have noise of their own (published seeds may give one of them the truth). Nonlinear h: its sigmoid(2 x), on the
densest grid.

    free run             no observations
    EnKF, LETKF          localized, true model; the LETKF also with the learned model of the next row
    interpolant filter   the released learned transition, which forecasts as well
    EnSF                 own_member, 200 steps
    MASF, members        the Gaussian of the members as prior: exact bridge; curved also the published two heads
    MASF, amortised      released networks of the climate, not tuned to the cycle: exact bridge of 30 steps, and the
                         published sampler; curved the augmented form and the published two heads, whose network
                         is a quarter as large (`generative/observed_bridge`)
    MASF, fine-tuned     the same network, tuned on the members in every analysis after the first (120 steps, as
                         published), on the densest grid
    MASF, from scratch   an untrained one, trained on the members alone in every analysis (200 steps, as published), on
                         the densest grid: what amortising saves

Options of the filters (radius, relaxation, inflation, the EnSF's eps_beta) are searched for each grid and sensor, on
three analyses of another truth. Seconds are processor seconds of one analysis of all members, without the first,
training on the members included where there is one; beside them those of the forecasts to it, and what training on the
climate costs (`kolmogorov_masf_costs`). Intervals are over truths; `minus LETKF` and `minus EnKF` are differences on
the same truth. The slowest methods have three truths of five (column n). About 45 minutes of processor time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cycler_da.bench.in_processes import in_processes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.kolmogorov_masf_case import (
    ERROR,
    GAP,
    LAYOUT,
    MEMBERS,
    SYSTEM,
    Case,
    Setting,
    known_case,
)
from cycler_da.bench.turbulence.kolmogorov_masf_costs import (
    card_rows,
    forecast_seconds,
    paid_off_rows,
    training_seconds,
)
from cycler_da.bench.turbulence.kolmogorov_masf_methods import (
    AUGMENTED,
    DENSEST,
    DUAL_HEAD,
    LEARNED,
    SEARCHED,
    SETTINGS,
    SLOW_TRUTHS,
    WEIGHTS,
    methods,
)
from cycler_da.bench.turbulence.kolmogorov_masf_rows import (
    RunsOfTruth,
    mean_seconds,
    runs_in,
    runs_of_truth,
    setting_rows,
)
from cycler_da.bench.turbulence.kolmogorov_masf_search import search_all, unsearched
from cycler_da.errors import MissingInput
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.tables.report import BenchResult, Row

#: Seed of the tuning truth; the truths that are scored have the seeds after it.
SEED = 20261128
TUNING_ANALYSES = 3


@dataclass(frozen=True)
class Size:
    """How much is run."""

    truths: int = 5
    analyses: int = 6
    settings: tuple[Setting, ...] = SETTINGS
    is_searched: bool = True


FULL, QUICK = Size(), Size(truths=1, analyses=2, settings=SETTINGS[:1], is_searched=False)


@benchmark(
    "kolmogorov_masf", summary="Kolmogorov flow after MASF's protocol: MASF, EnSF, EnKF, LETKF, interpolant filter"
)
def kolmogorov_masf(quick: bool, progress: Progress) -> BenchResult:
    """Search options on one truth, score on others; grids and truths have processes of their own."""
    size = QUICK if quick else FULL
    require_weights((WEIGHTS, AUGMENTED, DUAL_HEAD, LEARNED))
    seeds = tuple(SEED + 1 + i for i in range(size.truths))
    chosen, notes = options(size, progress)
    parts = {
        f"{setting.label}, truth {seed}": (setting, seed, size.analyses, i, chosen[setting])
        for setting in size.settings
        for i, seed in enumerate(seeds)
    }
    of_parts = iter(in_processes(run_part, parts, progress))
    found = {setting: [next(of_parts) for _ in seeds] for setting in size.settings}
    rows = [row for setting in size.settings for row in setting_rows(setting.label, found[setting], notes)]
    rows += cost_rows(known_case(seeds[0], 2), found[DENSEST])
    return BenchResult(
        name="kolmogorov_masf",
        config={
            "grid": "64 x 64",
            "Reynolds number": SYSTEM.reynolds,
            "members": MEMBERS,
            "truths": f"{size.truths}; {SLOW_TRUTHS} for the slowest methods",
            "analyses": size.analyses,
            "time between analyses": GAP * SYSTEM.count()[1],
            "error": ERROR,
            "weights": f"{WEIGHTS}, {AUGMENTED}, {DUAL_HEAD}, {LEARNED}",
        },
        seeds=(SEED, *seeds),
        rows=tuple(rows),
        notes=(
            *notes,
            f"Seed {SEED} is the truth on which options are searched; the others are scored.",
            "Velocities have a climatological deviation of 1: an RMSE of 1 is the climatological mean, 1.4 that of one "
            "state of the climate for another.",
            "The networks of MASF are small and were trained for minutes (their cards); the published ones for hours. "
            "They stand on an interpolation of the observed cells, which the published ones do not have: with the "
            "covariance of the climate, from scratch with that of the members.",
            "Seconds by amortised: of one analysis, same sampler. Training paid off after: analyses until processor "
            "seconds of climate and training are less than what they save of training from scratch.",
        ),
    )


def require_weights(folders: Sequence[str]) -> None:
    """Raise MissingInput for weights that are not here."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise MissingInput(f"no weights in {folder}; run from the repository root, or train them")


def options(size: Size, progress: Progress) -> tuple[dict[Setting, dict[str, Any]], list[str]]:
    """Schemes with the options of every setting, and how they were found."""
    if not size.is_searched:
        return {setting: unsearched(SEARCHED) for setting in size.settings}, ["options are not searched"]
    found = in_processes(search_part, {f"options, {one.label}": (one,) for one in size.settings}, progress)
    chosen = {setting: schemes for setting, (schemes, _) in zip(size.settings, found, strict=True)}
    return chosen, [note for _, told in found for note in told]


def search_part(setting: Setting) -> tuple[dict[str, Any], list[str]]:
    """The search of one setting."""
    torch.set_num_threads(1)
    return search_all(SEARCHED, known_case(SEED, TUNING_ANALYSES), setting, models())


def run_part(setting: Setting, seed: int, analyses: int, i_truth: int, chosen: Mapping[str, Any]) -> RunsOfTruth:
    """All methods of a setting on one truth."""
    torch.set_num_threads(1)
    known = models()
    listed = methods(setting, chosen, known[False], known[True])
    return runs_of_truth(listed, known_case(seed, analyses), setting, i_truth=i_truth)


def models() -> dict[bool, ForecastModel]:
    """The true and the learned model, by whether it is learned."""
    return {False: NumericalSpec().build(LAYOUT), True: InterpolantSpec(weights=LEARNED).build(LAYOUT)}


def cost_rows(case: Case, densest: Sequence[RunsOfTruth]) -> list[Row]:
    """Seconds of forecasts and of training on the climate, and when that has paid off."""
    torch.set_num_threads(1)
    known = models()
    forecast = {is_learned: forecast_seconds(case, model) for is_learned, model in known.items()}
    training = training_seconds(case, forecast[False])
    rows = [
        Row("all", f"forecast of the members, {name} model", "seconds", forecast[is_learned])
        for name, is_learned in (("true", False), ("learned", True))
    ]
    rows.append(Row("all", "climate and training, MASF", "seconds", training))
    rows += card_rows({"MASF": WEIGHTS, "MASF, augmented": AUGMENTED, "MASF, two heads": DUAL_HEAD})
    seconds = {name: mean_seconds(runs_in([runs.get(name) for runs in densest])) for name in densest[0]}
    return [*paid_off_rows(DENSEST.label, seconds, training), *rows]
