"""Benchmark of publication: two runs race for each cycle, and readers read `latest` while cycles are published.

Cycles are small (three files of 2 kB), so that what is measured is the store: lock, work folder, manifest, rename,
`_SUCCESS`, `latest`. Racers are processes that start at the same instant.

    double publishes    cycles that both racers say they published, or that have a revision
    unpublished         cycles that none published although both ended
    partial             reads of `latest` that found `_SUCCESS`, and then a file absent or with another sha256 than the
                        manifest says, though `_SUCCESS` was the same afterwards
    replaced            reads of file by file by name, during which the newest cycle was exchanged for a revision:
                        `_SUCCESS` became another one; the reader can tell, and reads again
    absent              reads that found no folder, in the middle of an exchange

Every second read opens the folder once and reads all files through it (`products.exchange.opened`).

About 3 CPU minutes, most of it waiting for the disk; `--quick` 20 s.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.shares import share_row
from cycler_da.drills.reading import read_cycle, read_opened_cycle
from cycler_da.errors import CyclerError, LockedCycle
from cycler_da.products.exchange import can_exchange
from cycler_da.products.manifest import Inputs, build_manifest
from cycler_da.products.provenance import code_version
from cycler_da.products.store import CycleLock, Store
from cycler_da.tables.report import BenchResult, Row

START = np.datetime64("2020-01-01T00:00:00", "s")
HOUR = np.timedelta64(3600, "s")
FILES = ("background.bin", "analysis.bin", "diag/summary.json")
BYTES = 2048
PER_CHAIN = 25  # cycles of one chain: a store looks through all of them when it moves `latest`
TIMEOUT = 60.0  # s

#: How files are read.
WAYS = {"folder opened once": read_opened_cycle, "file by file": read_cycle}
#: What a read comes to (drills/reading.py): column of the table, none for what is as it should be.
OUTCOMES = {"whole": "", "partial": "partial", "replaced": "replaced", "none": "absent"}

_FORK = multiprocessing.get_context("fork")


@benchmark("publication", summary="double publishes of racing runs, partial reads of `latest` during publishing")
def publication(quick: bool, progress: Progress) -> BenchResult:
    """Race, then read."""
    n_races, n_reads = (60, 5000) if quick else (1000, 100_000)
    code_version()  # asks git once, before processes are forked
    with tempfile.TemporaryDirectory() as folder:
        races = _races(Path(folder), n_races, progress)
        reads, is_one_call = _reads(Path(folder), n_reads), can_exchange(Path(folder))
    rows = [
        share_row("two runs race", "store", "double publishes", races["double"], n_races),
        share_row("two runs race", "store", "unpublished", races["none"], n_races),
        share_row("two runs race", "store", "locked out", races["locked"], 2 * n_races),
        *(row for way in WAYS for row in _read_rows(way, reads)),
    ]
    return BenchResult(
        name="publication",
        config={"races": n_races, "reads": n_reads, "bytes": BYTES, "files": len(FILES)},
        seeds=(),
        rows=tuple(rows),
        notes=(
            f"While {n_reads} reads were made, {reads['published']} cycles and {reads['revised']} revisions were "
            "published; whole reads: " + ", ".join(f"{way} {reads[f'{way} whole']}" for way in WAYS) + ".",
            f"Folders change places by {'one call of the kernel' if is_one_call else 'two renames'} here.",
            "locked out: racers that met the lock of the other (exit code 75); the others found the cycle complete.",
        ),
    )


def _races(root: Path, n_races: int, progress: Progress) -> Counter[str]:
    found: Counter[str] = Counter()
    for race in range(n_races):
        progress(race, n_races, "races")
        store, time = Store(root, "races", f"chain{race // PER_CHAIN}"), START + (race % PER_CHAIN) * HOUR
        barrier, results = _FORK.Barrier(2), _FORK.SimpleQueue()
        racers = [_FORK.Process(target=_racer, args=(store, time, n, barrier, results)) for n in range(2)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(TIMEOUT)
        said = Counter(results.get() for _ in racers)
        found["double"] += said["published"] > 1 or bool(store.revisions(time)) or bool(store.verify(time))
        found["none"] += said["published"] == 0
        found["locked"] += said["locked"]
    return found


def _racer(store: Store, time: np.datetime64, number: int, barrier: Barrier, results: Any) -> None:
    """One run: what it came to is `published`, `locked`, `complete` or an error."""
    barrier.wait(TIMEOUT)
    try:
        with store.lock(time) as lock:
            if store.is_complete(time):
                results.put("complete")
                return
            _publish(store, time, lock, text=f"{number}")
        results.put("published")
    except LockedCycle:
        results.put("locked")
    except CyclerError as error:
        results.put(f"{type(error).__name__}: {error}")


def _publish(store: Store, time: np.datetime64, lock: CycleLock, *, text: str, replace: bool = False) -> None:
    folder = store.work_folder(time)
    for name in FILES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        content = f"{text} {name} {time} {os.getpid()}".encode()
        path.write_bytes(content * (1 + BYTES // len(content)))
    manifest = build_manifest(
        folder, experiment=store.experiment, chain=store.chain, time=time, inputs=Inputs("0" * 64), token=lock.token
    )
    store.publish(time, manifest, lock=lock, replace=replace)


def _read_rows(way: str, reads: Counter[str]) -> list[Row]:
    n = sum(reads[f"{way} {outcome}"] for outcome in OUTCOMES)
    case = f"reads of latest, {way}"
    return [share_row(case, "store", name, reads[f"{way} {key}"], n) for key, name in OUTCOMES.items() if name]


def _reads(root: Path, n_reads: int) -> Counter[str]:
    store, stop = Store(root, "reads", "chain"), _FORK.Event()
    with store.lock(START) as lock:
        _publish(store, START, lock, text="first")
    counts = _FORK.Array("l", 2)
    writer = _FORK.Process(target=_writer, args=(store, stop, counts))
    writer.start()
    latest, found = store.chain_folder / "latest", Counter[str]()
    for number in range(n_reads):
        way = list(WAYS)[number % len(WAYS)]
        found[f"{way} {WAYS[way](latest)}"] += 1
    stop.set()
    writer.join(TIMEOUT)
    found["published"], found["revised"] = counts[0], counts[1]
    return found


def _writer(store: Store, stop: Any, counts: Any) -> None:
    """Publish cycle after cycle, each a second time as a revision, until told to stop; a round has few cycles."""
    while not stop.is_set():
        for i in range(PER_CHAIN):
            time = START + i * HOUR
            for text in ("one", "two"):
                if stop.is_set():
                    return
                replace = store.is_complete(time)
                with store.lock(time) as lock:
                    _publish(store, time, lock, text=text, replace=replace)
                counts[int(replace)] += 1
