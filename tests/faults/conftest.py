"""The tiny system, made once; a folder of its own for each drill; and the run that nothing disturbed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fault_system as tiny


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinySystem:
    return tiny.make_system(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server() -> Iterator[tiny.CommandServer]:
    server = tiny.CommandServer()
    yield server
    server.close()


@pytest.fixture
def drill(system: tiny.TinySystem, server: tiny.CommandServer, tmp_path: Path) -> tiny.Drill:
    tiny.copy_observations(system, tmp_path)
    return tiny.Drill(system, server, tmp_path)


@pytest.fixture(scope="session")
def undisturbed(
    system: tiny.TinySystem, server: tiny.CommandServer, tmp_path_factory: pytest.TempPathFactory
) -> tiny.Hashes:
    """Hashes of the members of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny.copy_observations(system, folder)
    drill = tiny.Drill(system, server, folder)
    result = drill.run()
    assert result.code == 0, result.output
    return drill.hashes()
