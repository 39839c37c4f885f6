"""The config block `forecasts`: what is forecast from every analysis, and which products are made of it.

Not part of the config's digest: it changes no analysis, and a cycle's files say what was made.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pydantic import Field, field_validator

from cycler_da.errors import ConfigError
from cycler_da.operations_blocks import Block, require_duration
from cycler_da.times import parse_duration


class ForecastsBlock(Block):
    """Forecasts from the analyses of some chains."""

    lead: str = Field("60min", description="how far")
    every: str | None = Field(None, description="between valid times; None: every model step")
    chains: list[str] = Field(default_factory=list, description="chains whose analyses are forecast; empty: all")
    thresholds: dict[str, list[float]] = Field(default_factory=dict, description="of probabilities, by variable")
    radii_km: list[float] = Field(default_factory=lambda: [8.0, 16.0, 40.0])
    percentiles: list[float] = Field(default_factory=lambda: [10.0, 50.0, 90.0])
    points: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="places of the meteogram, name: [latitude, longitude]"
    )

    _durations = field_validator("lead", "every")(require_duration)

    @field_validator("percentiles", "radii_km")
    @classmethod
    def _increasing(cls, values: list[float]) -> list[float]:
        if any(b <= a for a, b in pairwise(values)) or any(value < 0 for value in values):
            raise ValueError("expected increasing numbers of 0 or more")
        return values

    def leads(self, step: np.timedelta64) -> np.ndarray:
        """Lead times, timedelta64[s]; raises ConfigError unless they are whole model steps."""
        every = step if self.every is None else parse_duration(self.every)
        lead = parse_duration(self.lead)
        if every % step or lead % every or not lead > np.timedelta64(0, "s"):
            raise ConfigError(
                f"forecasts: lead {self.lead} every {self.every or 'step'} does not fit the model step of {step}; "
                "expected whole steps, and a lead of a whole number of them"
            )
        return every * np.arange(1, int(lead / every) + 1)
