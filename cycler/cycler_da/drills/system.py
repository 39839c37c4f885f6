"""A cycling system small enough to break many times: two-layer QG on 16 x 16 points, six members, two cycles.

The weights are not trained, the nature run is not spun up: a drill compares runs with each other, never with the
truth. Everything that drills share (weights, nature run, observation files) is made once and never changed.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import yaml

from cycler_da.cold_starts import add_cold_start
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import WeightCard, save_weights
from cycler_da.preparation import draw_stream, open_or_make_nature
from cycler_da.products.store import Store
from cycler_da.setting import load_setting
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.times import time_stamp

SIZE = 16
MEMBERS = 6
START = np.datetime64("2020-01-01T00:00:00", "s")
DAY = np.timedelta64(86400, "s")
CYCLES = (START + DAY, START + 2 * DAY)
TIMES = (START, *CYCLES)
LATER = CYCLES[-1] + np.timedelta64(3600, "s")  # data time at which all cycles are due
STREAMS = ("insitu", "buoys")
ERROR = {"q1": 8.0e-7, "q2": 1.0e-7}  # s-1

LETKF = {"name": "letkf", "scheme": {"kind": "letkf", "localization_radius_cells": 3, "inflation": 1.03}}
INTERPOLANT = {
    "name": "interpolant_filter",
    "scheme": {"kind": "interpolant_filter", "localization_radius_cells": 3},
}

Hashes = dict[str, Any]


@dataclass(frozen=True)
class TinySystem:
    """What all drills share, read-only: the folder with config, weights, nature run and observations."""

    folder: Path

    @property
    def config(self) -> Path:
        """The config of every drill."""
        return self.folder / "tiny.yaml"

    @property
    def observations(self) -> Path:
        """Observation files that drills copy."""
        return self.folder / "observations"


_FOLDER = re.compile(r"/\S*?cycler-drills-[^/\s]+(/tmp[^/\s]+)?")


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code (negative: the signal that killed it) and all it said."""

    code: int
    output: str

    @property
    def end(self) -> str:
        """Its last words on one line, for results that others read: without the folder that the drill had."""
        lines = [" ".join(line.split()) for line in _FOLDER.sub("DRILL", self.output).splitlines()]
        return " | ".join([line for line in lines if line][-2:])


class CommandServer:
    """Client of command_server.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cycler_da.drills.command_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_together(self, jobs: Sequence[Mapping[str, Any]]) -> list[Result]:
        """Start all commands at once, wait for all."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(list(jobs)) + "\n")
        self._process.stdin.flush()
        return [Result(**answer) for answer in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:  # on a machine so busy that nothing ends
            self._process.kill()


@dataclass(frozen=True)
class Drill:
    """One experiment folder of its own, on the shared system."""

    system: TinySystem
    server: CommandServer | None  # needed only by what runs in a process of its own
    folder: Path
    root: Path

    @property
    def served(self) -> CommandServer:
        """The server of commands, which this drill must have."""
        assert self.server is not None, "this drill was made without a server of commands"
        return self.server

    @property
    def observations(self) -> Path:
        """Observation files of this drill, a copy that may be damaged."""
        return self.folder / "observations"

    def obs_file(self, stream: str = "insitu", time: np.datetime64 = CYCLES[0]) -> Path:
        """The file of a stream and cycle."""
        return self.observations / f"{stream}_{time_stamp(time)}.nc"

    def settings(self, *more: str) -> list[str]:
        """`--set` values that lead every command to this drill's folder."""
        folders = [f"observations.{stream}.folder={self.observations}" for stream in STREAMS]
        return [f"root={self.root}", *folders, *more]

    def arguments(self, *more: str, options: Sequence[str] = (), orchestrator: str = "none") -> list[str]:
        """Command line of `cycler run` for this drill."""
        chosen = [word for setting in self.settings(*more) for word in ("--set", setting)]
        return ["run", str(self.system.config), "--orchestrator", orchestrator, *chosen, *options]

    def job(
        self,
        *more: str,
        options: Sequence[str] = (),
        fault: str = "",
        signal_number: int = signal.SIGKILL,
        limit: int | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        arguments: Sequence[str] | None = None,
        **more_of_it: Any,
    ) -> dict[str, Any]:
        """A run for the command server: `fault` and `signal_number` end it at a point, `kill_after` after seconds.

        `arguments` are those of another command; what else there is goes to `command_server.run` as it is.
        """
        return {
            **more_of_it,
            "arguments": self.arguments(*more, options=options) if arguments is None else list(arguments),
            "environment": {"CYCLER_FAULT": fault, "COLUMNS": "400", **environment},
            "signal_number": int(signal_number),
            "file_limit": limit,
        }

    def look(self, now: np.datetime64, *more: str, **how: Any) -> dict[str, Any]:
        """One look of the service at a data time, for the command server; `how` as for `job`."""
        return self.job(arguments=["look", str(self.system.config), f"{now}Z", *self.settings(*more)], **how)

    def cold_start(self) -> None:
        """Let the experiment begin anew at the first cycle."""
        setting = load_setting(self.system.config, self.settings())
        add_cold_start(self.root / setting.config.name, CYCLES[0], valid_times=setting.valid_times)

    def run(self, *more: str, **how: Any) -> Result:
        """Run `cycler run` with `--set` values `more` in a process of its own; `how` as for `job`."""
        return self.served.run_together([self.job(*more, **how)])[0]

    def command(self, *arguments: str) -> Result:
        """Run another `cycler` command in a process of its own."""
        return self.served.run_together([{"arguments": arguments}])[0]

    def store(self, chain: str = "letkf") -> Store:
        """The store of a chain."""
        return Store(self.root, "tiny", chain)

    def hashes(self, chain: str = "letkf") -> Hashes:
        """Hash of the values of every member of every field of every complete cycle."""
        return hashes_of(self.store(chain))

    def summary(self, time: np.datetime64 = CYCLES[0], chain: str = "letkf") -> dict[str, Any]:
        """The summary of a published cycle."""
        return json.loads((self.store(chain).cycle_folder(time) / "diag" / "summary.json").read_text())


def make_system(folder: Path) -> TinySystem:
    """Make weights, config, nature run and the observation files of both streams."""
    save_tiny_weights(folder / "weights")
    system = TinySystem(folder)
    draw = {"network": {"kind": "random_fraction", "fraction": 0.1}, "error": ERROR}
    drawn = [
        {"stream": stream, "folder": str(system.observations), "draw": {**draw, "seed": seed}}
        for seed, stream in enumerate(STREAMS)
    ]
    content = _config(folder)
    drawing = folder / "drawing.yaml"
    drawing.write_text(yaml.safe_dump({**content, "observations": drawn}))
    setting = load_setting(drawing)
    nature = open_or_make_nature(setting, lambda text: None)
    for stream in setting.streams:
        draw_stream(setting, stream, nature, say=lambda text: None)
    # Files are given, as from outside: one that a drill removes is not drawn again.
    given = [{"stream": stream, "folder": str(system.observations)} for stream in STREAMS]
    system.config.write_text(yaml.safe_dump({**content, "observations": given}))
    return system


def fresh_arguments(system: TinySystem, root: Path, folder: Path) -> list[str]:
    """Command line of a run for which nature run and observation files are still to be made, in `folder`."""
    settings = [f"root={root}", f"nature.path={folder / 'nature.nc'}"]
    settings += [f"observations.{stream}.folder={folder / 'observations'}" for stream in STREAMS]
    chosen = [word for setting in settings for word in ("--set", setting)]
    return ["run", str(system.folder / "drawing.yaml"), "--orchestrator", "none", *chosen]


def save_tiny_weights(folder: Path, *, seed: int = 0) -> None:
    """Weights of a small network with random filters: a smooth, nonlinear map near the identity."""
    network = NetworkSpec("quadratic_spectral", {"size": SIZE, "channels": 2, "products": 2, "stages": 1})
    state = build_network(network, seed=seed).state_dict()
    draws = torch.Generator().manual_seed(seed)
    for name in state:
        if name.startswith(("linear", "returns")):
            state[name] = 0.02 * torch.randn(state[name].shape, generator=draws)
    shells = torch.arange(2 * SIZE, dtype=torch.float64)[:, None, None]
    save_weights(
        folder,
        WeightCard("tiny", TwoLayerQGSpec(size=SIZE).layout(), network, Scaling((0.0, 0.0), (8.0e-6, 1.0e-6)), 1),
        state=state,
        measured={
            "covariance.shells": 0.003 * torch.exp(-shells / 4.0) * torch.eye(2),
            "climatology.shells": torch.exp(-shells / 3.0) * torch.eye(2),
        },
    )


def copy_observations(system: TinySystem, folder: Path) -> None:
    """Copy the observation files of the system into a folder."""
    shutil.copytree(system.observations, folder / "observations")


def hashes_of(store: Store) -> Hashes:
    """Hashes of all members of all complete cycles, by stamp."""
    return {time_stamp(time): store.manifest(time)["arrays"] for time in store.complete_cycles()}


def _config(folder: Path) -> dict[str, Any]:
    system = {"kind": "two_layer_qg", "size": SIZE}
    return {
        "name": "tiny",
        "seed": 1,
        "system": system,
        "nature": {
            "kind": "simulated",
            "path": str(folder / "nature.nc"),
            "seed": 5,
            "start": "2020-01-01T00:00Z",
            "steps": len(CYCLES),
            "spin_up_years": 0.01,
            "system": system,
        },
        "start": {"kind": "perturbed_nature", "scale": 0.1},
        "forecast": {"kind": "interpolant", "weights": str(folder / "weights")},
        "ensemble": {"members": MEMBERS, "batch": 2},
        "chains": [LETKF],
        "cycles": {"start": "2020-01-01T00:00Z", "count": len(CYCLES)},
        "verification": {"scale": {"q1": 8.2e-6, "q2": 1.06e-6}},
        "plots": False,
    }
