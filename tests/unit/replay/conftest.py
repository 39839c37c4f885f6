"""One small experiment with two chains, run once; nothing in these tests writes to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cycler_da.cli import app

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))
import fault_system as tiny

ETKF = {"name": "etkf", "scheme": {"kind": "etkf", "inflation": 1.0}}


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tiny.Drill:
    """A drill folder whose experiment is complete."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "system").mkdir()
    system = tiny.make_system(folder / "system")
    tiny.copy_observations(system, folder)
    drill = tiny.Drill(system, None, folder, folder / "store")
    run(drill)
    return drill


def run(drill: tiny.Drill, *more: str, options: tuple[str, ...] = ()) -> None:
    """Run both chains of a drill in this process."""
    done = CliRunner().invoke(app, drill.arguments(f"chains={[tiny.LETKF, ETKF]}", *more, options=options))
    assert done.exit_code == 0, done.output
