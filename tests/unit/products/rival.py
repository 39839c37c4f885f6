"""A process that competes for a lock or makes a small cycle; started by the tests of lock and store.

rival.py lock FOLDER SECONDS    take the lock, print the token, hold it
rival.py serve                  for each line of JSON on stdin, a list of runs, make one forked process per run, all at
                                once, each making one cycle of three stages; answer with their exit codes and output

A forked process starts in milliseconds where a fresh one needs a second.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time as clock
import traceback
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
            write_atomically(
                store.work_folder(TIME) / name, lambda private, text=f"{stage} {value}": _fill(private, text)
            )
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


def run_cycle(root: str, value: str = "v", *, force: bool = False, fault: str = "") -> int:
    os.environ["CYCLER_FAULT"] = fault
    try:
        make_cycle(Path(root), value, force)
    except CyclerError as error:
        print(error, flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        return 1
    return 0


def serve() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            runs = [(Path(folder) / str(k), arguments) for k, arguments in enumerate(json.loads(line))]
            children = [_fork(output, dict(arguments)) for output, arguments in runs]
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            outputs = [output.read_text() for output, _ in runs]
        answers = [{"code": code, "output": output} for code, output in zip(codes, outputs, strict=True)]
        print(json.dumps(answers), flush=True)


def _fork(output: Path, arguments: dict) -> int:
    output.touch()
    kill_after = arguments.pop("kill_after", None)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(output, os.O_WRONLY), 1)
        os._exit(run_cycle(**arguments))
    if kill_after is not None:
        clock.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return child


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        hold(Path(sys.argv[2]), float(sys.argv[3]))
