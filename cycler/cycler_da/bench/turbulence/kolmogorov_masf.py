"""Benchmark `kolmogorov_masf`: sparse velocities of a known turbulence, after the protocol of MASF, on 64 x 64 points.

Protocol (arXiv:2604.02889 and its code): both velocities observed on a regular grid with error 0.1, an analysis every 2
time units, six of them; members start as independent states of the climate and are carried by the true model; scores of
the ensemble over all 51 steps of 0.2 time units, analyses and forecasts. Its grids hold 1.03, 0.49 and 0.26 % of 128^2
to 512^2 points. Here the nearest whole strides of 64 points, every 10th, 16th and 22nd point each way: 1.20, 0.39 and
0.22 %. That is 49, 16 and 9 places in the box, where the published grids have 169, 324 and 676: the same share of a
coarser grid sees less of the flow, so that errors are not comparable with the published ones. Re is 1000; truths and
members have noise of their own (published seeds may give one of them the truth). Nonlinear h: its sigmoid(2 x), on the
densest grid; MASF's two-headed form for it (`masf_two_heads`) has no weights of this size.

    free run             no observations
    EnKF, LETKF          localized, true model; the LETKF also with the learned model of the next row
    interpolant filter   the released learned transition, which forecasts as well
    EnSF                 own_member, 200 steps
    MASF, members        the Gaussian of the members as prior, exact bridge
    MASF, amortised      the released network, not tuned to the cycle: exact bridge of 30 steps, and as published (one
                         truth: it is dear)

Radius, relaxation, inflation and the EnSF's eps_beta are searched on another truth, with three analyses of the densest
grid, linear and curved each by itself. Seconds are processor seconds of one analysis of all members; beside them those
of the forecasts to it, and of the published fine-tuning of the network on the members (120 steps), which the amortised
rows do without. Intervals are over truths. About ten minutes of one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, MissingInput
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.generative.bridge_training import fine_tuned
from cycler_da.generative.bridge_weights import load_bridge
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.noise import Noise
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.ensf import EnsfSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.masf import FineTuneSpec, MasfSpec
from cycler_da.tables.report import BenchResult, Row

SEED = 20261128
WEIGHTS, LEARNED = "data/weights/kolmogorov/masf", "data/weights/kolmogorov/incompressible_spectral"
SETTINGS = (Setting(10), Setting(16), Setting(22), Setting(10, is_curved=True))
DENSEST = SETTINGS[0]
TUNING_ANALYSES = 3
SCORES = {"rmse": "RMSE", "crps": "fair CRPS", "spread_skill": "spread/skill"}


@dataclass(frozen=True)
class Size:
    """How much is run."""

    truths: int = 3
    analyses: int = 6
    settings: tuple[Setting, ...] = SETTINGS
    is_searched: bool = True


FULL, QUICK = Size(), Size(truths=1, analyses=2, settings=SETTINGS[:1], is_searched=False)


@dataclass(frozen=True)
class Searched:
    """A method with options that are searched: their values, where the search begins, and the scheme they make."""

    make: Callable[..., Any]
    axes: Mapping[str, Sequence[float]]
    start: tuple[float, ...]
    is_learned: bool = False  # the forecast model


@dataclass(frozen=True)
class Method:
    """A scheme with its model, where it is run, and what makes its first analysis if it cannot."""

    spec: Any
    model: ForecastModel
    first: Any = None
    n_truths: int | None = None  # None: all


RADII = (3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
SEARCHED = {
    "EnKF": Searched(
        lambda radius, rtps: EnkfSpec(localization_radius_cells=radius, inflation=1.0, rtps=rtps),
        {"radius": RADII, "rtps": (0.0, 0.25, 0.5, 0.75)},
        (12.0, 0.5),
    ),
    "LETKF": Searched(
        lambda radius, rtps: LetkfSpec(localization_radius_cells=radius, inflation=1.0, rtps=rtps, weight_stride=2),
        {"radius": RADII, "rtps": (0.0, 0.25, 0.5, 0.75)},
        (8.0, 0.5),
    ),
    "interpolant filter, learned model": Searched(
        lambda radius, inflation: InterpolantFilterSpec(
            localization_radius_cells=radius, inflation=inflation, weight_stride=2
        ),
        {"radius": RADII, "inflation": (1.0, 1.02, 1.05, 1.1, 1.2)},
        (8.0, 1.05),
        is_learned=True,
    ),
    "EnSF": Searched(
        lambda eps_alpha, eps_beta: EnsfSpec(eps_alpha=eps_alpha, eps_beta=eps_beta),
        {"eps_alpha": (0.5,), "eps_beta": (0.025, 0.1, 0.4)},
        (0.5, 0.025),
    ),
}


@benchmark(
    "kolmogorov_masf", summary="Kolmogorov flow after MASF's protocol: MASF, EnSF, EnKF, LETKF, interpolant filter"
)
def kolmogorov_masf(quick: bool, progress: Progress) -> BenchResult:
    """Search options on one truth, score on others."""
    size, rows, notes = QUICK if quick else FULL, list[Row](), list[str]()
    for folder in (WEIGHTS, LEARNED):
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
                other, searched, model, Setting(10, is_curved), size, chosen[is_curved]
            )
            notes.append(f"{name}{', sigmoid' if is_curved else ''}: {told}")
    for done, setting in enumerate(size.settings):
        progress(2 + done, n_parts, setting.label)
        for name, method in methods(setting, chosen[setting.is_curved], true, learned).items():
            rows += rows_of(setting.label, name, method, cases[: method.n_truths], setting, notes)
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
            "weights": f"{WEIGHTS}, {LEARNED}",
        },
        seeds=tuple(case.seed for case in cases),
        rows=tuple(rows),
        notes=(
            *notes,
            "Velocities have a climatological deviation of 1: an RMSE of 1 is the climatological mean, 1.4 that of one "
            "state of the climate for another.",
            "The network of MASF is small and was trained for minutes (its card); the published ones for hours. It "
            "stands on an interpolation of the observed cells, which the published ones do not have.",
        ),
    )


def search(
    other: Case, searched: Searched, model: ForecastModel, setting: Setting, size: Size, known: Mapping[str, Any]
) -> tuple[Any, str]:
    """The scheme of least RMSE on the tuning truth, and a sentence on how it was found."""
    first = known.get("LETKF") if searched.is_learned else None

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


def methods(
    setting: Setting, chosen: Mapping[str, Any], true: ForecastModel, learned: ForecastModel
) -> dict[str, Method]:
    """Name -> scheme and model; what is the same on every grid, or for comparison, on the densest alone."""
    is_densest, letkf = setting == DENSEST, chosen["LETKF"]
    found: dict[str, Method] = {}
    if is_densest:
        found["free run"] = Method(FreeRunSpec(), true)
    found["EnKF"] = Method(chosen["EnKF"], true)
    found["LETKF"] = Method(letkf, true)
    if is_densest:
        found["LETKF, learned model"] = Method(letkf, learned)
    name = "interpolant filter, learned model"
    found[name] = Method(chosen[name], learned, first=letkf)
    if setting.stride == DENSEST.stride:
        found["EnSF"] = Method(chosen["EnSF"], true)
    if setting.is_curved:
        return found
    found["MASF, amortised, bridge"] = Method(MasfSpec(weights=WEIGHTS, steps=30), true)
    if is_densest:
        found["MASF, amortised, as published"] = Method(MasfSpec(weights=WEIGHTS, sampler="guided"), true, n_truths=1)
        found["MASF, members, bridge"] = Method(MasfSpec(), true)
    return found


def rows_of(
    label: str, name: str, method: Method, cases: Sequence[Case], setting: Setting, notes: list[str]
) -> list[Row]:
    """Scores with intervals over truths, and seconds; a method that fails on a truth has a row that says so."""
    try:
        runs = [cycle(case, method.spec, method.model, setting, first=method.first) for case in cases]
    except AnalysisFailed as error:
        notes.append(f"failed, {label}, {name}: {error}")
        return [Row(label, name, "failed", 1.0)]
    return [*metric_rows(label, name, runs), Row(label, name, "seconds per analysis", mean_seconds(runs))]


def metric_rows(label: str, name: str, runs: Sequence[Run]) -> list[Row]:
    """Means over truths of the means over steps; spread/skill of all steps and truths together."""
    rows = [independent_row(label, name, SCORES[key], [run.mean(key) for run in runs]) for key in ("rmse", "crps")]
    pooled = [run.pooled() for run in runs]
    return [*rows, spread_skill_row(label, name, SCORES["spread_skill"], *zip(*pooled, strict=True))]


def mean_seconds(runs: Sequence[Run]) -> float:
    """Processor seconds of one analysis."""
    return float(np.mean([run.seconds for run in runs]))


def cost_rows(case: Case, true: ForecastModel, learned: ForecastModel) -> list[Row]:
    """Seconds of the forecasts from one analysis to the next, and of fine-tuning."""
    start = Ensemble(case.members[:, None], np.array([START]), tuple(range(MEMBERS)), LAYOUT)
    times, rows = START + LAYOUT.step * np.arange(1, GAP + 1), []
    for name, model in (("true", true), ("learned", learned)):
        began = time.process_time()
        model.forecast(start, times, noise=Noise(case.seed))
        rows.append(Row("all", f"forecast of the members, {name} model", "seconds", time.process_time() - began))
    tuning, weights = FineTuneSpec(), load_bridge(Path(WEIGHTS), layout=LAYOUT)
    mask = torch.zeros(LAYOUT.state_shape, dtype=torch.float64)
    mask[:, :: DENSEST.stride, :: DENSEST.stride] = 1.0
    seen = cell_interpolation(weights.covariance, mask, noise_std=weights.error)
    began = time.process_time()
    fine_tuned(weights.model, seen, case.members, steps=tuning.steps, learning_rate=tuning.learning_rate, seed=0)
    rows.append(Row("all", "fine-tuning of the network", "seconds", time.process_time() - began))
    return rows
