"""Scores of the benchmark `soad_settings`: RMSE as published, of a member and of the mean, and fair CRPS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.bench.independent import independent_row
from cycler_da.bench.turbulence.soad_settings_cases import physical_to_scaled
from cycler_da.errors import AnalysisFailed
from cycler_da.tables.report import Row

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Tried:
    """What one method made of some windows."""

    frames: Sequence[Float[Tensor, "member frame 2 y x"]]  # of each window, scaled; members may differ in number
    seconds: float = math.nan  # for one window and member
    passes: float = math.nan


Method = Callable[[], Tried]


def score_window(frames: Float[Tensor, "member frame 2 y x"], truth: Float[Tensor, "frame 2 y x"]) -> dict[str, float]:
    """Mean over frames of the RMSE of one member; with several also of their mean, fair CRPS and spread."""
    x = frames.double()
    found = {"RMSE of a member": _rmse(x[0] - truth)}
    n = len(x)
    if n == 1:
        return found
    # Of n sorted members the i-th stands between its neighbours: the pairs' distances sum to sum (2 i - n + 1) x_i.
    weights = 2.0 * np.arange(n) - n + 1
    pairs = sum(float(w) * part.mean() for w, part in zip(weights, x.sort(dim=0).values, strict=True))
    distance = (x - truth).abs().mean()
    found["RMSE of the mean"] = _rmse(x.mean(dim=0) - truth)
    found["fair CRPS"] = float(distance - pairs / (n * (n - 1)))
    found["spread"] = float(x.var(dim=0).mean().sqrt())
    return found


def rows_of(label: str, name: str, tried: Tried, truths: Float[Tensor, "window frame 2 y x"]) -> list[Row]:
    """Means over the windows that have a score, with their intervals."""
    scores = [score_window(x, physical_to_scaled(truth)) for x, truth in zip(tried.frames, truths, strict=False)]
    rows = list[Row]()
    for metric in max(scores, key=len):
        rows.append(independent_row(label, name, metric, [one[metric] for one in scores if metric in one]))
    for metric, value in (("passes", tried.passes), ("seconds", tried.seconds)):
        if not math.isnan(value):
            rows.append(Row(label, name, metric, value))
    return rows


def rows_of_all(
    label: str, methods: Mapping[str, Method], truths: Float[Tensor, "window frame 2 y x"]
) -> tuple[list[Row], list[str]]:
    """Rows of every method by its name; of one that fails a row that says so, and a note with the reason."""
    rows, notes = list[Row](), list[str]()
    for name, method in methods.items():
        try:
            rows += rows_of(label, name, method(), truths)
        except AnalysisFailed as error:
            rows.append(Row(label, name, "failed", 1.0))
            notes.append(f"failed, {label}, {name}: {error}")
    return rows, notes


def _rmse(error: torch.Tensor) -> float:
    return float(error.square().mean(dim=(1, 2, 3)).sqrt().mean())
