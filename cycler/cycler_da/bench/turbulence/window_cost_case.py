"""What the benchmark `window_cost` gives to schemes: a window of two-layer QG on any grid, its background and sensors.

The truth of `soad_settings` with the waves that a grid has; arctan(3 x) in 6.25 % of the cells of both layers every
second day, errors of .1; a background with an error of .1 climatological deviations and members about it with as much.
MASF is told the states of the same cells themselves: it takes no curves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.bench.turbulence.soad_settings_cases import ERROR, START, STD, THIRD, scaled_to_physical
from cycler_da.bench.turbulence.window_cost_grids import layout_of
from cycler_da.ensemble import Ensemble
from cycler_da.generative.shells import resampled
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, ObservationOperator, Observations
from cycler_da.obs.nonlinear import ArctanSpec
from cycler_da.obs.points import CellSpec

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

PART, INTERVAL = 0.0625, 2
NOISE = Noise(99, 0)


@dataclass(frozen=True)
class Case:
    """Frames, members and points a side."""

    frames: int = 5
    members: int = 2
    size: int = 64

    @property
    def label(self) -> str:
        """Name in the table."""
        return f"{self.frames} frames, {self.members} members, {self.size} x {self.size}"


@dataclass(frozen=True)
class Problem:
    """A window of the case; `truth` are states of the grid of `soad_settings`, physical units."""

    case: Case
    truth: Float[Tensor, "frame 2 y x"]

    @cached_property
    def layout(self) -> Layout:
        """Of the case's grid."""
        return layout_of(self.case.size)

    @property
    def times(self) -> np.ndarray:
        """Of the frames."""
        return START + self.layout.step * np.arange(self.case.frames)

    @property
    def start(self) -> Ensemble:
        """Members about the background, at the first frame."""
        case, first = self.case, resampled(self.truth[0], self.case.size)
        xi = NOISE.shared_normal("background", first.shape, dtype=torch.float64)
        z = NOISE.normal("start", first.shape, members=range(case.members), dtype=torch.float64)
        states = first + ERROR * scaled_to_physical(xi + z)
        return Ensemble(states.to(torch.float32)[:, None], self.times[:1], tuple(range(case.members)), self.layout)

    def seen(self, *, is_curved: bool) -> list[Observations]:
        """Observations of every frame, none every other day."""
        n = self.case.size**2
        cells = np.sort(NOISE.generator("cells").permutation(n)[: int(PART * n)])
        frames = resampled(self.truth[: self.case.frames], self.case.size)
        batches = [self._batches(cells, x, i, is_curved=is_curved) for i, x in enumerate(frames)]
        return [Observations(() if i % INTERVAL else some, self.layout) for i, some in enumerate(batches)]

    def _batches(self, cells: np.ndarray, x: Tensor, frame: int, *, is_curved: bool) -> tuple[ObsBatch, ...]:
        axes, count, found = self.layout.grid.axes, len(cells), []
        rows = np.unravel_index(cells, self.layout.grid.shape)
        position = np.stack([axis.centres()[row] for axis, row in zip(axes, rows, strict=True)], axis=-1)
        for layer in range(len(STD)):
            where = Locations(torch.from_numpy(position), torch.full((count,), layer, dtype=torch.int64))
            operator: ObservationOperator = CellSpec().build(self.layout)
            if is_curved:
                operator = ArctanSpec(scale=THIRD[layer]).build(self.layout)
            error = ERROR if is_curved else ERROR * STD[layer]
            clean = operator(x[None], where, self.layout)[0]
            xi = NOISE.shared_normal(f"seen.{layer}", clean.shape, step=frame, dtype=torch.float64)
            found.append(
                ObsBatch(
                    stream=f"layer{layer}",
                    operator=operator,
                    where=where,
                    values=clean + error * xi,
                    error=torch.full((count,), error, dtype=torch.float64),
                    times=np.repeat(self.times[frame], count),
                    ids=np.array([f"layer{layer}/{i}" for i in range(count)]),
                    flags=torch.zeros(count, dtype=torch.int32),
                )
            )
        return tuple(found)
