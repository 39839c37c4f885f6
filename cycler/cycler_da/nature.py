"""Nature: the states that observations are drawn from and analyses are scored against.

`simulated` is a run of a numerical system kept in a NetCDF file, which is made when it is missing; `file`
is any file of single states; `sevir` (systems/sevir.py) is an event of real radar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from cycler_da.errors import ConfigError, MissingInput
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import NatureFile, open_nature, write_frames
from cycler_da.registry import Spec, lookup, register
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec, spin_up
from cycler_da.times import parse_time

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Nature(Protocol):
    """True states at some times."""

    layout: Layout
    valid_times: np.ndarray

    def states(self, times: np.ndarray) -> Float[Tensor, "time channel *space"]:
        """States at the given times, physical units; raises MissingInput for a time that is not there."""
        ...


@register("nature", "file")
@dataclass(frozen=True, kw_only=True)
class NatureFileSpec(Spec):
    """A file of single states, dimensions (time, [channel], [y], x)."""

    path: str

    def build(self) -> NatureFile:
        """Open the file; raises MissingInput or DataError."""
        return open_nature(Path(self.path))


@register("nature", "simulated")
@dataclass(frozen=True, kw_only=True)
class SimulatedNatureSpec(Spec):
    """A run of a numerical system from a spun-up random start, kept in a file."""

    path: str
    seed: int
    start: str
    steps: int  # layout steps after the start
    spin_up_years: float = 2.0
    system: dict[str, Any] = field(default_factory=lambda: {"kind": "two_layer_qg"})

    def __post_init__(self) -> None:
        self._spec()  # a system that cannot be built is found when the config is read

    def build(self) -> NatureFile:
        """Open the run; raises MissingInput when it has not been made, DataError when it is another run."""
        if not Path(self.path).is_file():
            raise MissingInput(f"nature run {self.path} does not exist; make it with `cycler nature CONFIG`")
        nature = open_nature(Path(self.path), layout=self._spec().layout())
        first, last = parse_time(self.start), self.valid_times()[-1]
        if nature.valid_times[0] > first or nature.valid_times[-1] < last:
            raise MissingInput(
                f"nature run {self.path} covers {nature.valid_times[0]} to {nature.valid_times[-1]}, the config asks "
                f"for {first} to {last}; make it again with `cycler nature CONFIG --force`"
            )
        return nature

    def valid_times(self) -> np.ndarray:
        """Times of the run."""
        return parse_time(self.start) + self._spec().layout().step * np.arange(self.steps + 1)

    def make(self, on_step: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """Run the system and write the file, atomically and frame by frame."""
        spec, path = self._spec(), Path(self.path)
        solver = spec.build(dtype=torch.float64)
        # The climate is that of the released models' training: same solver, same time step, another seed.
        start = spin_up(spec.build(), Noise(self.seed), members=[0], years=self.spin_up_years).to(torch.float64)

        def frames() -> Iterator[Tensor]:
            state = start
            yield state[0].float()
            for done in range(self.steps):
                state = solver.step(state)
                on_step(done + 1, self.steps)
                yield state[0].float()

        path.parent.mkdir(parents=True, exist_ok=True)
        times = self.valid_times()
        facts = FileFacts("nature", times[0], attributes={"seed": self.seed, "spin_up_years": self.spin_up_years})
        write_frames(path, spec.layout(), times, frames(), facts=facts)
        return path

    def _spec(self) -> TwoLayerQGSpec:
        options = dict(self.system)
        kind = options.pop("kind", "two_layer_qg")
        cls = lookup("system", kind)
        try:
            spec = cls(**options)
        except TypeError as error:
            valid = ", ".join(option.name for option in fields(cls))  # type: ignore[arg-type]  # every Spec is one
            raise ConfigError(f"nature.system: {error}; valid: kind, {valid}") from error
        if not isinstance(spec, TwoLayerQGSpec):
            raise ConfigError(f"nature simulated: system {kind!r} cannot be run; valid: two_layer_qg")
        return spec
