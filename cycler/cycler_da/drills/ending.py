"""Drills of runs that end before their time: killed, asked to stop, refused by the disk, racing another."""

from __future__ import annotations

import random
import signal
from typing import Any

from cycler_da.drills import system as tiny
from cycler_da.drills.trials import Ground, Outcome, is_subset, judged

STAGES = ("background", "observations", "quality_control", "assimilate", "products", "verify", "plot")

#: Every named point of a cycle, in the order in which a run passes them. A lock killed while it is being written
#: does not say who held it, and is waited for; the tests of the lock have that case.
POINTS = (
    "lock.taken",
    *(f"{stage}.{point}" for stage in STAGES for point in ("start", "written", "done")),
    "finish.start",
    "publish.flushed",
    "publish.verified",
    "publish.renamed",
    "publish.unmarked",
    "publish.success",
)

#: A run of the small system lasts some tenths of a second on an idle machine; what is later hits nothing.
LONGEST = 1.5


def killed_at_a_point(ground: Ground, draw: random.Random) -> Outcome:
    """`kill -9` at a named point of the start, the first or the second cycle."""
    with ground.drill() as drill:
        killed = drill.run(fault=f"{draw.choice(POINTS)}:{draw.randint(1, 3)}")
        return continued(ground, drill, killed)


def killed_at_an_instant(ground: Ground, draw: random.Random) -> Outcome:
    """A kill in the middle of whatever it is: a write, a forecast, an analysis."""
    with ground.drill() as drill:
        killed = drill.run(kill_after=draw.uniform(0.02, LONGEST))
        return continued(ground, drill, killed)


def killed_while_forced(ground: Ground, draw: random.Random) -> Outcome:
    """`kill -9` of a forced run that replaces a published cycle."""
    points = ("publish.verified", "publish.revised", "publish.renamed", "publish.success", "assimilate.written")
    with ground.drill() as drill:
        drill.run("cycles.count=1")
        drill.run("cycles.count=1", options=["--force"], fault=f"{draw.choice(points)}:{draw.randint(1, 2)}")
        expected = ground.first(ground.undisturbed)
        wrong = not is_subset(drill, expected)
        again = drill.run("cycles.count=1", options=["--force"])
        lost = len(expected) - len(drill.hashes())
        is_back = again.code == 0 and drill.hashes() == expected
        return Outcome(
            is_back, wrong or not is_subset(drill, expected), lost=lost, told=again.end if not is_back else ""
        )


def asked_to_stop(ground: Ground, draw: random.Random) -> Outcome:
    """SIGTERM or Ctrl-C at a named point: ends soon, gives its lock back, can be continued at once."""
    number = draw.choice((signal.SIGTERM, signal.SIGINT))
    with ground.drill() as drill:
        stopped = drill.run(fault=f"{draw.choice(POINTS)}:{draw.randint(1, 3)}", signal_number=number)
        if stopped.code not in (0, 75, 130) or any(drill.store().lock_holder(time) for time in tiny.TIMES):
            return Outcome(False, told=f"ended with {stopped.code} or kept its lock")
        return continued(ground, drill, stopped)


def refused_by_the_disk(ground: Ground, draw: random.Random) -> Outcome:
    """No file may grow beyond a random limit, as under a quota."""
    with ground.drill() as drill:
        refused = drill.run(limit=draw.randint(1, 48) * 1024)
        if refused.code not in (0, 73) or "Traceback" in refused.output:
            return Outcome(False, not is_subset(drill, ground.undisturbed), told=f"ended with {refused.code}")
        return continued(ground, drill, refused)


def raced(ground: Ground, draw: random.Random) -> Outcome:
    """Two or three runs of one experiment start together."""
    with ground.drill() as drill:
        results = drill.served.run_together([drill.job() for _ in range(draw.choice((2, 2, 3)))])
        if any(result.code not in (0, 75) for result in results):
            return Outcome(False, told=f"ended with {[result.code for result in results]}")
        if (drill.store().chain_folder / "revisions").exists():
            return Outcome(False, True, told="a cycle was published twice")
        return continued(ground, drill, results[0])


def continued(ground: Ground, drill: tiny.Drill, ended: tiny.Result, *settings: str, **how: Any) -> Outcome:
    """The same command again; before it nothing but whole cycles may be seen."""
    problems = drill.store().verify()
    wrong = not is_subset(drill, ground.undisturbed) or bool(problems)
    before = set(drill.hashes())
    found = judged(drill, drill.run(*settings, **how), ground.undisturbed, told=f"after {ended.code}:")
    told = "; ".join([*(f"before the same command: {problem}" for problem in problems), found.told])
    return Outcome(found.recovered, found.wrong or wrong, 1, len(before - set(drill.hashes())), told)
