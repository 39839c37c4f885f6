"""A disk that refuses: exit code 73, nothing partial to be seen, and the same command goes on when it can."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fault_system as tiny
import pytest

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB; the test is skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs privileges")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _fill(disk: Path, *, leave: int) -> Path:
    """Take all space of a disk but `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


def _only_whole_cycles(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    hashes = drill.hashes()
    assert hashes == {stamp: undisturbed[stamp] for stamp in hashes}
    assert drill.store().verify() == []
    cycles = drill.store().chain_folder / "cycles"
    assert not cycles.exists() or {path.name for path in cycles.iterdir()} == set(hashes)
    latest = drill.store().chain_folder / "latest"
    if hashes:
        assert latest.resolve().name == max(hashes)
    else:
        assert not latest.exists()


@pytest.mark.parametrize("leave_kib", [0, 40, 160, 280])
def test_a_full_disk_stops_the_run_and_space_lets_it_go_on(
    drill: tiny.Drill, undisturbed: tiny.Hashes, small_disk: Path, leave_kib: int
) -> None:
    ballast = _fill(small_disk, leave=leave_kib * 1024)
    on_disk = f"root={small_disk / 'store'}"
    full = tiny.Drill(drill.system, drill.server, drill.folder, small_disk / "store")
    result = full.run(on_disk)
    assert result.code == 73, result.output
    assert "Traceback" not in result.output
    assert "the disk is full" in result.output
    _only_whole_cycles(full, undisturbed)
    ballast.unlink()
    assert full.run(on_disk).code == 0
    assert full.hashes() == undisturbed


@pytest.mark.parametrize("limit_kib", [2, 16, 32])
def test_a_limit_on_the_size_of_files_stops_the_run(
    drill: tiny.Drill, undisturbed: tiny.Hashes, limit_kib: int
) -> None:
    result = drill.run(limit=limit_kib * 1024)
    assert result.code == 73, result.output
    assert "Traceback" not in result.output
    _only_whole_cycles(drill, undisturbed)
    again = drill.run()
    assert again.code == 0, again.output
    assert drill.hashes() == undisturbed


def test_a_read_only_disk_is_named_before_anything_runs(drill: tiny.Drill, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = drill.run(f"root={small_disk / 'store'}")
    assert result.code == 73, result.output
    assert "read-only" in result.output and str(small_disk) in result.output
    assert "Traceback" not in result.output


def test_a_disk_that_became_read_only_keeps_what_is_published(
    drill: tiny.Drill, undisturbed: tiny.Hashes, small_disk: Path
) -> None:
    on_disk = f"root={small_disk / 'store'}"
    full = tiny.Drill(drill.system, drill.server, drill.folder, small_disk / "store")
    assert full.run(on_disk, "cycles.count=1").code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = full.run(on_disk)
    assert result.code == 73, result.output
    _only_whole_cycles(full, undisturbed)
    assert full.command("verify", str(small_disk / "store" / "tiny")).code == 0
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert full.run(on_disk).code == 0
    assert full.hashes() == undisturbed


def test_a_root_below_a_file_is_refused(drill: tiny.Drill) -> None:
    (drill.folder / "file").write_text("not a folder")
    result = drill.run(f"root={drill.folder / 'file' / 'store'}")
    assert result.code == 73, result.output
    assert "Traceback" not in result.output
