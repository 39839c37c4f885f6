"""The tiny system, made once; a folder of its own for each drill; and the run that nothing disturbed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def make_drill(
    system: tiny.TinySystem, server: tiny.CommandServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], tiny.Drill]:
    def make() -> tiny.Drill:
        folder = tmp_path_factory.mktemp("drill")
        tiny.copy_observations(system, folder)
        return tiny.Drill(system, server, folder, folder / "store")

    return make


@pytest.fixture
def drill(make_drill: Callable[[], tiny.Drill]) -> tiny.Drill:
    return make_drill()


@pytest.fixture(scope="session")
def undisturbed(make_drill: Callable[[], tiny.Drill]) -> tiny.Hashes:
    """Hashes of the members of a run that nothing disturbed."""
    drill = make_drill()
    result = drill.run()
    assert result.code == 0, result.output
    return drill.hashes()
