"""Nature: the states that observations are drawn from and analyses are scored against.

`simulated` is a run of a numerical system kept in a NetCDF file, which is made when it is missing; `file`
is any file of single states; `sevir` (systems/sevir.py) is an event of real radar. All stand outside the store,
so they are tried before they are read (trial_read.py): coordinates when a file is opened, frames as they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from cycler_da.errors import MissingInput
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import NatureFile, open_nature, write_frames
from cycler_da.registry import Spec, register
from cycler_da.systems.base import ClimateSpec, noisy_step
from cycler_da.systems.climate import climate_system
from cycler_da.times import parse_time
from cycler_da.trial_read import read_head, require_harmless

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Bytes of values, as float64, that are tried at once: some 50 ms, as much as the process for it.
BLOCK = 2**22


class Nature(Protocol):
    """True states at some times."""

    layout: Layout
    valid_times: np.ndarray

    def states(self, times: np.ndarray) -> Float[Tensor, "time channel *space"]:
        """States at the given times, physical units; raises MissingInput for a time that is not there."""
        ...


@dataclass(frozen=True)
class TriedNature:
    """A nature file whose frames are tried, block after block, before they are read."""

    file: NatureFile
    _harmless: set[int] = field(default_factory=set, repr=False, compare=False)  # blocks that were tried

    @property
    def layout(self) -> Layout:
        """Layout of the states."""
        return self.file.layout

    @property
    def valid_times(self) -> np.ndarray:
        """Valid times of all frames, datetime64[s]."""
        return self.file.valid_times

    def states(self, times: np.ndarray) -> Float[Tensor, "time channel *space"]:
        """As `NatureFile.states`; raises DataError for frames that end the process that reads them."""
        per_block = max(1, BLOCK // (8 * math.prod(self.layout.state_shape)))
        wanted = np.flatnonzero(np.isin(self.valid_times, times)) // per_block
        for block in sorted(set(wanted.tolist()) - self._harmless):
            frames = [per_block * block, per_block * (block + 1)]
            require_harmless(self.file.path, what="nature file", reader=read_frames, argument=frames)
            self._harmless.add(block)
        return self.file.states(times)


def open_tried(path: Path, *, layout: Layout | None = None) -> TriedNature:
    """Open a nature file from outside; errors as of `open_nature`, and DataError for one that ends its reader."""
    require_harmless(path, what="nature file", reader=read_head)
    return TriedNature(open_nature(path, layout=layout))


def read_frames(path: Path, frames: list[int]) -> None:
    """Read frames from a position to before another, for nothing but to see whether it can be done."""
    nature = open_nature(path)
    nature.states(nature.valid_times[slice(*frames)])


@register("nature", "file")
@dataclass(frozen=True, kw_only=True)
class NatureFileSpec(Spec):
    """A file of single states, dimensions (time, [channel], [y], x)."""

    path: str

    def build(self) -> TriedNature:
        """Open the file; raises MissingInput or DataError."""
        return open_tried(Path(self.path))


@register("nature", "simulated")
@dataclass(frozen=True, kw_only=True)
class SimulatedNatureSpec(Spec):
    """A run of a numerical system from a spun-up random start, kept in a file."""

    path: str
    seed: int
    start: str
    steps: int  # layout steps after the start
    spin_up_years: float | None = None  # None: what is usual for the system
    system: dict[str, Any] = field(default_factory=lambda: {"kind": "two_layer_qg"})

    def __post_init__(self) -> None:
        self.system_spec()  # a system that cannot be built is found when the config is read

    def build(self) -> TriedNature:
        """Open the run; raises MissingInput when it has not been made, DataError when it is another run."""
        if not Path(self.path).is_file():
            raise MissingInput(f"nature run {self.path} does not exist; make it with `cycler nature CONFIG`")
        nature = open_tried(Path(self.path), layout=self.system_spec().layout())
        first, last = parse_time(self.start), self.valid_times()[-1]
        if nature.valid_times[0] > first or nature.valid_times[-1] < last:
            raise MissingInput(
                f"nature run {self.path} covers {nature.valid_times[0]} to {nature.valid_times[-1]}, the config asks "
                f"for {first} to {last}; make it again with `cycler nature CONFIG --force`"
            )
        return nature

    def valid_times(self) -> np.ndarray:
        """Times of the run."""
        return parse_time(self.start) + self.system_spec().layout().step * np.arange(self.steps + 1)

    def make(self, on_step: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """Run the system and write the file, atomically and frame by frame."""
        spec, path = self.system_spec(), Path(self.path)
        solver, noise = spec.build(dtype=torch.float64), Noise(self.seed)
        # The climate is that of the released models' training: same solver, same time step, another seed.
        start = spec.spun_up(noise, members=[0], years=self.spin_up_years).to(torch.float64)

        def frames() -> Iterator[Tensor]:
            state = start
            yield state[0].float()
            for done in range(self.steps):
                state = noisy_step(solver, state, noise, members=[0], step=done)
                on_step(done + 1, self.steps)
                yield state[0].float()

        path.parent.mkdir(parents=True, exist_ok=True)
        times = self.valid_times()
        facts = FileFacts("nature", times[0], attributes={"seed": self.seed, **self._spin_up()})
        write_frames(path, spec.layout(), times, frames(), facts=facts)
        return path

    def _spin_up(self) -> dict[str, float]:
        return {} if self.spin_up_years is None else {"spin_up_years": self.spin_up_years}

    def system_spec(self) -> ClimateSpec:
        """Settings of the system; raises ConfigError for one that cannot be run from its climate."""
        return climate_system({"kind": "two_layer_qg", **self.system}, where="nature.system")
