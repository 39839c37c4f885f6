"""Benchmark `radar_birth`: a storm is born where every member is clear; how soon does an analysis have it?

A real cell, the 9 x 9 cells around the strongest echo of one sequence, fading towards its edge, is put into clear air
of another sequence, 15 cells or more from all echo, in two frames ten minutes apart, at the same place. The frames
before are known and have no trace of it. Two cycles with 10 % (or 3 %) of the pixels and errors of four codes:

    found after a cycle      mean of the members over the middle 3 x 3 cells at or above code 54: 0.46 kg m-2, which is
                             25 dBZ over 5 km (Greene and Clark 1972)
    false cells              share of the clear pixels far from echo and cell where the mean is above code 16

Sequences are VIL-like proxies of other radars, single pixels of 3 km; the one that cells are put into was not trained
on. The number of places is small and they share their weather: shares are given as counts. About three CPU minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cycler_da.bench.radar.radar_case import (
    START,
    STEP_MINUTES,
    WEIGHTS,
    Case,
    Models,
    known_start,
    make_cases,
    make_models,
    observed_at,
    proxy_storms,
    real_data,
)
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.ensemble import append_times
from cycler_da.noise import Noise
from cycler_da.obs.points import CellSpec
from cycler_da.products.forecast_statistics import reached_within
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.tables.report import BenchResult, Row

SEED, MEMBERS, ERROR = 20261130, 8, 4.0 / 255.0
INTO, FROM = "mrms_20190610_OH_IN", "mrms_20190610_FL_west"
FOUND, ECHO = 54.0 / 255.0, 16.0 / 255.0
HALF, CLEAR = 4, 15.0  # cells: half the width of a cell, and its distance from all echo
STEP = np.timedelta64(STEP_MINUTES, "m")


@dataclass(frozen=True)
class Birth:
    """Known frames, two true frames with the new cell, and where it is."""

    index: int
    case: Case
    truths: torch.Tensor  # (2, 1, y, x)
    place: tuple[int, int]
    clear: np.ndarray  # pixels far from echo and cell


@benchmark("radar_birth", summary="a real cell in clear air: how soon each scheme finds it")
def radar_birth(quick: bool, progress: Progress) -> BenchResult:
    """Count how many cells each scheme finds after one and two cycles."""
    models = make_models()
    n_places, fractions = (1, (0.1,)) if quick else (10, (0.1, 0.03))
    births = list(make_births(n_places))
    rows: list[Row] = []
    for done, (fraction, name) in enumerate((f, n) for f in fractions for n in schemes()):
        progress(done, len(fractions) * len(schemes()), f"{100 * fraction:g} % of pixels: {name}")
        found = np.array([_run(models, schemes()[name], birth, fraction) for birth in births])
        case = f"{100 * fraction:g} % of pixels"
        for k, metric in enumerate(("P(found in 1 cycle)", "P(found within 2 cycles)", "false cells")):
            rows.append(Row(case, name, metric, float(found[:, k].mean()), n=len(births)))
    return BenchResult(
        name="radar_birth",
        config={"into": INTO, "cells from": FROM, "members": MEMBERS, "weights": str(WEIGHTS), "quick": quick},
        seeds=(SEED,),
        rows=tuple(rows),
        notes=("Proxies of other radars; places share their weather, so counts are not independent.",),
    )


def schemes() -> Mapping[str, Any]:
    """Schemes by name, with the radii of the default experiment."""
    common: dict[str, Any] = {"localization_radius_cells": 4.0, "weight_stride": 4, "inflation": 1.05}
    return {
        "interpolant filter, surprise 4": InterpolantFilterSpec(surprise=4.0, **common),
        "interpolant filter, no surprise": InterpolantFilterSpec(**common),
        "LETKF": LetkfSpec(localization_radius_cells=2.0, inflation=1.02),
    }


def make_births(n_places: int) -> Iterator[Birth]:
    """Cells put into clear air, at places drawn once for all schemes."""
    into, source = proxy_storms(real_data(), (INTO, FROM))
    cases = list(make_cases([into], apart=STEP_MINUTES))
    cell = cell_of(next(iter(make_cases([source], apart=STEP_MINUTES))).truth[0])
    for index in range(n_places):
        first, second = cases[index % (len(cases) - 1)], cases[index % (len(cases) - 1) + 1]
        frames = torch.stack([first.frames[-1, 0], first.truth[0], second.truth[0]])
        near = reached_within((frames > 0).any(dim=0).numpy(), radius=CLEAR)
        inside = np.zeros_like(near)
        inside[2 * HALF : -2 * HALF, 2 * HALF : -2 * HALF] = True
        places = np.argwhere(~near & inside)
        y, x = places[int(Noise(SEED).generator("place", step=index).integers(len(places)))]
        truths = torch.stack([first.truth, second.truth])
        window = truths[..., y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
        window.copy_(torch.maximum(window, cell))
        far = np.hypot(*(axis - at for axis, at in zip(np.indices(near.shape), (y, x), strict=True))) > CLEAR
        yield Birth(index, first, truths, (int(y), int(x)), ~near & far)


def cell_of(field: torch.Tensor) -> torch.Tensor:
    """The strongest cell of a field that lies whole inside it, fading to nothing at its edge."""
    inner = field[HALF:-HALF, HALF:-HALF]
    y, x = divmod(int(inner.argmax()), inner.shape[1])
    cell = field[y : y + 2 * HALF + 1, x : x + 2 * HALF + 1]
    away = torch.arange(-HALF, HALF + 1, dtype=torch.float32)
    fading = (1.0 - (torch.hypot(away[:, None], away[None]) / (HALF + 1)) ** 4).clamp(min=0.0)
    return cell * fading


def _run(models: Models, spec: Any, birth: Birth, fraction: float) -> tuple[bool, bool, float]:
    """Found after one cycle, within two, and the share of false cells in the second analysis."""
    scheme = spec.build(SchemeContext(models.layout, models.learned))
    states, found, false = known_start(birth.case, models.layout, MEMBERS), [], 0.0
    shape = models.layout.grid.shape
    for k, truth in enumerate(birth.truths):
        noise = Noise(SEED, 10 * birth.index + k)
        chosen = noise.generator(f"pixels.{fraction}").permutation(shape[0] * shape[1])
        index = torch.from_numpy(chosen[: round(fraction * len(chosen))])
        cells = torch.stack([index // shape[1], index % shape[1]], dim=1)
        time, operator = START + (k + 1) * STEP, CellSpec().build(models.layout)
        seen = observed_at(cells, truth, operator, models.layout, time=time, error=ERROR, noise=noise)
        background = models.learned.forecast(states, np.array([time]), noise=noise)
        analysis = scheme.analyse(Prior(background, states, models.learned), seen, noise=noise, carry={}).ensemble
        states = append_times(states, analysis.with_values(models.transition.limits.hold(analysis.values)))
        mean = states.latest.mean(dim=0)[0]
        y, x = birth.place
        found.append(float(mean[y - 1 : y + 2, x - 1 : x + 2].mean()) >= FOUND)
        false = float((mean.numpy()[birth.clear] >= ECHO).mean())
    return found[0], any(found), false
