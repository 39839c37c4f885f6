"""What a second run does to a complete experiment: nothing, unless it is forced, and never with something damaged."""

from __future__ import annotations

from pathlib import Path

import fault_system as tiny
import observation_damage as damage
import pytest

from cycler_da.products.manifest import read_manifest
from cycler_da.products.store import Store

pytestmark = pytest.mark.faults


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of modification of every file and folder, links not followed."""
    found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {str(path): (facts.st_ino, facts.st_mtime_ns) for path, facts in found.items()}


def test_a_second_run_of_a_complete_experiment_touches_no_file(drill: tiny.Drill) -> None:
    assert drill.run().code == 0
    before = _files(drill.folder)
    result = drill.run()
    assert result.code == 0, result.output
    assert "nothing to do" in result.output
    assert _files(drill.folder) == before


def test_more_cycles_continue_a_complete_experiment(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    assert drill.run("cycles.count=1").code == 0
    first = _files(drill.store().cycle_folder(tiny.CYCLES[0]))
    result = drill.run()
    assert result.code == 0, result.output
    assert _files(drill.store().cycle_folder(tiny.CYCLES[0])) == first
    assert drill.hashes() == undisturbed


def test_an_experiment_that_was_moved_is_the_same_experiment(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    assert drill.run("cycles.count=1").code == 0
    moved = drill.folder / "elsewhere"
    drill.root.rename(moved)
    result = drill.run(f"root={moved}", "summary=moved", "executor.kind=serial")
    assert result.code == 0, result.output
    assert tiny.hashes_of(Store(moved, "tiny", "letkf")) == undisturbed


@pytest.mark.parametrize("damage", [b"0", b"{"])
def test_scores_that_were_damaged_enter_no_closing_table(drill: tiny.Drill, damage: bytes) -> None:
    assert drill.run("cycles.count=1").code == 0
    path = drill.store().cycle_folder(tiny.CYCLES[0]) / "diag" / "scores.json"
    content = path.read_bytes()
    digit = next(i for i in range(len(content) // 2, len(content)) if content[i : i + 1] in b"123456789")
    path.write_bytes(content[:digit] + damage + content[digit + 1 :])
    (drill.store().experiment_folder / "scores.md").unlink()
    result = drill.run("cycles.count=1")
    assert result.code == 65, result.output
    assert "diag/scores.json" in result.output
    assert not (drill.store().experiment_folder / "scores.md").exists()


def test_another_spin_up_changes_the_table_and_no_cycle(drill: tiny.Drill) -> None:
    assert drill.run().code == 0
    cycles, table = _files(drill.store().chain_folder), drill.store().experiment_folder / "scores.md"
    before = table.read_text()
    assert drill.run("verification.spin_up=1").code == 0
    assert _files(drill.store().chain_folder) == cycles
    assert table.read_text() != before


@pytest.mark.parametrize(
    "change",
    ["seed=2", "chains.letkf.scheme.inflation=1.2", "ensemble.members=8", "observations.insitu.qc.blacklist=[A]"],
)
def test_a_changed_config_is_refused_on_a_complete_experiment(drill: tiny.Drill, change: str) -> None:
    assert drill.run("cycles.count=1").code == 0
    before = _files(drill.folder)
    result = drill.run("cycles.count=1", change)
    assert result.code == 78, result.output
    assert "another config" in result.output and "--force" in result.output
    assert _files(drill.folder) == before


def test_a_forced_run_of_a_part_with_a_changed_config_is_refused_for_the_rest_would_be_of_another(
    drill: tiny.Drill,
) -> None:
    assert drill.run("cycles.count=2").code == 0
    before = _files(drill.store().chain_folder)
    since = ["--force", "--from", "2020-01-03T00:00Z"]
    result = drill.run("cycles.count=2", "chains.letkf.scheme.inflation=1.2", options=since)
    assert result.code == 78, result.output
    assert "another config" in result.output
    assert _files(drill.store().chain_folder) == before
    assert drill.run("cycles.count=2", options=since).code == 0


def test_what_follows_a_failed_analysis_may_be_changed_on_the_way(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    assert drill.run("cycles.count=1").code == 0
    result = drill.run("on_failed_analysis=ladder")
    assert result.code == 0, result.output
    assert tiny.hashes_of(drill.store()) == undisturbed


def test_a_forced_run_with_a_changed_config_makes_revisions(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    assert drill.run("cycles.count=1").code == 0
    result = drill.run("cycles.count=1", "chains.letkf.scheme.inflation=1.2", options=["--force"])
    assert result.code == 0, result.output
    store = drill.store()
    assert store.verify() == []
    for time in tiny.TIMES[:2]:
        (kept,) = store.revisions(time)
        assert read_manifest(kept)["arrays"] == undisturbed[tiny.time_stamp(time)]
    stamp = tiny.time_stamp(tiny.CYCLES[0])
    assert drill.hashes()[stamp]["background.nc"] == undisturbed[stamp]["background.nc"]
    assert drill.hashes()[stamp]["analysis.nc"] != undisturbed[stamp]["analysis.nc"]


def test_a_forced_run_with_the_same_config_makes_the_same_bytes_again(
    drill: tiny.Drill, undisturbed: tiny.Hashes
) -> None:
    assert drill.run("cycles.count=1").code == 0
    assert drill.run("cycles.count=1", options=["--force"]).code == 0
    assert drill.hashes() == dict(list(undisturbed.items())[:2])
    assert len(drill.store().revisions(tiny.CYCLES[0])) == 1
    assert drill.store().verify() == []


def test_a_forced_run_that_was_killed_does_not_pass_for_complete(drill: tiny.Drill) -> None:
    """The start is a new one, the cycle after it still an old one: only another forced run may go on."""
    changed = ("cycles.count=1", "chains.letkf.scheme.inflation=1.2")
    assert drill.run("cycles.count=1").code == 0
    assert drill.run(*changed, options=["--force"], fault="background.start:2").code == -9
    for settings in (("cycles.count=1",), changed):
        assert drill.run(*settings).code == 78
    result = drill.run(*changed, options=["--force"])
    assert result.code == 0, result.output
    assert drill.store().verify() == []
    assert drill.run(*changed).code == 0


@pytest.mark.parametrize("name", ["analysis.nc", "background.nc", "diag/summary.json", "MANIFEST.json"])
def test_a_flipped_bit_in_a_published_file_is_found(drill: tiny.Drill, name: str) -> None:
    assert drill.run("cycles.count=1").code == 0
    experiment = str(drill.store().experiment_folder)
    assert drill.command("verify", experiment).code == 0
    damage.flip_bit(drill.store().cycle_folder(tiny.CYCLES[0]) / name, position=0.5)
    found = drill.command("verify", experiment)
    assert found.code == 65, found.output
    assert f"{tiny.time_stamp(tiny.CYCLES[0])}/{name}" in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize("position", [0.2, 0.5, 0.8])
def test_a_damaged_analysis_does_not_become_a_background(drill: tiny.Drill, position: float) -> None:
    assert drill.run("cycles.count=1").code == 0
    before = drill.hashes()
    path = drill.store().cycle_folder(tiny.CYCLES[0]) / "analysis.nc"
    damage.flip_bit(path, position=position)
    result = drill.run()
    assert result.code == 65, result.output
    assert f"{path} is not what was published" in result.output
    assert drill.hashes() == before


def test_a_damaged_file_of_an_unfinished_cycle_is_made_again(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    drill.run("cycles.count=1", fault="products.start:2")
    for name in ("background.nc", "obs/in.insitu.nc"):
        damage.flip_bit(drill.store().work_folder(tiny.CYCLES[0]) / name, position=0.6)
    result = drill.run("cycles.count=1")
    assert result.code == 0, result.output
    assert drill.hashes() == dict(list(undisturbed.items())[:2])


def test_a_deleted_cycle_is_made_again_and_the_next_one_is_reported(
    drill: tiny.Drill, undisturbed: tiny.Hashes
) -> None:
    assert drill.run().code == 0
    drill.store().make_revision(tiny.CYCLES[0])
    result = drill.run()
    assert result.code == 0, result.output
    assert drill.hashes() == undisturbed
    (problem,) = drill.store().verify()
    assert "an earlier publication of its previous cycle" in problem


def test_status_after_damage_names_the_file(drill: tiny.Drill) -> None:
    assert drill.run("cycles.count=1").code == 0
    path = drill.store().cycle_folder(tiny.CYCLES[0]) / "diag" / "summary.json"
    damage.truncate(path, fraction=0.5)
    result = drill.command("status", str(drill.store().experiment_folder))
    assert result.code == 65, result.output
    assert str(path) in result.output and "Traceback" not in result.output
