"""kill -9 at every point of a cycle: the same command continues and ends with the same bytes."""

from __future__ import annotations

import signal

import fault_system as tiny
import numpy as np
import pytest

from cycler_da.drills.ending import POINTS

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("point", [point for point in POINTS if not point.endswith((".start", ".done"))])
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


@pytest.mark.parametrize("instant", np.linspace(0.06, 0.6, 7))
def test_a_run_killed_at_any_instant(drill: tiny.Drill, undisturbed: tiny.Hashes, instant: float) -> None:
    """Between the named points, too: in the middle of a write, of a forecast, of an analysis."""
    killed = drill.run(kill_after=instant)
    assert killed.code in (-signal.SIGALRM, 0), killed.output
    assert drill.store().verify() == []
    found = drill.hashes()
    assert found == {stamp: undisturbed[stamp] for stamp in found}
    continued = drill.run()
    assert continued.code == 0, continued.output
    assert drill.hashes() == undisturbed


@pytest.mark.parametrize("point", ["publish.verified", "publish.revised", "publish.renamed", "publish.success"])
def test_a_forced_run_killed_at(drill: tiny.Drill, undisturbed: tiny.Hashes, point: str) -> None:
    assert drill.run("cycles.count=1").code == 0
    killed = drill.run("cycles.count=1", options=["--force"], fault=point)
    assert killed.code == -signal.SIGKILL, killed.output
    assert tiny.damage_found(drill) == []
    for options in ([], ["--force"]):
        continued = drill.run("cycles.count=1", options=options)
        assert continued.code == 0, continued.output
        assert drill.hashes() == dict(list(undisturbed.items())[:2])
    assert tiny.damage_found(drill) == []
