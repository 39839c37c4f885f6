"""More samples from the same radar sequences: looked at with other cells and other steps.

A view reads one 1 km pixel of every cell of `spacing` km, at frames `minutes` apart. Growth, decay and what advection
gets wrong look alike at 2 to 4 km and 8 to 12 minutes, so views beside the one that is forecast (3 km, 10 minutes) make
a network less sure of the few storms it is trained on. Of a batch all samples are of one view, chosen by keyed noise
with its `share`. Sequences that have no frames at a step leave that view to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.systems.radar_pairs import (
    PHASES,
    SPACING,
    STEP_MINUTES,
    RadarBatch,
    RadarPairs,
    RadarSequence,
    Sampling,
    make_pairs,
)

#: Pixels of the block of a cell from which other views are made: not those of the view that is forecast.
OTHER_PHASES = ((1, 1), (0, 1))


@dataclass(frozen=True, kw_only=True)
class RadarView:
    """Cells, step and share of the batches of a view."""

    spacing: int = SPACING  # km
    minutes: int = STEP_MINUTES
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.spacing < 1 or self.minutes < 1 or not self.share > 0:
            raise ConfigError(f"radar view: spacing and minutes are 1 or more and share is above 0, got {self}")

    @property
    def is_forecast(self) -> bool:
        """True for the cells and the step of the forecasts."""
        return (self.spacing, self.minutes) == (SPACING, STEP_MINUTES)

    def pairs(self, sequences: Sequence[RadarSequence]) -> RadarPairs:
        """All samples of the view; raises DataError when no sequence has frames at its step."""
        phases = PHASES if self.is_forecast else OTHER_PHASES
        return make_pairs(sequences, phases=phases, sampling=Sampling(spacing=self.spacing, minutes=self.minutes))


@dataclass(frozen=True)
class RadarMixture:
    """Samples of several views; the first is that of the forecasts."""

    pairs: tuple[RadarPairs, ...]
    shares: tuple[float, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.pairs)

    def batch(self, step: int, size: int, *, seed: int, crop: int) -> RadarBatch:
        """The batch of a training step, of one view; equal arguments give equal batches."""
        if len(self.pairs) == 1:
            return self.pairs[0].batch(step, size, seed=seed, crop=crop)
        total = sum(self.shares)
        draw = Noise(seed).generator("radar_views", step=step)
        chosen = int(draw.choice(len(self.pairs), p=[share / total for share in self.shares]))
        return self.pairs[chosen].batch(step, size, seed=seed, crop=crop)


def make_mixture(sequences: Sequence[RadarSequence], views: Sequence[RadarView]) -> RadarMixture:
    """Make the samples of all views; raises ConfigError unless the first is that of the forecasts."""
    if not views or not views[0].is_forecast:
        raise ConfigError(
            f"data.views: the first is that of the forecasts, spacing {SPACING} and minutes {STEP_MINUTES}; got {views}"
        )
    return RadarMixture(tuple(view.pairs(sequences) for view in views), tuple(view.share for view in views))
