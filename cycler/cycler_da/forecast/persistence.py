"""Persistence: tomorrow as today. The least any forecast model must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cycler_da.ensemble import Ensemble
from cycler_da.forecast.base import model_steps
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register


@register("forecast", "persistence")
@dataclass(frozen=True, kw_only=True)
class PersistenceSpec(Spec):
    """No settings."""

    def build(self, layout: Layout, *, device: str = "cpu") -> PersistenceForecast:
        """Build the model."""
        return PersistenceForecast(layout)


@dataclass(frozen=True)
class PersistenceForecast:
    """Every member stays as it is."""

    layout: Layout
    history: int = 1
    digest: str = "persistence"

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        """Repeat the last state at every valid time."""
        model_steps(start.valid_time, valid_times, self.layout.step)
        repeated = start.values[:, -1:].expand(-1, len(valid_times), *start.values.shape[2:]).clone()
        return Ensemble(repeated, np.asarray(valid_times), start.members, start.layout)
