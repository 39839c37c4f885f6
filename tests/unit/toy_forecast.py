"""A toy stochastic forecast model for the executor tests; workers import this module by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.registry import Spec

STEP = np.timedelta64(1, "h").astype("timedelta64[s]")
START = np.datetime64("2020-01-01T00:00:00", "s")


def layout() -> Layout:
    axes = (Axis("y", 16, periodic=True), Axis("x", 16, periodic=True))
    return Layout("toy", (Variable("a", "1", "first"), Variable("b", "1", "second")), Grid(axes), STEP)


def ensemble(n_members: int) -> Ensemble:
    draws = np.random.default_rng(5).standard_normal((n_members, 1, 2, 16, 16)).astype(np.float32)
    return Ensemble(torch.from_numpy(draws), np.array([START]), tuple(range(10, 10 + n_members)), layout())


@dataclass(frozen=True, kw_only=True)
class ToySpec(Spec):
    """x + 0.1 conv(tanh x) + 0.3 noise; writes down who builds and who runs in `folder`."""

    folder: str = ""
    digest: str = "toy"
    kills: int = 0  # batches with member 10 kill their worker this many times
    pause: float = 0.0

    def build(self, layout: Layout, *, device: str = "cpu") -> ToyModel:
        self.note(f"built.{os.getpid()}.{time.monotonic_ns()}")
        return ToyModel(self, layout)

    def note(self, name: str) -> None:
        if self.folder:
            (Path(self.folder) / name).touch()

    def notes(self, pattern: str) -> list[str]:
        return sorted(path.name for path in Path(self.folder).glob(pattern))


class ToyModel:
    history = 1

    def __init__(self, spec: ToySpec, layout: Layout) -> None:
        self.spec, self.layout, self.digest = spec, layout, "toy"
        self.kernel = torch.from_numpy(np.random.default_rng(7).standard_normal((2, 2, 3, 3)).astype(np.float32))

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        self.spec.note(f"ran.{start.members[0]}.{os.getpid()}.{time.monotonic_ns()}")
        if start.members[0] == 10 and len(self.spec.notes("killed.*")) < self.spec.kills:
            self.spec.note(f"killed.{os.getpid()}")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.spec.pause)
        x, frames = start.latest, []
        for i, _ in enumerate(valid_times):
            z = noise.normal("toy", (2, 16, 16), members=start.members, step=i, dtype=torch.float32)
            padded = torch.nn.functional.pad(torch.tanh(x), (1, 1, 1, 1), mode="circular")
            x = x + 0.1 * torch.nn.functional.conv2d(padded, self.kernel) + 0.3 * z
            frames.append(x)
        return Ensemble(torch.stack(frames, dim=1), valid_times, start.members, self.layout)
