"""Drills of the service: files that come late, a backfill beside it, a run that is paused or taken for dead."""

from __future__ import annotations

import random
import shutil
import signal
from dataclasses import dataclass, field

import numpy as np

from cycler_da.drills import system as tiny
from cycler_da.drills.ending import POINTS, continued
from cycler_da.drills.trials import Ground, Outcome, is_subset, stamp_of
from cycler_da.products.manifest import read_manifest

HOUR = np.timedelta64(3600, "s")
CUTOFF = 1  # h

#: Data time at which the file of a cycle and stream comes.
Arrivals = dict[tuple[np.datetime64, str], np.datetime64]

#: Passes of a cycle that are as they should be, oldest first.
PASSES = (["final"], ["early"], ["early", "final"])


@dataclass
class Served:
    """A drill whose files come one by one; `used` says which the final pass of a cycle must hold."""

    drill: tiny.Drill
    final: int  # h
    arrivals: Arrivals
    used: set[tuple[np.datetime64, str]] = field(default_factory=set)
    closed: set[np.datetime64] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    @property
    def settings(self) -> list[str]:
        """Cut-off and final pass of both streams."""
        return [
            f"observations.{s}.{k}={v}h" for s in tiny.STREAMS for k, v in (("cutoff", CUTOFF), ("final", self.final))
        ]

    def bring(self, now: np.datetime64) -> None:
        """Bring what has come by now, as a supplier should: under another name, then renamed."""
        for (time, stream), due in self.arrivals.items():
            name = self.drill.obs_file(stream, time)
            if due <= now and not name.exists():
                shutil.copy(self.drill.system.observations / name.name, name.with_suffix(".part"))
                name.with_suffix(".part").rename(name)
        for time in tiny.CYCLES:
            if time not in self.closed and now >= time + self.final * HOUR:
                self.closed.add(time)
                self.used |= {key for key, due in self.arrivals.items() if key[0] == time and due <= now}

    def look(self, now: np.datetime64, fault: str) -> None:
        """Look, killed perhaps, and look again; what was early and is not due must not have changed."""
        before = {time: self._seal(time) for time in self.drill.store().complete_cycles()}
        for what in (fault, ""):
            result = self.drill.served.run_together([self.drill.look(now, *self.settings, fault=what)])[0]
            if result.code not in (0, 3, 4, -signal.SIGKILL):
                self.told.append(f"look at {now}: {result.code}: {result.output.strip()[-200:]}")
        for time, seal in before.items():
            if not self.drill.store().is_complete(time):
                self.told.append(f"cycle {time} was lost")
            elif now < time + self.final * HOUR and self._seal(time) != seal:
                self.told.append(f"the early cycle {time} changed before its final pass")

    def _seal(self, time: np.datetime64) -> bytes:
        return (self.drill.store().cycle_folder(time) / "_SUCCESS").read_bytes()


def late_observations(ground: Ground, draw: random.Random) -> Outcome:
    """Files come in time, late, after the final pass or never, and looks are killed: finals are what came by then."""
    final = draw.randint(CUTOFF + 1, 30)
    with ground.drill() as drill, ground.drill() as without:
        arrivals: Arrivals = {(t, s): t + _delay(draw, final) for t in tiny.CYCLES for s in tiny.STREAMS}
        for path in drill.observations.iterdir():
            path.unlink()
        served = Served(drill, final, arrivals)
        for now in _looks(draw, final):
            served.bring(now)
            is_killed = draw.random() < 0.4
            served.look(now, f"{draw.choice((*POINTS, 'publish.revised'))}:{draw.randint(1, 2)}" if is_killed else "")
        for key in arrivals.keys() - served.used:
            without.obs_file(key[1], key[0]).unlink()
        without.run()
        odd = [passes for time in tiny.TIMES if (passes := _passes(drill, time)) not in PASSES]
        differ = drill.hashes() != without.hashes()
        problems = [*served.told, *drill.store().verify(), *(f"passes {one}" for one in odd)]
        told = "; ".join([*problems, *(["not the run of what had come"] if differ else [])])
        lost = sum("was lost" in text for text in served.told)
        return Outcome(not told, wrong=differ or bool(odd), lost=lost, told=told)


def backfilled(ground: Ground, draw: random.Random) -> Outcome:
    """A backfill of what lies before a cold start runs beside the service, and either is killed: both end as alone."""
    with ground.drill() as drill:
        start = ["--from", f"{tiny.START}Z", "--to", f"{tiny.START}Z"]
        drill.cold_start()
        fault, is_service = f"{draw.choice(POINTS)}:{draw.randint(1, 2)}", draw.random() < 0.5
        for struck in (fault, ""):
            jobs = [
                drill.look(tiny.LATER, fault=struck if is_service else "", start_after=draw.uniform(0.0, 0.3)),
                drill.job(options=start, fault="" if is_service else struck, start_after=draw.uniform(0.0, 0.3)),
            ]
            results = drill.served.run_together(jobs)
        expected = {stamp_of(0): ground.undisturbed[stamp_of(0)], **ground.cold_started}
        found, codes = drill.hashes(), [result.code for result in results]
        problems = drill.store().verify()
        # The start is complete; the cold start is said to be degraded by the run that makes it.
        is_right = found == expected and not problems and all(code in (0, 3) for code in codes)
        wrong = any(expected.get(stamp) != arrays for stamp, arrays in found.items()) or bool(problems)
        return Outcome(is_right, wrong, told="" if is_right else f"{codes} {problems} {sorted(found)}")


def paused(ground: Ground, draw: random.Random) -> Outcome:
    """A run is stopped (a paused machine, a scheduler that calls it dead) and another one starts; then it goes on.

    On the same host it keeps its lock, for it lives, and the other is refused. Seen from another host it is taken for
    dead when its heartbeat is old; resumed, it must notice and write nothing.
    """
    is_elsewhere = draw.random() < 0.5
    with ground.drill() as drill:
        first = drill.job(
            fault=f"{draw.choice(POINTS)}:{draw.randint(1, 3)}",
            signal_number=signal.SIGSTOP,
            sabotage={"elsewhere": {}} if is_elsewhere else {},
            is_paused=True,
        )
        second = drill.job(sabotage={"impatient": {"milliseconds": 300}}, start_after=draw.uniform(0.5, 2.0))
        results = drill.served.run_together([first, second])
        codes = [result.code for result in results]
        wrong = (drill.store().chain_folder / "revisions").exists() or not is_subset(drill, ground.undisturbed)
        if wrong or any(code not in (0, 75) for code in codes):
            return Outcome(False, wrong, told=f"ended with {codes}: {results[0].end}")
        return continued(ground, drill, results[0])


def _delay(draw: random.Random, final: int) -> np.timedelta64:
    fate = draw.choices(("in time", "late", "after the final pass", "never"), weights=(5, 3, 1, 1))[0]
    hours = {
        "in time": draw.randint(-3, 0),
        "late": draw.randint(CUTOFF + 1, final),
        "after the final pass": draw.randint(final + 1, final + 12),
        "never": 10_000,
    }
    return hours[fate] * HOUR


def _looks(draw: random.Random, final: int) -> list[np.datetime64]:
    """Data times of the looks: at every cut-off, at some times between, and when all is final."""
    last = tiny.CYCLES[-1] + (final + 1) * HOUR
    some = [tiny.CYCLES[0] + draw.randint(0, 24 + final) * HOUR for _ in range(3)]
    return sorted([*(time + CUTOFF * HOUR for time in tiny.CYCLES), *some, last])


def _passes(drill: tiny.Drill, time: np.datetime64) -> list[str]:
    folders = [*drill.store().revisions(time), drill.store().cycle_folder(time)]
    return [read_manifest(folder)["facts"]["delivery"] for folder in folders]
