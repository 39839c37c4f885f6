"""Windows, sensors and settings of the benchmark `soad_settings`: what is true, what is seen, what is known before.

    setting I     a background of the first frame, x_b = x_0 + 0.1 xi in climatological standard deviations
    setting II    no background
    setting III   no background, several sensors at once

Nine daily frames. A part of the cells, random or even, the same in all windows, frames and channels of a sensor, in
every n-th frame: so windows are one batch.
Sensors act on states in climatological standard deviations, errors are 0.1 in the units of the sensor, and Gaussian
unless a case has another law: arctan(3 x),
1.5 sin(3 x), and "vorticity to velocity" as published (`obs.layer_velocity`).
Source: SOAD, arXiv:2407.21314, section 4; there 256 x 256, coarsened from a run with 512 x 512.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, ObservationOperator, Observations
from cycler_da.obs.error_laws import GAUSSIAN, ErrorLaw
from cycler_da.obs.layer_velocity import PublishedVelocitySpec
from cycler_da.obs.nonlinear import ArctanSpec, SineSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

START, FRAMES, ERROR = np.datetime64("2020-01-01T00:00:00", "s"), 9, 0.1
#: Climatological standard deviations of q1 and q2, s-1, and a third of them as the trained operators have it.
STD, THIRD = (8.2e-6, 1.06e-6), (2.7333e-6, 3.5333e-7)
LAYOUT = TwoLayerQGSpec().layout()
CELLS = math.prod(LAYOUT.grid.shape)
TIMES = START + LAYOUT.step * np.arange(FRAMES)


#: A truth, its observations frame by frame, and its noise.
Window = tuple["Tensor", list[Observations], Noise]


@dataclass(frozen=True)
class Case:
    """A setting with its sensors, the part of the cells that are seen, and every how many frames."""

    setting: str
    sensors: tuple[str, ...]
    part: float
    interval: int
    is_even: bool = False  # every n-th cell along both axes in place of a random part
    law: ErrorLaw = GAUSSIAN

    @property
    def has_background(self) -> bool:
        """True in setting I."""
        return self.setting == "I"

    @property
    def sees_velocity(self) -> bool:
        """True with the sensor that is linear and not local."""
        return "velocity" in self.sensors

    @property
    def label(self) -> str:
        """Name in the table."""
        often = "every day" if self.interval == 1 else f"every {self.interval} days"
        cells = "an even " if self.is_even else ""
        law = "" if self.law == GAUSSIAN else f", {self.law.words} errors"
        return f"{self.setting}: {' + '.join(self.sensors)}, {cells}{100 * self.part:g} % of cells, {often}{law}"

    def cells(self, sensor: str, noise: Noise) -> Int[np.ndarray, "seen"]:
        """Flat cells that a sensor sees, sorted; raises ValueError for an even part that is not 1 / n^2."""
        if not self.is_even:
            drawn = Noise(noise.seed).generator(f"{sensor}.cells").permutation(CELLS)[: int(self.part * CELLS)]
            return np.sort(drawn)
        stride = round(self.part**-0.5)
        if stride**-2 != self.part:
            raise ValueError(f"a part of {self.part} has no stride")
        return np.arange(CELLS).reshape(LAYOUT.grid.shape)[::stride, ::stride].ravel()


CASES = (
    Case("I", ("arctan",), 0.0625, 2),
    Case("II", ("arctan",), 0.0625, 2),
    Case("III", ("arctan", "sine"), 0.0625, 2),
    Case("III", ("arctan", "velocity"), 0.0625, 2),
    Case("III", ("sine", "velocity"), 0.0625, 2),
    Case("III", ("arctan", "sine", "velocity"), 0.0625, 2),
)


def make_truths(n_windows: int, years: float, seed: int) -> Float[Tensor, "window frame 2 y x"]:
    """Daily states of independent runs, each with a spin-up of its own."""
    spec = TwoLayerQGSpec()
    solver = spec.build(dtype=torch.float64)
    frames = [spec.spun_up(Noise(seed), members=range(n_windows), years=years).to(torch.float64)]
    for _ in range(FRAMES - 1):
        frames.append(solver.step(frames[-1]))
    return torch.stack(frames, dim=1)


def observe(case: Case, truth: Float[Tensor, "frame 2 y x"], noise: Noise) -> list[Observations]:
    """Observations of every frame, possibly none."""
    found: list[list[ObsBatch]] = [[] for _ in range(FRAMES)]
    for sensor in case.sensors:
        cells = case.cells(sensor, noise)
        for i, (operator, channels) in enumerate(operators(sensor)):
            where = _where(cells, channels)
            for frame in range(0, FRAMES, case.interval):
                clean = operator(truth[frame : frame + 1], where, LAYOUT)[0]
                xi = _errors(case.law, noise, f"{sensor}.{i}", len(clean), frame)
                found[frame].append(_batch(f"{sensor}{i}", operator, where, clean + ERROR * xi, TIMES[frame]))
    return [Observations(tuple(batches), LAYOUT) for batches in found]


def seen_windows(case: Case, truths: Float[Tensor, "window frame 2 y x"], seed: int) -> list[Window]:
    """Every truth with its observations and its noise."""
    noises = [Noise(seed, i) for i in range(len(truths))]
    return [(truth, observe(case, truth, noise), noise) for truth, noise in zip(truths, noises, strict=True)]


def operators(sensor: str) -> list[tuple[ObservationOperator, tuple[int, ...]]]:
    """Operators of a sensor with the variables that each sees."""
    if sensor == "velocity":
        return [(PublishedVelocitySpec(component=component, std=STD).build(LAYOUT), (0, 1)) for component in "xy"]
    if sensor == "arctan":
        return [(ArctanSpec(scale=scale).build(LAYOUT), (layer,)) for layer, scale in enumerate(THIRD)]
    return [(SineSpec(scale=scale, amplitude=1.5).build(LAYOUT), (layer,)) for layer, scale in enumerate(THIRD)]


def background(truth: Float[Tensor, "frame 2 y x"], noise: Noise) -> Float[Tensor, "2 y x"]:
    """x_b of setting I, physical units."""
    xi = noise.shared_normal("background", truth.shape[1:], dtype=torch.float64)
    return truth[0] + ERROR * scaled_to_physical(xi)


def scaled_to_physical(z: Float[Tensor, "*any 2 y x"]) -> Float[Tensor, "*any 2 y x"]:
    """Climatological standard deviations to s-1."""
    return z * torch.tensor(STD, dtype=z.dtype)[:, None, None]


def physical_to_scaled(x: Float[Tensor, "*any 2 y x"]) -> Float[Tensor, "*any 2 y x"]:
    """s-1 to climatological standard deviations."""
    return x / torch.tensor(STD, dtype=x.dtype)[:, None, None]


def _errors(law: ErrorLaw, noise: Noise, stream: str, n: int, frame: int) -> Float[Tensor, "obs"]:
    """Errors of variance 1."""
    if law == GAUSSIAN:
        return noise.shared_normal(stream, (n,), step=frame, dtype=torch.float64)
    return torch.from_numpy(law.draw(noise.generator(f"{stream}.{law.words}", step=frame), n))


def _where(cells: np.ndarray, channels: tuple[int, ...]) -> Locations:
    axes = LAYOUT.grid.axes
    rows = np.unravel_index(cells, LAYOUT.grid.shape)
    position = np.stack([axis.centres()[row] for axis, row in zip(axes, rows, strict=True)], axis=-1)
    seen = torch.tensor(channels, dtype=torch.int64).repeat_interleave(len(cells))
    return Locations(torch.from_numpy(np.tile(position, (len(channels), 1))), seen)


def _batch(
    stream: str, operator: ObservationOperator, where: Locations, values: Tensor, time: np.datetime64
) -> ObsBatch:
    n = len(values)
    return ObsBatch(
        stream=stream,
        operator=operator,
        where=where,
        values=values,
        error=torch.full((n,), ERROR, dtype=torch.float64),
        times=np.repeat(time, n),
        ids=np.array([f"{stream}/{i}" for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )
