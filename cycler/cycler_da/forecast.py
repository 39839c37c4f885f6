"""Forecast models: what carries an ensemble from one valid time to the next.

placeholder, the models follow
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Layout
from cycler_da.noise import Noise

if TYPE_CHECKING:
    pass


@runtime_checkable
class ForecastModel(Protocol):
    """Carries members forward; `history` is the number of past times it reads, the present included."""

    layout: Layout
    history: int
    digest: str  # identifies weights or settings in products

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        """Forecast every member to `valid_times` (whole model steps after the start)."""
        ...
