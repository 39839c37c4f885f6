"""`verify` finds one flipped bit, wherever it is: every file of every kind, at random positions."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from cycler_da.products.store import Store

TRIALS = 6  # positions in each file


@pytest.fixture
def copy(replayed, tmp_path: Path) -> Path:
    return Path(shutil.copytree(replayed.root / "tiny", tmp_path / "tiny", symlinks=True))


def test_one_flipped_bit_anywhere_in_a_cycle_is_found_and_its_file_named(copy: Path) -> None:
    store, draw = Store(copy.parent, "tiny", "letkf"), random.Random(4)
    time = store.complete_cycles()[-1]
    folder = store.cycle_folder(time)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kinds = {path.suffix or path.name for path in files}
    assert {".nc", ".json", ".gz", "_SUCCESS"} <= kinds
    assert store.verify(time) == []
    for path in files:
        whole = path.read_bytes()
        for _ in range(TRIALS):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(bytes(damaged))
            problems = store.verify(time)
            assert any(path.name in problem or "MANIFEST" in problem for problem in problems), path
        path.write_bytes(whole)
    assert store.verify(time) == []


def test_no_bit_of_the_seal_may_flip(copy: Path) -> None:
    store = Store(copy.parent, "tiny", "letkf")
    time = store.complete_cycles()[-1]
    path = store.cycle_folder(time) / "_SUCCESS"
    whole = path.read_bytes()
    for position in range(len(whole.rstrip())):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        assert store.verify(time), (position, bytes(damaged))


def test_a_file_that_is_cut_short_absent_or_more_than_there_was_is_found(copy: Path) -> None:
    store = Store(copy.parent, "tiny", "letkf")
    time = store.complete_cycles()[-1]
    path = store.cycle_folder(time) / "feedback" / "insitu.nc"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert any("the size is" in problem for problem in store.verify(time))
    path.unlink()
    assert any("the file is absent" in problem for problem in store.verify(time))
    path.write_bytes(whole)
    (path.parent / "other.nc").write_bytes(whole)
    assert any("not in the manifest" in problem for problem in store.verify(time))
