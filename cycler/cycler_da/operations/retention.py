"""Retention: which files of which cycles have had their time, and are needed by nobody.

A tier says how long files live, in days of data before the newest cycle of the chain (`operations.retention`); the
first tier whose pattern fits a name decides, and a file that fits none stays. Never retired: manifest, seal and
`diag/`, from which page, limits and calibration are made; and all files of

    the newest cycles, as many as the model reads or the ladder may fall back on
    the cycles before one that is not complete, is being made, or is early and may be made again; and such ones

Only what was archived, read back and found equal to the manifest is removed (products/retirement.py).
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import ConfigError, CyclerError, LockedCycle, MissingProduct
from cycler_da.operations_blocks import RetentionBlock
from cycler_da.products.manifest import MANIFEST, read_manifest
from cycler_da.products.retirement import archive_file, claim_place, read_retired, retire
from cycler_da.products.store import Store
from cycler_da.times import parse_duration, parse_time

log = logging.getLogger(__name__)

#: Cycles that are always whole: two for the ladder's last good one.
LEAST = 2
#: Frames that a model reads, where a manifest does not say.
MOST_HISTORY = 16


@dataclass(frozen=True)
class Retirement:
    """Files of one folder that may go."""

    store: Store
    time: np.datetime64
    folder: Path
    names: tuple[str, ...]
    bytes: int


@dataclass
class Report:
    """What was done."""

    files: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def plan(store: Store, block: RetentionBlock, valid_times: np.ndarray) -> Iterator[Retirement]:
    """What may go of a chain, oldest first; a cycle that cannot be read is left alone and logged."""
    newest = store.latest()
    if newest is None:
        return
    protected = needed(store, valid_times)
    for time in store.complete_cycles():
        if time in protected:
            continue
        for folder in (store.cycle_folder(time), *store.revisions(time)):
            names = _old_enough(folder, block, newest - time)
            if names:
                size = sum((folder / name).stat().st_size for name in names)
                yield Retirement(store, time, folder, names, size)


def needed(store: Store, valid_times: np.ndarray) -> set[np.datetime64]:
    """Complete cycles that somebody may still read as a whole."""
    complete = store.complete_cycles()
    times, done = list(valid_times), set(complete)
    history = max(LEAST, int((_facts(store, complete[-1]) or {}).get("history", MOST_HISTORY)))
    found = set(complete[-history:])
    at_work = {parse_time(path.name) for path in (store.chain_folder / "work").glob("[0-9]*T*Z")}
    for position, time in enumerate(times):
        is_open = time not in done or time in at_work or not _is_settled(store, time)
        if is_open or store.lock_holder(time) is not None:
            found |= {time, *times[max(0, position - history) : position]}
    return found & done


def carry_out(retirement: Retirement, archive: Path, report: Report) -> None:
    """Archive and retire the files of one folder, its cycle locked; what cannot be done is a problem in the report."""
    store, folder = retirement.store, retirement.folder
    try:
        with store.lock(retirement.time):
            entries = read_manifest(folder)["files"]
            target = claim_place(Path(archive) / store.experiment / store.chain / folder.name, folder / MANIFEST)
            for name in retirement.names:
                archive_file(folder / name, target / name, entries[name])
            retire(folder, retirement.names, entries=entries, archive=target)
    except LockedCycle as error:
        report.problems.append(f"{folder}: left alone, a run holds its cycle: {error}")
    except (CyclerError, OSError) as error:
        report.problems.append(f"{folder}: {error}")
    else:
        report.files += len(retirement.names)
        report.bytes += retirement.bytes


def require_archive(block: RetentionBlock) -> Path:
    """Folder of the archive; raises ConfigError without tiers or archive, or when the folder is absent."""
    if not block.tiers:
        raise ConfigError("operations.retention.tiers is empty: nothing may be retired; see docs/operations.md")
    if block.archive is None:
        raise ConfigError("operations.retention.archive is not set: nothing is removed that is not archived")
    if not Path(block.archive).is_dir():
        raise ConfigError(f"operations.retention.archive: folder {block.archive} does not exist; mount or make it")
    return Path(block.archive)


def _old_enough(folder: Path, block: RetentionBlock, age: np.timedelta64) -> tuple[str, ...]:
    try:
        listed: Sequence[str] = list(read_manifest(folder)["files"])
        gone = read_retired(folder)
    except CyclerError as error:
        log.warning("event=retention_skips folder=%s error=%s", folder, error)
        return ()
    names = (name for name in listed if not name.startswith("diag/") and (folder / name).is_file())
    # A file that was noted and not removed (a killed run) is due at once.
    return tuple(name for name in names if name in gone or _is_due(name, block, age))


def _is_due(name: str, block: RetentionBlock, age: np.timedelta64) -> bool:
    for tier in block.tiers:
        if fnmatch.fnmatchcase(name, tier.files):
            return tier.keep is not None and bool(age > parse_duration(tier.keep))
    return False


def _is_settled(store: Store, time: np.datetime64) -> bool:
    """Whether a complete cycle is final, or was declared so; one with a damaged manifest is to be repaired first."""
    facts = _facts(store, time)
    return facts is not None and (facts.get("delivery", "final") == "final" or store.is_declared_final(time))


def _facts(store: Store, time: np.datetime64) -> Mapping[str, Any] | None:
    """Facts of the manifest of a complete cycle; None where it is damaged, which must not stop all retention."""
    try:
        facts: Mapping[str, Any] = store.manifest(time)["facts"]
    except MissingProduct as error:
        log.warning("event=retention_skips folder=%s error=%s", store.cycle_folder(time), error)
        return None
    return facts
