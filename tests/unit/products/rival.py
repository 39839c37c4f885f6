"""A process that competes for a lock or makes a small cycle; started by the tests of lock and store.

rival.py lock FOLDER SECONDS            take the lock, print the token, hold it
rival.py cycle ROOT VALUE [--force]     make one cycle of three stages and publish it
"""

from __future__ import annotations

import argparse
import sys
import time as clock
from pathlib import Path

import numpy as np

from cycler_da.errors import CyclerError
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import write_atomically
from cycler_da.products.lock import take_lock
from cycler_da.products.manifest import Inputs, build_manifest
from cycler_da.products.store import Store

TIME = np.datetime64("2020-01-02T00:00:00", "s")
BEAT = np.timedelta64(50, "ms")
STAGES = ("background", "analysis", "diag")


def hold(folder: Path, seconds: float) -> None:
    lock = take_lock(folder, heartbeat=BEAT, stale_after=np.timedelta64(1, "s"))
    print(lock.token, flush=True)
    clock.sleep(seconds)
    lock.require_held()
    lock.release()


def make_cycle(root: Path, value: str, force: bool) -> None:
    store = Store(root, "experiment", "chain")
    if store.is_complete(TIME) and not force:
        print("complete", flush=True)
        return
    with store.lock(TIME, heartbeat=BEAT) as lock:
        if store.is_complete(TIME) and not force:
            print("recovered", flush=True)
            return
        for stage in STAGES:
            if store.stage_is_done(TIME, stage, key=value):
                print("kept", stage, flush=True)
                continue
            name = f"diag/{stage}.txt" if stage == "diag" else f"{stage}.txt"
            reach(f"stage.{stage}.start")
            write_atomically(store.work_folder(TIME) / name, lambda private, text=f"{stage} {value}": _fill(private, text))
            store.mark_stage(TIME, stage, [name], facts={"made": stage}, key=value, lock=lock)
            print("made", stage, flush=True)
        manifest = build_manifest(
            store.work_folder(TIME),
            experiment="experiment",
            chain="chain",
            time=TIME,
            inputs=Inputs(config=value),
            token=lock.token,
        )
        store.publish(TIME, manifest, lock=lock, replace=force)
        print("published", flush=True)


def _fill(private: Path, text: str) -> None:
    private.write_text(text)
    reach("file.half")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["lock", "cycle"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("value")
    parser.add_argument("--force", action="store_true")
    given = parser.parse_args()
    try:
        if given.what == "lock":
            hold(given.folder, float(given.value))
        else:
            make_cycle(given.folder, given.value, given.force)
    except CyclerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
