"""A toy experiment for the flow tests: stages append to a file, a cycle is complete when its folder has _SUCCESS.

No torch, no real store: the smallest thing that keeps the promises of `ExperimentPlan` (lock, idempotent stages,
publication once).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import LockedCycle
from cycler_da.times import time_stamp

START = np.datetime64("2020-01-01T00:00:00", "s")
DAY = np.timedelta64(1, "D").astype("timedelta64[s]")
STAGES = ("make_background", "assimilate", "finish")


@dataclass
class ToyCycle:
    plan: ToyPlan
    chain: str
    folder: Path

    def run_stage(self, name: str) -> Mapping[str, Any]:
        marker = self.folder / f"{name}.done"
        if not marker.exists():
            self.plan.before_stage(self, name)
            time.sleep(self.plan.seconds)
            with (self.plan.folder / "log").open("a") as lines:
                lines.write(f"{self.chain} {self.folder.name} {name}\n")
            marker.touch()
            if name == "finish":
                (self.folder / "_SUCCESS").touch(exist_ok=False)
        return {"stage": name}

    def report(self) -> Mapping[str, Any]:
        return self.plan.reports.get(self.folder.name, {"exit_code": 0, "counts": {"used": 7, "rejected": 1}})


@dataclass
class ToyPlan:
    folder: Path
    name: str = "toy_default"
    chains: tuple[str, ...] = ("letkf", "free_run")
    n_cycles: int = 3
    seconds: float = 0.0
    stages: tuple[str, ...] = STAGES
    before_stage: Callable[[ToyCycle, str], None] = lambda cycle, name: None
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    finals: tuple[str, ...] = ()  # stamps of cycles whose pass counts as a final one
    finished: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def cycle_folder(self, chain: str, time: np.datetime64) -> Path:
        return self.folder / chain / time_stamp(time)

    def pending(self, chain: str) -> list[np.datetime64]:
        times = [START + i * DAY for i in range(self.n_cycles)]
        return [time for time in times if not (self.cycle_folder(chain, time) / "_SUCCESS").exists()]

    def ready(self, chain: str) -> list[np.datetime64]:
        ready = []
        for valid in self.pending(chain):
            if not (self.folder / f"obs_{time_stamp(valid)}").exists():
                break
            ready.append(valid)
        return ready

    def is_final_pass(self, chain: str, time: np.datetime64) -> bool:
        return time_stamp(time) in self.finals

    @contextmanager
    def open_cycle(self, chain: str, time: np.datetime64) -> Iterator[ToyCycle]:
        folder = self.cycle_folder(chain, time)
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder.with_suffix(".lock")
        try:
            lock.open("x").close()
        except FileExistsError:
            raise LockedCycle(f"cycle {folder} is locked by another run; try again later") from None
        try:
            yield ToyCycle(self, chain, folder)
        finally:
            lock.unlink()

    def finish_experiment(self) -> Mapping[str, Any]:
        self.finished += 1
        return {"table": [{"scheme": "letkf", "rmse": 0.5}], "page": str(self.folder / "index.html")}

    def close(self) -> None:
        self.closed += 1

    def lines(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


def load(config_path: str, overrides: list[str]) -> ToyPlan:
    """The loader of served toys: the config is JSON with the fields above."""
    settings = json.loads(Path(config_path).read_text())
    settings |= {key: json.loads(value) for key, value in (change.split("=") for change in overrides)}
    return ToyPlan(Path(settings.pop("folder")), **settings)
