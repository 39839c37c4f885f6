"""The tiny system, made once; a folder of its own for each drill; and the run that nothing disturbed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fault_system as tiny

MEMORY = Path("/dev/shm")
ROOM, ROOM_BYTES = "cycler-drills-", 48 << 20


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinySystem:
    return tiny.make_system(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server() -> Iterator[tiny.CommandServer]:
    server = tiny.CommandServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where drills run: in memory where there is room, for a third of a cycle's time is spent flushing to the disk."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        yield tmp_path_factory.mktemp("drills")
        return
    for left in MEMORY.glob(f"{ROOM}*"):  # by a test session that was killed
        if not Path("/proc", left.name.removeprefix(ROOM)).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = MEMORY / f"{ROOM}{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def make_drill(system: tiny.TinySystem, server: tiny.CommandServer, room: Path) -> Callable[[], tiny.Drill]:
    def make() -> tiny.Drill:
        folder = Path(tempfile.mkdtemp(dir=room))
        tiny.copy_observations(system, folder)
        return tiny.Drill(system, server, folder, folder / "store")

    return make


@pytest.fixture
def drill(make_drill: Callable[[], tiny.Drill]) -> Iterator[tiny.Drill]:
    drill = make_drill()
    yield drill
    shutil.rmtree(drill.folder)


@pytest.fixture(scope="session")
def undisturbed(make_drill: Callable[[], tiny.Drill]) -> tiny.Hashes:
    """Hashes of the members of a run that nothing disturbed."""
    drill = make_drill()
    result = drill.run()
    assert result.code == 0, result.output
    return drill.hashes()
