"""kill -9 at every point of a cycle: the same command continues and ends with the same bytes."""

from __future__ import annotations

import signal

import fault_system as tiny
import pytest

pytestmark = pytest.mark.faults

STAGES = ("background", "observations", "quality_control", "assimilate", "products", "verify", "plot")

#: Every named point of a cycle, in the order in which a run passes them. A lock killed while it is being written
#: does not say who held it, and is waited for; tests/unit/products/test_lock.py has that case.
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


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at(drill: tiny.Drill, undisturbed: tiny.Hashes, point: str) -> None:
    killed = drill.run("cycles.count=1", fault=f"{point}:2")  # the first visit is the start
    assert killed.code == -signal.SIGKILL, killed.output
    assert drill.store().verify() == []
    for time in drill.store().complete_cycles():
        assert drill.store().manifest(time)["arrays"] == undisturbed[tiny.time_stamp(time)]
    continued = drill.run("cycles.count=1")
    assert continued.code == 0, continued.output
    assert drill.hashes() == dict(list(undisturbed.items())[:2])
    assert drill.store().verify() == []
    assert list((drill.store().chain_folder / "work").iterdir()) == []


def test_a_run_killed_at_every_point_in_turn(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    for point in POINTS:
        assert drill.run(fault=point).code == -signal.SIGKILL, point
    assert drill.run().code == 0
    assert drill.hashes() == undisturbed
    assert drill.store().verify() == []
