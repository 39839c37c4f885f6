"""Tuned observation errors of a cycle: the factor of every stream and variable, from the trailing window before it.

A factor follows from the cycles before, which the cycle before hands on (`diag/window.json.gz`), so a cycle made again
has the same one. Cycles in which the scheme did not analyse as configured (a lower rung) say nothing. Groups are named
as in the calibration: "stream/variable", the variable of the control layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from cycler_da.control import Control
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.identity import names_in
from cycler_da.obs.qc_stream import group_of
from cycler_da.verification.error_tuning import ErrorTuning, TunedSums, next_factor
from cycler_da.verification.window import CycleCalibration


def error_factors(window: Sequence[CycleCalibration], tuning: Mapping[str, ErrorTuning]) -> dict[str, float]:
    """Factor by group for the cycle after the window; `tuning` by stream."""
    groups = sorted({group for cycle in window for group in (*cycle.assimilated.totals.values, *cycle.error_factor)})
    return {
        group: next_factor(_previous(window, group), _sums(window, group), tuning[stream])
        for group in groups
        if (stream := group.partition("/")[0]) in tuning
    }


def tuned(observations: Observations, factors: Mapping[str, float], control: Control) -> Observations:
    """The observations with errors multiplied by their factors."""
    if not factors:
        return observations
    transformed = control.observations(observations)
    scales = [_scales(batch, transformed, factors) for batch in transformed.batches]
    pairs = zip(observations.batches, scales, strict=True)
    batches = tuple(replace(batch, error=batch.error * scale.to(batch.error)) for batch, scale in pairs)
    return replace(observations, batches=batches)


def in_words(factors: Mapping[str, float]) -> str | None:
    """Factors for an attribute of a file; None without any."""
    return ", ".join(f"{group} {factor:.4g}" for group, factor in factors.items()) or None


def _scales(batch: ObsBatch, observations: Observations, factors: Mapping[str, float]) -> torch.Tensor:
    names = names_in(batch, observations.layout)
    values = [factors.get(group_of(batch.stream, name), 1.0) for name in names.tolist()]
    return torch.tensor(values, dtype=torch.float64)


def _previous(window: Sequence[CycleCalibration], group: str) -> float:
    return next((cycle.error_factor[group] for cycle in reversed(window) if group in cycle.error_factor), 1.0)


def _sums(window: Sequence[CycleCalibration], group: str) -> list[TunedSums]:
    found = []
    for cycle in window:
        totals = cycle.assimilated.totals.values.get(group)
        if cycle.is_full_scheme and totals is not None and "residual_innovation" in totals:
            count, product, squared = (totals[n][0] for n in ("count", "residual_innovation", "error_squared"))
            found.append(TunedSums(count, product, squared, cycle.error_factor.get(group, 1.0)))
    return found
