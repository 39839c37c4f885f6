"""A small experiment that can be served for hundreds of cycles: Lorenz-96 with two streams of observations.

A folder of its own holds everything: the truth, a start ensemble, the config, the files of both streams in a pool,
and the empty folder into which they are delivered, in time, late, damaged or never. The data are cheap (40 values,
a few members) so that what is exercised is the system around them; the numerical model is the truth's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from cycler_da.ensemble import Ensemble
from cycler_da.noise import Noise
from cycler_da.obs.networks import RandomFractionSpec
from cycler_da.obs.synthetic import write_synthetic
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_ensemble, write_frames
from cycler_da.products.store import Store
from cycler_da.systems.lorenz96 import Lorenz96Spec
from cycler_da.times import parse_time, time_stamp

if TYPE_CHECKING:
    from torch import Tensor

START = parse_time("2020-01-01T00:00Z")
EVERY = np.timedelta64(6 * 3600, "s")
STREAMS = ("buoys", "drifters")
ERROR = 1.0
NAME = "soak"
CHAIN = "letkf"


@dataclass(frozen=True)
class SoakCase:
    """The folder of a case."""

    folder: Path
    cycles: int
    members: int = 6

    @property
    def config(self) -> Path:
        """The experiment's YAML."""
        return self.folder / "soak.yaml"

    @property
    def clock(self) -> Path:
        """File that holds the data time."""
        return self.folder / "clock"

    @property
    def store(self) -> Store:
        """The store of the only chain."""
        return Store(self.folder / "runs", NAME, CHAIN)

    @property
    def times(self) -> np.ndarray:
        """Start and all cycles."""
        return START + EVERY * np.arange(self.cycles + 1)

    def pooled(self, stream: str, time: np.datetime64) -> Path:
        """The whole file of a window, not delivered yet."""
        return self.folder / "pool" / f"{stream}_{time_stamp(time)}.nc"

    def delivered(self, stream: str, time: np.datetime64) -> Path:
        """Where the file of a window is looked for."""
        return self.folder / "incoming" / f"{stream}_{time_stamp(time)}.nc"

    def deliver(self, stream: str, time: np.datetime64, content: bytes | None = None) -> None:
        """Bring a file as a supplier should: under another name, then renamed."""
        target = self.delivered(stream, time)
        draft = target.with_suffix(".part")
        draft.write_bytes(self.pooled(stream, time).read_bytes() if content is None else content)
        draft.rename(target)

    def set_time(self, time: np.datetime64) -> None:
        """Move the data time."""
        draft = self.clock.with_suffix(".part")
        draft.write_text(f"{time}Z\n")
        draft.rename(self.clock)


def make_case(folder: Path, *, cycles: int, members: int = 6, seed: int = 1) -> SoakCase:
    """Make truth, start ensemble, observation files and config; the incoming folder is empty."""
    case = SoakCase(folder, cycles, members)
    for name in ("pool", "incoming"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    truth = _truth(cycles, seed)
    layout = Lorenz96Spec().layout()
    write_frames(folder / "nature.nc", layout, case.times, (state.float() for state in truth), facts=_facts("nature"))
    _write_start(case, truth[0], seed)
    at = dict(zip(case.times.tolist(), truth, strict=True))
    for number, stream in enumerate(STREAMS):
        write_synthetic(
            lambda time: at[time.item()],
            folder / "pool",
            layout=layout,
            times=case.times[1:],
            stream=stream,
            network=RandomFractionSpec(fraction=0.4).build(layout),
            error={"u": ERROR},
            seed=seed + 10 * number,
        )
    case.config.write_text(yaml.safe_dump(describe(case), sort_keys=False))
    case.set_time(START)
    return case


def describe(case: SoakCase) -> dict[str, Any]:
    """The config as plain values."""
    system = {"kind": "lorenz96"}
    incoming = str(case.folder / "incoming")
    return {
        "name": NAME,
        "root": str(case.folder / "runs"),
        "seed": 1,
        "system": system,
        "nature": {"kind": "file", "path": str(case.folder / "nature.nc")},
        "start": {"kind": "ensemble_file", "path": str(case.folder / "start_{stamp}.nc")},
        "forecast": {"kind": "numerical", "system": system},
        "ensemble": {"members": case.members, "batch": 3},
        "observations": [{"stream": stream, "folder": incoming, "cutoff": "1h", "final": "12h"} for stream in STREAMS],
        "chains": [{"name": CHAIN, "scheme": {"kind": "letkf", "localization_radius_cells": 4, "inflation": 1.05}}],
        "cycles": {"start": f"{START}Z", "count": case.cycles, "every": "6h"},
        "verification": {"scale": {"u": 3.64}},  # climatological standard deviation of the model
        "plots": False,
    }


def _truth(cycles: int, seed: int) -> list[Tensor]:
    dynamics = Lorenz96Spec().build()
    state = 8.0 + Noise(seed).normal("truth", (1, 40), members=[0], dtype=torch.float64)
    for _ in range(400):  # onto the attractor: 100 days
        state = dynamics.step(state)
    return [state[0] for state in _run(dynamics.step, state, cycles)]


def _run(step: Any, state: Tensor, count: int) -> Iterator[Tensor]:
    yield state
    for _ in range(count):
        state = step(state)
        yield state


def _write_start(case: SoakCase, truth: Tensor, seed: int) -> None:
    noise = Noise(seed).normal("start", tuple(truth.shape), members=range(case.members), dtype=torch.float64)
    values = (truth + noise)[:, None].float()
    ensemble = Ensemble(values, case.times[:1], tuple(range(case.members)), Lorenz96Spec().layout())
    write_ensemble(case.folder / f"start_{time_stamp(START)}.nc", ensemble, facts=_facts("analysis"))


def _facts(kind: str) -> FileFacts:
    return FileFacts(kind, START, NAME)
