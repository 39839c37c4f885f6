"""Drills of keeping: a disk that stalls or errs, readers during publication, the archive."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from cycler_da.drills import system as tiny
from cycler_da.drills.ending import continued
from cycler_da.drills.reading import reading
from cycler_da.drills.trials import Ground, Outcome, is_subset
from cycler_da.products.manifest import read_manifest
from cycler_da.products.provenance import sha256_file

#: Calls that make something durable in a run of the small system: about 160.
MOST_CALLS = 170
ERRORS = ("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN")


def slow_disk(ground: Ground, draw: random.Random) -> Outcome:
    """A write stalls for many heartbeats, or fails once with an error of the device or the network; a rival runs."""
    way = draw.choice(("stall", *ERRORS))
    struck = {"way": way, "visit": draw.randint(1, MOST_CALLS), "seconds": draw.uniform(0.2, 0.8)}
    with ground.drill() as drill:
        jobs = [drill.job(sabotage={"disk": struck, "quick_retries": {}})]
        if draw.random() < 0.5:
            jobs.append(drill.job(start_after=draw.uniform(0.0, 0.5)))
        results = drill.served.run_together(jobs)
        codes = [result.code for result in results]
        wrong = (drill.store().chain_folder / "revisions").exists() or not is_subset(drill, ground.undisturbed)
        if wrong or any(code not in (0, 73, 75) for code in codes) or "Traceback" in results[0].output:
            return Outcome(False, wrong, told=f"{struck}: ended with {codes}: {results[0].end}")
        return continued(ground, drill, results[0])


def read_meanwhile(ground: Ground, draw: random.Random) -> Outcome:
    """Somebody reads `latest` and the first cycle while cycles are published, replaced, and runs are killed."""
    with ground.drill() as drill:
        chain = drill.store().chain_folder
        with reading(chain / "latest", drill.store().cycle_folder(tiny.CYCLES[0])) as found:
            drill.run(kill_after=draw.uniform(0.2, 1.5))
            drill.run()
            drill.run(options=["--force"], kill_after=draw.uniform(0.2, 1.5))
            result = drill.run(options=["--force"])
        is_right = result.code == 0 and drill.hashes() == ground.undisturbed and not found["partial"]
        told = "" if is_right else f"code {result.code}, {dict(found)}"
        return Outcome(is_right, bool(found["partial"]), told=told)


def archived(ground: Ground, draw: random.Random) -> Outcome:
    """The archive fails, is killed, gets a damaged file, or a later cycle is unfinished: nothing is lost."""
    way = draw.choice(("kill", "full", "damaged", "unfinished"))
    with ground.drill() as drill:
        drill.run(fault=f"{draw.choice(('assimilate', 'products', 'finish'))}.start:3" if way == "unfinished" else "")
        (drill.folder / "archive").mkdir()
        before = _contents(drill)
        if way == "damaged":
            return _damaged(drill, draw, before)
        point = f"{draw.choice(('retire.noted', 'retire.removed'))}:{draw.randint(1, 3)}"
        limit = draw.randint(1, 48) * 1024 if way == "full" else None
        first = _retain(drill, fault=point if way == "kill" else "", limit=limit)
        lost = _lost(drill, before)
        again = _retain(drill)
        lost += _lost(drill, before)
        is_kept = all(path.is_file() for path in before) if way == "unfinished" else True
        problems = drill.store().verify()
        codes = (first.code, again.code)
        is_right = again.code == 0 and first.code in (0, 65, -signal.SIGKILL) and is_kept and not lost and not problems
        told = "" if is_right else f"{way}: {codes}, kept {is_kept}, lost {lost}, {problems}"
        return Outcome(is_right, bool(lost), lost=min(lost, 1), told=told)


def _damaged(drill: tiny.Drill, draw: random.Random, before: dict[Path, str]) -> Outcome:
    """A bit of a published file has flipped: it is neither archived nor removed, and the operator is told."""
    folder = drill.store().cycle_folder(tiny.START)
    path = folder / "analysis.nc"
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))
    result = _retain(drill)
    copies = list((drill.folder / "archive").rglob("analysis.nc"))
    is_right = result.code == 65 and "PROBLEM" in result.output and path.is_file() and not copies
    return Outcome(is_right, bool(copies), lost=int(not path.is_file()), told="" if is_right else result.end)


def _retain(drill: tiny.Drill, *, fault: str = "", limit: int | None = None) -> tiny.Result:
    tiers = f"{{archive: {drill.folder / 'archive'}, tiers: [{{files: '*.nc', keep: 1h}}]}}"
    arguments = ["retain", str(drill.store().experiment_folder), "--set", f"operations.retention={tiers}"]
    return drill.served.run_together([drill.job(arguments=arguments, fault=fault, limit=limit)])[0]


def _contents(drill: tiny.Drill) -> dict[Path, str]:
    """All files that the manifests of complete cycles name, with their hashes."""
    folders = [drill.store().cycle_folder(time) for time in drill.store().complete_cycles()]
    return {
        folder / name: entry["sha256"] for folder in folders for name, entry in read_manifest(folder)["files"].items()
    }


def _lost(drill: tiny.Drill, before: dict[Path, str]) -> int:
    """Files that are neither where they were nor in the archive."""
    archive, cycles = drill.folder / "archive" / "tiny" / "letkf", drill.store().chain_folder / "cycles"
    places = {path: (path, archive / path.relative_to(cycles)) for path in before}
    return sum(
        not any(place.is_file() and sha256_file(place) == before[path] for place in both)
        for path, both in places.items()
    )
