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

Radius, relaxation, inflation and the EnSF's eps_beta are searched on another truth, with three analyses of the densest
grid, linear and curved each by itself. Seconds are processor seconds of one analysis of all members, without the first,
fine-tuning included where there is one; beside them those of the forecasts to it and of the trainings on the climate.
Intervals are over truths; `minus LETKF` are differences on the same truth. About half an hour of one core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cycler_da.bench.independent import independent_row, spread_skill_row
from cycler_da.bench.pattern_search import pattern_search
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.kolmogorov_masf_case import (
    ERROR,
    GAP,
    LAYOUT,
    MEMBERS,
    START,
    SYSTEM,
    Case,
    Run,
    Setting,
    cycle,
    make_case,
)
from cycler_da.bench.turbulence.kolmogorov_masf_methods import (
    AUGMENTED,
    DENSEST,
    DUAL_HEAD,
    LEARNED,
    REFERENCE,
    SEARCHED,
    SETTINGS,
    WEIGHTS,
    Method,
    Searched,
    methods,
)
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, MissingInput
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.generative.weights import read_card
from cycler_da.noise import Noise
from cycler_da.tables.report import BenchResult, Row

#: Seed of the tuning truth; the truths that are scored have the seeds after it.
SEED = 20261128
TUNING_ANALYSES = 3
SCORES = {"rmse": "RMSE", "crps": "fair CRPS", "spread_skill": "spread/skill"}


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
    """Search options on one truth, score on others."""
    size, rows, notes = QUICK if quick else FULL, list[Row](), list[str]()
    for folder in (WEIGHTS, AUGMENTED, DUAL_HEAD, LEARNED):
        if not Path(folder).is_dir():
            raise MissingInput(f"no weights in {folder}; run from the repository root, or train them")
    torch.set_num_threads(1)
    n_parts = 2 + len(size.settings)
    progress(0, n_parts, "truths")
    true, learned = NumericalSpec().build(LAYOUT), InterpolantSpec(weights=LEARNED).build(LAYOUT)
    other, cases = (
        make_case(SEED, TUNING_ANALYSES),
        [make_case(SEED + 1 + i, size.analyses) for i in range(size.truths)],
    )
    chosen: dict[bool, dict[str, Any]] = {}
    for is_curved in sorted({setting.is_curved for setting in size.settings}):
        progress(1, n_parts, "search of options")
        chosen[is_curved] = dict[str, Any]()
        for name, searched in SEARCHED.items():
            model = learned if searched.is_learned else true
            chosen[is_curved][name], told = search(
                other, searched, model, Setting(DENSEST.stride, is_curved), size, chosen[is_curved]
            )
            notes.append(f"{name}{', sigmoid' if is_curved else ''}: {told}")
    for done, setting in enumerate(size.settings):
        progress(2 + done, n_parts, setting.label)
        rows += setting_rows(setting, methods(setting, chosen[setting.is_curved], true, learned), cases, notes)
    rows += cost_rows(cases[0], true, learned)
    return BenchResult(
        name="kolmogorov_masf",
        config={
            "grid": "64 x 64",
            "Reynolds number": SYSTEM.reynolds,
            "members": MEMBERS,
            "truths": size.truths,
            "analyses": size.analyses,
            "time between analyses": GAP * SYSTEM.count()[1],
            "error": ERROR,
            "weights": f"{WEIGHTS}, {AUGMENTED}, {DUAL_HEAD}, {LEARNED}",
        },
        seeds=(SEED, *(case.seed for case in cases)),
        rows=tuple(rows),
        notes=(
            *notes,
            f"Seed {SEED} is the truth on which options are searched; the others are scored.",
            "Velocities have a climatological deviation of 1: an RMSE of 1 is the climatological mean, 1.4 that of one "
            "state of the climate for another.",
            "The networks of MASF are small and were trained for minutes (their cards); the published ones for hours. "
            "They stand on an interpolation of the observed cells, which the published ones do not have.",
        ),
    )


def search(
    other: Case, searched: Searched, model: ForecastModel, setting: Setting, size: Size, known: Mapping[str, Any]
) -> tuple[Any, str]:
    """The scheme of least RMSE on the tuning truth, and a sentence on how it was found."""
    first = known.get(REFERENCE) if searched.is_learned else None

    def rmse(point: tuple[float, ...]) -> float:
        try:
            return float(
                np.nan_to_num(cycle(other, searched.make(*point), model, setting, first=first).mean("rmse"), nan=np.inf)
            )
        except AnalysisFailed:
            return np.inf

    if not size.is_searched:
        return searched.make(*searched.start), "not searched"
    found = pattern_search(searched.axes, searched.start, rmse)
    values = ", ".join(f"{name} {value:g}" for name, value in zip(searched.axes, found.point, strict=True))
    return searched.make(*found.point), f"{values}, best of {found.n_scored} on another truth{found.ends}"


def setting_rows(
    setting: Setting, listed: Mapping[str, Method], cases: Sequence[Case], notes: list[str]
) -> Iterator[Row]:
    """Scores with intervals over truths, differences to the LETKF, seconds; a row that says so for what fails."""
    reference = runs_of(listed[REFERENCE], cases, setting)
    for name, method in listed.items():
        try:
            runs = reference if name == REFERENCE else runs_of(method, cases, setting)
        except AnalysisFailed as error:
            notes.append(f"failed, {setting.label}, {name}: {error}")
            yield Row(setting.label, name, "failed", 1.0)
            continue
        yield from metric_rows(setting.label, name, runs)
        if name != REFERENCE:
            yield difference_row(setting.label, name, runs, reference)
        yield Row(setting.label, name, "seconds per analysis", mean_seconds(runs))


def runs_of(method: Method, cases: Sequence[Case], setting: Setting) -> list[Run]:
    """A method on every truth."""
    return [cycle(case, method.spec, method.model, setting, first=method.first) for case in cases]


def difference_row(label: str, name: str, runs: Sequence[Run], reference: Sequence[Run]) -> Row:
    """RMSE less that of the reference on the same truth."""
    pairs = [one.mean("rmse") - other.mean("rmse") for one, other in zip(runs, reference, strict=True)]
    return independent_row(label, name, f"{SCORES['rmse']} minus {REFERENCE}", pairs)


def metric_rows(label: str, name: str, runs: Sequence[Run]) -> list[Row]:
    """Means over truths of the means over steps; spread/skill of all steps and truths together."""
    rows = [independent_row(label, name, SCORES[key], [run.mean(key) for run in runs]) for key in ("rmse", "crps")]
    pooled = [run.pooled() for run in runs]
    return [*rows, spread_skill_row(label, name, SCORES["spread_skill"], *zip(*pooled, strict=True))]


def mean_seconds(runs: Sequence[Run]) -> float:
    """Processor seconds of one analysis."""
    return float(np.mean([run.seconds for run in runs]))


def cost_rows(case: Case, true: ForecastModel, learned: ForecastModel) -> list[Row]:
    """Seconds of the forecasts from one analysis to the next, and of the trainings on the climate (from the cards)."""
    start = Ensemble(case.members[:, None], np.array([START]), tuple(range(MEMBERS)), LAYOUT)
    times, rows = START + LAYOUT.step * np.arange(1, GAP + 1), []
    for name, model in (("true", true), ("learned", learned)):
        began = time.process_time()
        model.forecast(start, times, noise=Noise(case.seed))
        rows.append(Row("all", f"forecast of the members, {name} model", "seconds", time.process_time() - began))
    for name, folder in (("MASF", WEIGHTS), ("MASF, augmented", AUGMENTED), ("MASF, two heads", DUAL_HEAD)):
        seconds = float(read_card(Path(folder)).training["seconds"])
        rows.append(Row("all", f"training on the climate, {name} (wall clock)", "seconds", seconds))
    return rows
