"""A transition that is told levels, for rings side by side (`rings`): one level for all of them.

The spread of several rings together is no ring's own; where the level is the spread, rings are run one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.bench.small_systems.rings import RingPrediction, RingTransition, states_of_rings
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.dense_transition import DenseTransition

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class ConditionedRings:
    """The transition for all rings; counts the members it was run for, at any level."""

    inner: ConditionedTransition
    n_passes: int = 0
    history: int = 1
    state_climatology: None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels at which it was trained."""
        return self.inner.levels

    def predict(self, frames: Float[Tensor, "batch time 1 ring x"]) -> RingPrediction:
        """The clean transition."""
        return self.at_level(0.0).predict(frames)

    def at_level(self, level: float) -> RingsAtLevel:
        """The transition of one level."""
        return RingsAtLevel(self, level)

    def spread_level(self, states: Float[Tensor, "member 1 ring x"]) -> float:
        """The spread of the members over all rings as a level."""
        return self.inner.spread_level(states)


@dataclass(frozen=True)
class RingsAtLevel:
    """The transition of one level for all rings."""

    rings: ConditionedRings
    level: float
    history: int = 1
    state_climatology: None = None

    def predict(self, frames: Float[Tensor, "batch time 1 ring x"]) -> RingPrediction:
        """Bind it to the last states of a batch."""
        self.rings.n_passes += len(frames)
        now = frames[:, -1]
        told = self.rings.inner.at_level(self.level)
        return RingPrediction(told.predict(states_of_rings(now)[:, None]), tuple(now.shape))


def rings_of(transition: DenseTransition | ConditionedTransition) -> RingTransition | ConditionedRings:
    """The transition of one ring for rings side by side."""
    if isinstance(transition, ConditionedTransition):
        return ConditionedRings(transition)
    return RingTransition(transition)
