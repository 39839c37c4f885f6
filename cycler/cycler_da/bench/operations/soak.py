"""Soak: a small experiment served for 500 cycles while everything around it fails, compared with an undisturbed run.

The served process (`cycler serve --orchestrator none`) is killed at random instants and at named points, its disk
fills, a worker is killed, a second server starts beside it, it is drained and started again; observation files
come late, damaged, twice or never (soak_faults.py, seeded). Afterwards:

    published once     every cycle is complete; a revision exists only where a final pass replaced an early one
    none wrong         the store verifies, and every cycle has, member by member, the hashes of a run that nothing
                       disturbed and that was given the observations which the cycle says it used
    flat               memory of the undisturbed process and bytes of a cycle, early and late

Costs about 20 CPU-minutes (`--quick`: 30 cycles, two minutes). Limits: the early publications that a final pass
replaced are checked by their own manifest alone; one host, one file system; Prefect is not in the loop.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time as clock
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from cycler_da.agenda import Agenda
from cycler_da.arrivals import Arrivals
from cycler_da.bench.operations.soak_case import CHAIN, EVERY, STREAMS, SoakCase, make_case
from cycler_da.bench.operations.soak_faults import Suppliers, Trouble, steps
from cycler_da.bench.operations.soak_server import Server
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.clock import HandClock
from cycler_da.errors import AnalysisFailed
from cycler_da.experiment import Experiment
from cycler_da.operations.serving import look
from cycler_da.products.manifest import read_manifest
from cycler_da.products.store import Store
from cycler_da.setting import Setting, load_setting
from cycler_da.tables.report import BenchResult, Row
from cycler_da.times import time_stamp

SEED = 20260
LONGEST_STEP = 7200.0  # s; a step that takes longer, even on a machine that is busy, means that the service hangs
POLL = 0.25  # s
IN_MEMORY = Path("/dev/shm")


@benchmark("soak", summary="500 cycles served under random faults, beside an undisturbed run (20 CPU-minutes)")
def soak(quick: bool, progress: Progress) -> BenchResult:
    """Serve under faults, then replay undisturbed and compare."""
    cycles = 30 if quick else 500
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="cycler-soak-", dir=place) as folder:
        case = make_case(Path(folder) / "case", cycles=cycles)
        suppliers, trouble, longest = disturb(case, progress)
        reference, memory = undisturbed(case, Path(folder) / "reference")
        problems = case.store.verify()
        rows = [*_published(case, problems), *_compared(case, reference), *_growth(case, memory)]
        found = [*(f"verify: {problem}" for problem in problems), *_first_difference(case, reference)]
        rows += [Row("what befell", "served process", kind, count) for kind, count in sorted(trouble.counts.items())]
        rows += [Row("what befell", "observation files", fate, n) for fate, n in sorted(suppliers.counts.items())]
        rows += [Row("what befell", "served process", "starts", trouble.server.starts + trouble.rival.starts)]
        rows += [Row("recovery", "served process", "longest step (s)", longest)]
    return BenchResult(
        name="soak",
        config={"system": "lorenz96", "members": case.members, "cycles": cycles, "streams": list(STREAMS)},
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            "Every count under `must be 0` is a failure; `cycles` are those after the start.",
            "A step is up to seven cycles; its seconds depend on the machine and hold restarts after a fault, 6 s of "
            "them the wait for the heartbeat of the dead process.",
            *found,
        ),
    )


def disturb(case: SoakCase, progress: Progress) -> tuple[Suppliers, Trouble, float]:
    """Serve all cycles under faults; returns what happened and the seconds of the longest step."""
    draw = random.Random(SEED)
    suppliers = Suppliers(case, draw)
    trouble = Trouble(Server(case), Server(case), draw)
    setting, longest = load_setting(case.config), 0.0
    try:
        for first, last, now in steps(case, draw):
            progress(first - 1, case.cycles, "disturbed")
            for number in range(first, last + 1):
                suppliers.window(case.times[number])
            suppliers.bring_late(now)
            longest = max(longest, _step(case, setting, trouble, now))
    finally:
        for server in (trouble.server, trouble.rival):
            server.kill()
    return suppliers, trouble, longest


def _step(case: SoakCase, setting: Setting, trouble: Trouble, now: np.datetime64) -> float:
    """Move the clock and wait until everything that is due is done, in spite of one trouble."""
    kind = trouble.choose()
    trouble.before(kind)
    case.set_time(now)
    agenda, began, has_happened = Agenda(Arrivals(setting, HandClock(now))), clock.monotonic(), False
    while agenda.ready(case.store):
        seconds = clock.monotonic() - began
        if seconds > LONGEST_STEP:
            raise AnalysisFailed(f"soak: {kind} at {now}: nothing more is done after {seconds:.0f} s")
        has_happened = has_happened or trouble.during(kind, seconds)
        if not trouble.server.is_alive():
            trouble.server.start()
        clock.sleep(POLL)
    trouble.after(kind)
    return clock.monotonic() - began


def undisturbed(case: SoakCase, folder: Path) -> tuple[Store, list[float]]:
    """Run the same cycles in one process with the files that they used; returns its store and memory (MiB)."""
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    for time, stream in ((time, stream) for time in case.times[1:] for stream in STREAMS):
        copy = case.store.cycle_folder(time) / "obs" / f"in.{stream}.nc"
        if copy.is_file():
            shutil.copy(copy, incoming / case.delivered(stream, time).name)
    folders = [f"observations.{stream}.folder={incoming}" for stream in STREAMS]
    setting = load_setting(case.config, [f"root={folder / 'runs'}", *folders])
    hand, memory = HandClock(case.times[0]), []
    with Experiment(setting, clock=hand, is_served=True) as experiment:
        experiment.prepare()
        for time in case.times:
            hand.time = time + 2 * EVERY  # every pass is the final one
            look(experiment, stop=Event())
            memory.append(_own_memory())
        return experiment.store(CHAIN), memory


def _published(case: SoakCase, problems: list[str]) -> Iterator[Row]:
    store = case.store
    complete = store.complete_cycles()
    revised: Counter[str] = Counter()
    odd = 0
    for time in complete:
        passes = [_delivery(folder) for folder in [*store.revisions(time), store.cycle_folder(time)]]
        revised["revisions by a final pass"] += len(passes) - 1
        odd += passes not in (["final"], ["early"], ["early", "final"])
    left = sum(1 for _ in (store.chain_folder / "work").glob("*"))
    yield Row("published", "service", "cycles", len(complete) - 1)
    yield Row("published", "service", "revisions by a final pass", revised["revisions by a final pass"])
    yield Row("must be 0", "service", "cycles not published", case.cycles + 1 - len(complete))
    yield Row("must be 0", "service", "cycles published twice in one pass", odd)
    yield Row("must be 0", "service", "problems found by verify", len(problems))
    yield Row("must be 0", "service", "work folders left", left)


def _compared(case: SoakCase, reference: Store) -> Iterator[Row]:
    differ, members = 0, 0
    for time in case.times:
        ours, theirs = case.store.manifest(time)["arrays"], reference.manifest(time)["arrays"]
        differ += ours != theirs
        members += sum(len(one) for file in ours.values() for one in file.values() if isinstance(one, dict))
    yield Row("compared", "service and undisturbed run", "member fields", members)
    yield Row("must be 0", "service and undisturbed run", "cycles whose hashes differ", differ)
    yield Row("must be 0", "undisturbed run", "problems found by verify", len(reference.verify()))


def _first_difference(case: SoakCase, reference: Store) -> Iterator[str]:
    """The first cycle that is not that of the undisturbed run, and what each was made from."""
    for time in case.times:
        ours, theirs = case.store.manifest(time), reference.manifest(time)
        if ours["arrays"] != theirs["arrays"]:
            mine, other = ((one["facts"]["delivery"], one["inputs"]["observations"]) for one in (ours, theirs))
            yield f"first cycle that differs: {time_stamp(time)}; pass and observations {mine}, undisturbed {other}"
            return


def _growth(case: SoakCase, memory: list[float]) -> Iterator[Row]:
    tenth = max(case.cycles // 10, 3)
    early, late = case.times[1 : 1 + tenth], case.times[-tenth:]
    for name, times in (("first tenth", early), ("last tenth", late)):
        sizes = [_size(case.store.cycle_folder(time)) for time in times]
        yield Row("growth", f"bytes of a cycle (KiB), {name}", "mean", float(np.mean(sizes)) / 1024, n=len(sizes))
    settled = memory[len(memory) // 5 :]
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0])
    yield Row("growth", "memory of the undisturbed process (MiB)", "after a fifth", settled[0])
    yield Row("growth", "memory of the undisturbed process (MiB)", "at the end", settled[-1])
    yield Row("growth", "memory of the undisturbed process (KiB)", "per cycle", 1024 * slope, n=len(settled))


def _delivery(folder: Path) -> Any:
    return read_manifest(folder)["facts"]["delivery"]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _own_memory() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
