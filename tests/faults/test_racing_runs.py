"""Two runs of one experiment at the same moment: every cycle is published once, by one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fault_system as tiny
import pytest

from cycler_da.products.manifest import check_files, read_manifest

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("repeat", range(4))
def test_two_runs_that_race_publish_every_cycle_once(drill: tiny.Drill, undisturbed: tiny.Hashes, repeat: int) -> None:
    results = drill.server.run_together([drill.job(), drill.job()])
    codes = sorted(result.code for result in results)
    # The loser meets a lock (75), or finds every cycle done (0).
    assert codes in ([0, 75], [0, 0]), results
    loser = next((result for result in results if result.code == 75), None)
    assert loser is None or "holds token" in loser.output
    assert drill.hashes() == undisturbed
    assert drill.store().verify() == []
    assert not (drill.store().chain_folder / "revisions").exists()
    assert list((drill.store().chain_folder / "work").iterdir()) == []
    published = [line for result in results for line in result.output.splitlines() if " used " in line]
    assert len(published) >= len(tiny.TIMES)


def test_the_loser_of_a_race_continues_later(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    with drill.store().lock(tiny.CYCLES[0]):
        result = drill.run()
        assert result.code == 75, result.output
        assert "try again when it has ended" in result.output
        assert drill.store().complete_cycles() == [tiny.START]
    assert drill.run().code == 0
    assert drill.hashes() == undisturbed


def test_a_reader_during_a_run_sees_whole_cycles_only(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    latest, seen = drill.store().chain_folder / "latest", set()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(drill.run)
        while not running.done():
            if not latest.exists():
                continue
            folder = latest.resolve()
            manifest = read_manifest(folder)
            assert manifest["arrays"] == undisturbed[folder.name]
            assert list(check_files(folder, manifest)) == []
            assert (folder / "_SUCCESS").is_file()
            seen.add(folder.name)
    assert running.result().code == 0
    assert len(seen) >= 2


def test_two_forced_runs_that_race_leave_whole_cycles(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    assert drill.run("cycles.count=1").code == 0
    jobs = [drill.job("cycles.count=1", options=["--force"])] * 2
    results = drill.server.run_together(jobs)
    assert {result.code for result in results} <= {0, 75}, results
    assert drill.hashes() == dict(list(undisturbed.items())[:2])
    assert tiny.damage_found(drill) == []


def test_two_first_runs_make_one_nature_run_and_one_set_of_observations(
    system: tiny.TinySystem, drill: tiny.Drill, undisturbed: tiny.Hashes, tmp_path: Path
) -> None:
    """Nobody has prepared anything: both runs make the nature run and the observation files."""
    fresh = tiny.fresh_arguments(system, drill.root, tmp_path)
    job = {"arguments": fresh}
    results = drill.server.run_together([job, job])
    assert sorted(result.code for result in results) in ([0, 75], [0, 0]), results
    again = drill.server.run_together([job])[0]
    assert again.code == 0, again.output
    assert drill.hashes() == undisturbed
