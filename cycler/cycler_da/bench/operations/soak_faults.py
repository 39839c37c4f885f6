"""What goes wrong in a soak, drawn from a seed: how observation files come, and what befalls the served process."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cycler_da.bench.operations.soak_case import EVERY, STREAMS, SoakCase
from cycler_da.bench.operations.soak_server import LOCAL, Server

HOUR = np.timedelta64(3600, "s")

#: Points at which the process is killed or finds no space, on the n-th visit.
POINTS = (
    "background.written", "observations.written", "assimilate.written", "stage.products.marked", "verify.done",
    "lock.written", "lock.taken", "publish.flushed", "publish.verified", "publish.renamed", "publish.unmarked",
    "publish.success", "publish.revised",
)  # fmt: skip
#: Where a full disk shows: in the middle of a publication and of a stage marker.
DISK_POINTS = ("publish.flushed", "publish.renamed", "stage.assimilate.written", "stage.background.written")


@dataclass
class Suppliers:
    """Brings the files of every window: in time, late, damaged or never."""

    case: SoakCase
    draw: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    waiting: list[tuple[np.datetime64, str, np.datetime64]] = field(default_factory=list)

    def window(self, time: np.datetime64) -> None:
        """Decide how the files of a window come."""
        for stream in STREAMS:
            fate = self.draw.choices(
                ("in time", "late", "after the final pass", "damaged", "damaged, then whole", "never"),
                weights=(80, 7, 2, 4, 3, 4),
            )[0]
            self.counts[fate] += 1
            if fate == "in time":
                self.case.deliver(stream, time)
            elif fate.startswith("damaged"):
                self.case.deliver(stream, time, self._damaged(stream, time))
            if fate in ("late", "damaged, then whole"):
                self.waiting.append((time + self.draw.randint(2, 11) * HOUR, stream, time))
            elif fate == "after the final pass":
                self.waiting.append((time + self.draw.randint(13, 30) * HOUR, stream, time))

    def bring_late(self, now: np.datetime64) -> None:
        """Bring what was late and has come by now."""
        for due, stream, time in [one for one in self.waiting if one[0] <= now]:
            self.case.deliver(stream, time)
            self.waiting.remove((due, stream, time))

    def _damaged(self, stream: str, time: np.datetime64) -> bytes:
        whole = self.case.pooled(stream, time).read_bytes()
        kind = self.draw.choice(("cut", "noise", "empty"))
        if kind == "cut":
            return whole[: int(len(whole) * self.draw.choice((0.1, 0.5, 0.99)))]
        return b"" if kind == "empty" else self.draw.randbytes(4000)


@dataclass
class Trouble:
    """Befalls the served process; one trouble at a time."""

    server: Server
    rival: Server
    draw: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def choose(self) -> str:
        """What befalls it in this step."""
        kinds = ("none", "kill", "kill at a point", "full disk", "drain", "kill worker", "second server")
        return self.draw.choices(kinds, weights=(75, 6, 6, 5, 3, 3, 2))[0]

    def before(self, kind: str) -> None:
        """Start the process as this trouble needs it."""
        if kind in ("kill at a point", "full disk", "kill worker"):
            self.server.drain()
        if kind == "kill at a point":
            self.server.start(fault=f"{self.draw.choice(POINTS)}:{self.draw.randint(1, 4)}")
        elif kind == "full disk":
            self.server.start(fault=f"{self.draw.choice(DISK_POINTS)}:{self.draw.randint(1, 3)}=full")
        elif kind == "kill worker":
            self.server.start(executor=LOCAL)
        else:
            self.server.start()
        if kind == "second server":
            self.rival.start()
        if kind != "none":
            self.counts[kind] += 1

    def during(self, kind: str, seconds: float) -> bool:
        """Let it happen once the step has lasted for some seconds; True when it has."""
        if kind == "kill" and seconds > self.patience:
            self.server.kill()
            return True
        if kind == "drain" and seconds > self.patience:
            self.server.drain()
            return True
        return kind == "kill worker" and seconds > self.patience and self.server.kill_worker()

    def after(self, kind: str) -> None:
        """Tidy up: a second server goes."""
        if kind == "second server":
            self.rival.drain()

    @property
    def patience(self) -> float:
        """Seconds before it happens; drawn anew at every question, so that any moment is hit."""
        return self.draw.uniform(0.0, 6.0)


def steps(case: SoakCase, draw: random.Random) -> list[tuple[int, int, np.datetime64]]:
    """Cut the cycles into steps (first, last, data time), the time some minutes to hours after the last cycle."""
    found, first = [], 1
    while first <= case.cycles:
        last = min(first + draw.randint(0, 6), case.cycles)
        found.append((first, last, case.times[last] + draw.choice((1, 59, 90, 300)) * np.timedelta64(60, "s")))
        first = last + 1
    return [*found, (case.cycles + 1, case.cycles, case.times[-1] + 4 * EVERY)]
