"""A window smoother with its gains at all noise ratios: what `diffusion.window` takes in place of a network.

The tables of the nearest tabulated ratio serve, whole: gains of one fit belong together. A mean of two sets is worse
than either (features are nearly parallel, and each set has its own mixture of them): by 6 % of the RMSE halfway between
ratios a factor of two apart. Above the last ratio the gains of noisy frames fall like 1 / r^2, as those of any Wiener
filter do. Which task the tables are of is told by the channels and by whether frames are given (`task_name`), and by
the length of the windows they were fitted on: the nearest one, the longer of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.generative.diffusion.smoother import Smoother, TableGains

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def task_name(present: tuple[int, ...], n_given: int, n_states: int) -> str:
    """Name of the tables: states | given | the places of the observed fields."""
    if n_given:
        return "given"
    return "observed." + "-".join(str(c) for c in present[n_states:]) if len(present) > n_states else "states"


@dataclass(frozen=True, eq=False)
class WindowSmoother:
    """The smoother of windows of `frames` frames with some channels."""

    smoother: Smoother
    tables: Mapping[str, Float[Tensor, "ratio place shell n p"]]
    ratios: Float[Tensor, "ratio"]
    frames: int
    present: tuple[int, ...]
    n_states: int

    def improved(
        self,
        noisy: Float[Tensor, "batch frame channel y x"],
        estimate: Float[Tensor, "batch frame channel y x"],
        std: Float[Tensor, "batch frame channel 1 1"],
        ratio: float,
        n_given: int = 0,
    ) -> Float[Tensor, "batch frame channel y x"]:
        """The smoothed estimate; `std` is not needed."""
        part = min(1.0, float(self.ratios[-1]) / ratio) ** 2
        gains = TableGains(self._at(ratio, n_given))
        return self.smoother.smooth(estimate + part * (noisy - estimate), estimate, gains, n_given)

    def left(self, ratio: float, n_given: int = 0) -> float:
        """Part of the Gaussian's squared error that was left in training."""
        return float(self._at(ratio, n_given)["left"])

    def _at(self, ratio: float, n_given: int) -> dict[str, Tensor]:
        task = f"{task_name(self.present, n_given, self.n_states)}."
        lengths = {int(name.split(".")[-2]) for name in self.tables if name.startswith(task)}
        start = f"{task}{min(lengths, key=lambda length: (abs(length - self.frames), -length))}."
        nearest = int((self.ratios.log() - math.log(ratio)).abs().argmin())
        return {
            name.removeprefix(start): table[nearest] for name, table in self.tables.items() if name.startswith(start)
        }
