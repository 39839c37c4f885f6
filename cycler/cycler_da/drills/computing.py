"""Drills of the workers: one of two is killed, or their scheduler; members must be the same bytes in the end.

A dask scheduler and two workers of this machine, processes of their own, are started for each trial. Loss of a GPU or
of its memory is not drilled here: it needs one.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cycler_da.drills.ending import continued
from cycler_da.drills.meanwhile import meanwhile, wait_for
from cycler_da.drills.trials import Ground, Outcome, is_subset, judged

LONGEST = 2.5  # s; a run of the small system on workers that are there already
START = 120.0  # s; the longest that scheduler and workers may take to start on a busy machine
LIMIT = 600.0  # s; a worker imports all there is with its first batch, minutes on a busy machine
_QUIET = ("--no-dashboard", "--death-timeout", "20")


@dataclass
class Workers:
    """A dask scheduler with two workers."""

    port: int
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def setting(self) -> str:
        """What leads a run to these workers."""
        return f"executor={{kind: address, address: '{self.address}', timeout: 2.0}}"

    def start(self) -> None:
        """Start the scheduler and its workers and wait until they know each other."""
        here = ("--host", "127.0.0.1")
        # A drill that is killed leaves no scheduler behind for long.
        self._start("scheduler", *here, "--port", str(self.port), "--no-dashboard", "--idle-timeout", "900 s")
        wait_for(self._answers, seconds=START, what=f"no dask scheduler at {self.address}")
        for _ in range(2):
            self._start("worker", self.address, *here, "--nthreads", "1", "--no-nanny", *_QUIET)
        wait_for(lambda: self._count() == 2, seconds=START, what=f"no dask workers at {self.address}")

    def kill(self, number: int) -> None:
        """Kill the scheduler (0) or a worker (1, 2)."""
        self.processes[number].send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Kill all of them."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def _start(self, kind: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        quiet, environment = subprocess.DEVNULL, {**os.environ, "OMP_NUM_THREADS": "1"}
        self.processes.append(
            subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, start_new_session=True)
        )

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _count(self) -> int:
        from distributed import Client

        with Client(self.address, timeout=START, set_as_default=False) as client:
            return len(client.scheduler_info()["workers"])


@contextmanager
def workers() -> Iterator[Workers]:
    """Two workers for the time of a trial."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = Workers(int(probe.getsockname()[1]))
    try:
        found.start()
        yield found
    finally:
        found.stop()


def worker_killed(ground: Ground, draw: random.Random) -> Outcome:
    """One of two workers is killed at any instant: the other does its batches with the same noise, the same bytes."""
    with workers() as two, ground.drill() as drill:
        number, after = draw.choice((1, 2)), draw.uniform(0.0, LONGEST)
        begun = drill.store().chain_folder.is_dir
        with meanwhile(once=begun, after=after, strike=lambda: two.kill(number)):
            result = drill.run(two.setting, sabotage={"quick_retries": {}}, kill_after=LIMIT)
        return judged(drill, result, ground.undisturbed)


def scheduler_killed(ground: Ground, draw: random.Random) -> Outcome:
    """The dask scheduler is killed: the cycle ends with 75 or goes on, and with another scheduler it is completed."""
    with workers() as two, ground.drill() as drill:
        begun = drill.store().chain_folder.is_dir
        with meanwhile(once=begun, after=draw.uniform(0.0, LONGEST), strike=lambda: two.kill(0)):
            result = drill.run(two.setting, sabotage={"quick_retries": {}}, kill_after=LIMIT)
        wrong = not is_subset(drill, ground.undisturbed)
        if wrong or result.code not in (0, 75) or "Traceback" in result.output:
            return Outcome(False, wrong, told=f"ended with {result.code}: {result.end}")
        two.stop()
        two.start()
        return continued(ground, drill, result, two.setting, kill_after=LIMIT)
