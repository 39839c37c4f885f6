"""How MASF fits a network to the members of a cycle: block `fine_tune` of its schemes; the defaults are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cycler_da.schemes.frame.settings import require

#: Steps of fine-tuning where none are given, by where it begins; published.
TUNING_STEPS = {"network": 120, "scratch": 200}


@dataclass(frozen=True, kw_only=True)
class FineTuneSpec:
    """How a network is fitted to the members of a cycle; the defaults are published."""

    begin: Literal["network", "scratch"] = "network"  # that of the cycle before, or an untrained one
    steps: int | None = None  # None: 120 from a network, 200 from scratch
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        expected = " or ".join(TUNING_STEPS)
        require(self.begin in TUNING_STEPS, "fine_tune.begin", self.begin, expected=expected, scheme="masf")
        is_whole = self.steps is None or self.steps >= 1
        require(is_whole, "fine_tune.steps", self.steps, expected="1 or more", scheme="masf")
        expected = "a positive number"
        require(self.learning_rate > 0, "fine_tune.learning_rate", self.learning_rate, expected=expected, scheme="masf")

    @property
    def count(self) -> int:
        """Steps of the optimiser."""
        return TUNING_STEPS[self.begin] if self.steps is None else self.steps
