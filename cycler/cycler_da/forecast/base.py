"""The forecast model's contract, and the count of model steps between valid times."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.times import format_duration, iso_time


@runtime_checkable
class ForecastModel(Protocol):
    """Carries members forward from one valid time to later ones."""

    @property
    def layout(self) -> Layout:
        """Layout of the states it carries."""
        ...

    @property
    def history(self) -> int:
        """Number of times it reads, the present included."""
        ...

    @property
    def digest(self) -> str:
        """Identifies weights or settings in products."""
        ...

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        """Forecast every member to `valid_times`, whole model steps after the start, increasing.

        The noise of member i at step n depends on (noise, i, n) alone, not on the other members.
        """
        ...


def model_steps(start: np.datetime64, valid_times: np.ndarray, step: np.timedelta64) -> list[int]:
    """Number of model steps from the start to each valid time; ConfigError unless whole and increasing."""
    counts = [(time - start) / step for time in valid_times]
    is_whole = all(count == round(count) for count in counts)
    if not is_whole or any(later <= earlier for earlier, later in pairwise([0, *counts])):
        shown = ", ".join(iso_time(time) for time in valid_times)
        raise ConfigError(
            f"forecast from {iso_time(start)} to {shown}: expected increasing times a whole number of steps "
            f"({format_duration(step)}) later; set cycles.every to a multiple of the model's step"
        )
    return [round(count) for count in counts]
