"""SIGTERM, Ctrl-C and real processes: a run ends at once or soon, gives its lock back, and can be continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import fault_system as tiny
import pytest

pytestmark = pytest.mark.faults


def test_sigterm_ends_a_run_after_the_stage_it_is_in(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    result = drill.run(fault="assimilate.start:2", signal_number=signal.SIGTERM)
    assert result.code == 75, result.output
    assert "stopped on request before tiny/letkf/20200102T0000Z/products" in result.output
    assert drill.store().lock_holder(tiny.CYCLES[0]) is None
    continued = drill.run()
    assert continued.code == 0, continued.output
    assert drill.hashes() == undisturbed


def test_ctrl_c_ends_a_run_at_once(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    result = drill.run(fault="assimilate.start:2", signal_number=signal.SIGINT)
    assert result.code == 130, result.output
    assert "the same command continues" in result.output and "Traceback" not in result.output
    assert drill.store().lock_holder(tiny.CYCLES[0]) is None
    assert drill.run().code == 0
    assert drill.hashes() == undisturbed


@pytest.mark.parametrize("point", ["publish.flushed", "publish.renamed", "publish.success"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_cycle_is_published_leaves_it_whole_or_absent(
    drill: tiny.Drill, undisturbed: tiny.Hashes, point: str, number: int
) -> None:
    result = drill.run("cycles.count=1", fault=f"{point}:2", signal_number=number)
    assert result.code in (0, 75, 130), result.output
    assert drill.store().verify() == []
    assert drill.run("cycles.count=1").code == 0
    assert drill.hashes() == dict(list(undisturbed.items())[:2])


def test_a_run_under_prefect_is_killed_and_continued(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    """The embedded server dies with the run that started it; the next run starts its own and ends the cycles."""
    arguments = [word for word in drill.arguments() if word not in ("--orchestrator", "none")]
    command = [sys.executable, "-m", "cycler_da", *arguments]
    killed = subprocess.run(command, env={**os.environ, "CYCLER_FAULT": "assimilate.written:2"}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert drill.store().complete_cycles() == [tiny.START]
    continued = subprocess.run(command, capture_output=True, text=True)
    assert continued.returncode == 0, continued.stderr
    assert drill.hashes() == undisturbed
    assert drill.store().verify() == []


def test_the_command_as_one_types_it_is_killed_and_continued_anywhere(
    drill: tiny.Drill, undisturbed: tiny.Hashes
) -> None:
    """`python -m cycler_da`, with the real heartbeat; then in another time zone, language, home and umask."""
    command = [sys.executable, "-m", "cycler_da", *drill.arguments()]
    killed = subprocess.run(command, env={**os.environ, "CYCLER_FAULT": "assimilate.written:2"}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    elsewhere = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "LANG": "C", "HOME": "/nonexistent"}
    continued = subprocess.run(command, env={**os.environ, **elsewhere}, capture_output=True, text=True, umask=0o077)
    assert continued.returncode == 0, continued.stderr
    assert drill.hashes() == undisturbed
