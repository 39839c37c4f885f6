"""Drills of what is stored: flipped bits, cycles that are gone, second runs."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from cycler_da.drills import system as tiny
from cycler_da.drills.trials import Ground, Outcome, is_subset
from cycler_da.times import time_stamp


def bit_in_the_store(ground: Ground, draw: random.Random) -> Outcome:
    """A bit of any file of any published cycle flips: `verify` names the file, and the next cycle does not use it."""
    with ground.drill() as drill:
        drill.run("cycles.count=1")
        path = draw.choice(_files(drill.store().chain_folder / "cycles"))
        if not path.stat().st_size:
            return Outcome(True)
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        problems = drill.store().verify()
        is_found = any(path.name in problem for problem in problems)
        result = drill.run()
        store = drill.store()  # what was published before may have a manifest that cannot be read
        fresh = [time for time in store.complete_cycles() if time not in tiny.TIMES[:2]]
        wrong = any(ground.undisturbed[time_stamp(time)] != store.manifest(time)["arrays"] for time in fresh)
        told = "" if is_found else f"not found: {path.name}"
        return Outcome(is_found and result.code in (0, 65), wrong, told=told)


def cycle_is_gone(ground: Ground, draw: random.Random) -> Outcome:
    """A published cycle, or the work of an unfinished one, is deleted: it is made again with the same bytes."""
    with ground.drill() as drill:
        drill.run(fault=draw.choice(("products.start:3", "publish.verified:3", "finish.start:9")))
        gone = draw.choice([path for path in (*_folders(drill, "cycles"), *_folders(drill, "work"))])
        shutil.rmtree(gone)
        wrong = not is_subset(drill, ground.undisturbed)
        result = drill.run()
        is_back = result.code == 0 and drill.hashes() == ground.undisturbed
        # The cycle made again has a manifest of its own: `verify` says so of the one after it, and of nothing else.
        others = [text for text in drill.store().verify() if "the manifest of its previous cycle" not in text]
        wrong = wrong or bool(others) or not is_subset(drill, ground.undisturbed)
        return Outcome(is_back and not others, wrong, told="" if is_back else f"code {result.code}; {others}")


def second_run(ground: Ground, draw: random.Random) -> Outcome:
    """The command again touches nothing; with another config it is refused and touches nothing."""
    changes = (
        "seed=2",
        "chains.letkf.scheme.inflation=1.2",
        "ensemble.members=8",
        "observations.insitu.qc.blacklist=[A]",
    )
    with ground.drill() as drill:
        drill.run()
        before = _times(drill.root)
        change = draw.choice((None, *changes))
        result = drill.run() if change is None else drill.run(change)
        is_same = _times(drill.root) == before
        is_right = result.code == (0 if change is None else 78) and is_same
        return Outcome(is_right, not is_subset(drill, ground.undisturbed), told="" if is_right else result.end)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _folders(drill: tiny.Drill, name: str) -> list[Path]:
    return sorted(path for path in (drill.store().chain_folder / name).glob("*") if path.is_dir())


def _times(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (facts.st_ino, facts.st_mtime_ns) for path, facts in found.items()}
