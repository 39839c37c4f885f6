"""The store: where the cycles of one chain are, which are complete, and who may write one.

    <root>/<experiment>/<chain>/cycles/<stamp>/       published, complete when it holds _SUCCESS
                                work/<stamp>/         being made; private
                                locks/<stamp>.lock/   one writer (products/lock.py)
                                revisions/<stamp>.r001/   what a forced re-run replaced (.next: about to, or just was)
                                finals/<stamp>.json   an early cycle that is final as it stands
                                latest -> cycles/<newest complete>

The truth about "is this cycle done" is here and nowhere else. Nothing complete is ever changed or deleted by
this class. A killed run leaves a work folder; taking the lock again puts right what it left
(products/publication.py), so after taking a lock ask `is_complete` again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import CannotWrite, ConfigError, MissingProduct
from cycler_da.faultpoint import reach
from cycler_da.products import publication, stages
from cycler_da.products.atomic import (
    flush_folder,
    refusals_explained,
    require_space,
    write_atomically,
    write_json_atomically,
)
from cycler_da.products.audit import audit_chain, audit_revisions
from cycler_da.products.lock import HEARTBEAT, STALE_AFTER, CycleLock, lock_holder, take_lock
from cycler_da.products.manifest import MANIFEST, SUCCESS, PreviousCycle, read_manifest
from cycler_da.products.owner import Owner
from cycler_da.products.provenance import sha256_file
from cycler_da.products.retirement import is_retired, read_retired
from cycler_da.times import iso_time, parse_time, time_stamp

__all__ = ["CycleLock", "Store", "require_space", "write_atomically"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Store:
    """The cycles of one chain of one experiment."""

    root: Path
    experiment: str
    chain: str

    def __post_init__(self) -> None:
        for what, name in (("experiment", self.experiment), ("chain", self.chain)):
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{what} name {name!r} cannot be a folder; use letters, digits, dot, dash and underscore"
                )

    # Places

    @property
    def experiment_folder(self) -> Path:
        """Folder of all chains of the experiment."""
        return Path(self.root) / self.experiment

    @property
    def chain_folder(self) -> Path:
        """Folder of this chain."""
        return self.experiment_folder / self.chain

    def cycle_folder(self, time: np.datetime64) -> Path:
        """Where a cycle is, or will be, published."""
        return self.chain_folder / "cycles" / time_stamp(time)

    def work_folder(self, time: np.datetime64) -> Path:
        """The private folder of a cycle being made, on the same file system; made when absent."""
        folder = self.chain_folder / "work" / time_stamp(time)
        with refusals_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    # What is complete

    def is_complete(self, time: np.datetime64) -> bool:
        """Tell whether a cycle is published."""
        return (self.cycle_folder(time) / SUCCESS).is_file()

    def complete_cycles(self) -> list[np.datetime64]:
        """Valid times of all published cycles, oldest first."""
        found = (path.parent.name for path in (self.chain_folder / "cycles").glob(f"*/{SUCCESS}"))
        return sorted(time for name in found if (time := _time_of(name)) is not None)

    def latest(self) -> np.datetime64 | None:
        """Valid time of the newest published cycle, None when there is none."""
        return max(self.complete_cycles(), default=None)

    def manifest(self, time: np.datetime64) -> dict[str, Any]:
        """Manifest of a published cycle; raises MissingProduct."""
        self._require_complete(time)
        return read_manifest(self.cycle_folder(time))

    def link_to(self, time: np.datetime64) -> PreviousCycle:
        """The link that the next cycle's manifest carries; raises MissingProduct."""
        self._require_complete(time)
        return PreviousCycle(time_stamp(time), sha256_file(self.cycle_folder(time) / MANIFEST))

    def product(self, time: np.datetime64, name: str) -> Path:
        """Path of a file of a published cycle, its sha256 compared with the manifest first.

        Raises MissingProduct when the cycle or the file is absent or a byte differs.
        """
        manifest = self.manifest(time)
        try:
            return self._product(time, name, manifest)
        except MissingProduct:
            if (now := self.manifest(time)) == manifest:
                raise
            return self._product(time, name, now)  # a revision took the cycle's place in between

    def _product(self, time: np.datetime64, name: str, manifest: Mapping[str, Any]) -> Path:
        entry = manifest["files"].get(name)
        path = self.cycle_folder(time) / name
        if entry is not None and not path.is_file() and is_retired(self.cycle_folder(time), name, entry):
            copy = read_retired(self.cycle_folder(time))[name]["archive"]
            raise MissingProduct(f"{path} was retired; its copy is {copy}: put it back to use it")
        if entry is None or not path.is_file():
            raise MissingProduct(f"{path} does not exist; run the cycle again with --force, or an earlier one first")
        if not stages.is_same_file(path, entry):
            raise MissingProduct(
                f"{path} is not what was published (sha256 differs from {MANIFEST}): it is damaged and is not used; "
                "restore it from a copy or run the cycle again with --force"
            )
        return path

    def is_declared_final(self, time: np.datetime64) -> bool:
        """Tell whether an early cycle was found to be final as it stands."""
        return self._declaration(time).is_file()

    # Writing

    def declare_final(self, time: np.datetime64) -> None:
        """Note that an early cycle is final as it stands; the published folder is not touched."""
        path = self._declaration(time)
        path.parent.mkdir(exist_ok=True)
        write_json_atomically(path, {"cycle": time_stamp(time), "declared": iso_time(np.datetime64("now", "s"))})

    @contextmanager
    def lock(
        self,
        time: np.datetime64,
        *,
        heartbeat: np.timedelta64 = HEARTBEAT,
        stale_after: np.timedelta64 = STALE_AFTER,
    ) -> Iterator[CycleLock]:
        """Hold the right to write a cycle; first puts right what a killed run left of it.

        Raises LockedCycle when another run holds it. Ask `is_complete` again inside the block.
        """
        held = take_lock(self._lock_folder(time), heartbeat=heartbeat, stale_after=stale_after)
        try:
            publication.recover(self._work(time), self.cycle_folder(time), self._revision_place(time), lock=held)
            self.refresh_latest()
            yield held
        finally:
            held.release()

    def lock_holder(self, time: np.datetime64) -> Owner | None:
        """Who holds the lock of a cycle; None when it is free."""
        return lock_holder(self._lock_folder(time))

    def mark_stage(
        self,
        time: np.datetime64,
        stage: str,
        files: Sequence[str],
        *,
        facts: Mapping[str, Any],
        key: str = "",
        lock: CycleLock | None = None,
    ) -> None:
        """Say that a stage is finished; see `stages.mark_stage`. Raises LostLock when `lock` was lost."""
        if lock is not None:
            lock.require_held()
        stages.mark_stage(self.work_folder(time), stage, files, facts=facts, key=key)

    def stage_is_done(self, time: np.datetime64, stage: str, *, key: str = "") -> bool:
        """Tell whether a stage is finished with this key and all its files are whole."""
        return stages.stage_is_done(self._work(time), stage, key=key)

    def stage_facts(self, time: np.datetime64, stage: str) -> dict[str, Any]:
        """The facts a finished stage left; raises MissingProduct."""
        return stages.stage_facts(self._work(time), stage)

    def publish(
        self, time: np.datetime64, manifest: Mapping[str, Any], *, lock: CycleLock, replace: bool = False
    ) -> Path:
        """Publish the work folder of a cycle; returns the cycle folder.

        With `replace` a complete cycle goes to revisions/ in the same moment; without, it is refused. Raises
        LostLock, CannotWrite; then nothing partial is visible, an earlier publication stays, and the work
        folder is kept for the next run.
        """
        final = self.cycle_folder(time)
        if self.is_complete(time) and not replace:
            raise CannotWrite(f"cannot publish {final}: it is complete; a revision is made with --force")
        prepared = publication.prepare(self._work(time), manifest, lock=lock)
        if self.is_complete(time):
            publication.replace(prepared, final, self._revision_place(time), lock=lock)
        else:
            publication.commit(prepared, final, lock=lock)
        try:
            self.refresh_latest()
        except CannotWrite as error:
            # The cycle is published; readers of `latest` see the one before until the link is put right.
            log.error("latest of %s is not moved: %s", self.chain_folder, error)
        return final

    def refresh_latest(self) -> None:
        """Let `latest` lead to the newest complete cycle (a run killed at the last moment leaves it behind)."""
        newest = self.latest()
        while True:
            publication.point_latest(self.chain_folder, None if newest is None else self.cycle_folder(newest))
            # Another cycle of the chain may have been published in between.
            if (again := self.latest()) == newest:
                return
            newest = again

    def make_revision(self, time: np.datetime64) -> Path:
        """Move a complete cycle to revisions/<stamp>.r001 (r002, ...) and let `latest` lead elsewhere.

        For a re-run that should leave the earlier publication in place until it succeeds, use
        `publish(..., replace=True)` instead. Raises MissingProduct when the cycle is not complete.
        """
        self._require_complete(time)
        others = [other for other in self.complete_cycles() if other != time]
        publication.point_latest(self.chain_folder, self.cycle_folder(max(others)) if others else None)
        return self._to_revisions(time)

    def revisions(self, time: np.datetime64) -> list[Path]:
        """Folders of earlier publications of a cycle, oldest first."""
        return sorted((self.chain_folder / "revisions").glob(f"{time_stamp(time)}.r[0-9]*"))

    def all_revisions(self) -> list[Path]:
        """Folders of earlier publications of all cycles."""
        return sorted((self.chain_folder / "revisions").glob("*.r[0-9]*"))

    def discard_work(self, time: np.datetime64) -> None:
        """Remove the work folder of a cycle, if there is one."""
        if self._work(time).exists():
            publication.discard(self._work(time))

    def discard_other_work(self, time: np.datetime64, *, key: str) -> bool:
        """Remove the work folder when a stage in it was made with another key; True when it was removed.

        A file that the earlier config wrote and the present one does not would else be published with it.
        """
        if not stages.has_other_stage(self._work(time), key=key):
            return False
        self.discard_work(time)
        return True

    def verify(self, time: np.datetime64 | None = None) -> list[str]:
        """Problems of one cycle or of all: every file against its manifest, and the links between manifests.

        Of earlier publications the links are not followed. Raises MissingProduct for a cycle that is not complete.
        """
        times = self.complete_cycles() if time is None else [time]
        if time is not None:
            self._require_complete(time)
        folders = {time_stamp(one): self.cycle_folder(one) for one in times}
        earlier = self.all_revisions() if time is None else self.revisions(time)
        place = {"revisions": self.chain_folder / "revisions", "cycles": self.chain_folder / "cycles"}
        return audit_chain(folders, **place) + audit_revisions(earlier)

    def _work(self, time: np.datetime64) -> Path:
        return self.chain_folder / "work" / time_stamp(time)

    def _declaration(self, time: np.datetime64) -> Path:
        return self.chain_folder / "finals" / f"{time_stamp(time)}.json"

    def _lock_folder(self, time: np.datetime64) -> Path:
        return self.chain_folder / "locks" / f"{time_stamp(time)}.lock"

    def _require_complete(self, time: np.datetime64) -> None:
        if not self.is_complete(time):
            newest = self.latest()
            held = "no complete cycle" if newest is None else f"cycles up to {time_stamp(newest)}"
            raise MissingProduct(
                f"cycle {time_stamp(time)} is not complete in {self.chain_folder}, which holds {held}; run it first"
            )

    def _revision_place(self, time: np.datetime64) -> Path:
        numbers = [int(path.suffix[2:]) for path in self.revisions(time)]  # some may have been removed by hand
        number = max(numbers, default=0) + 1
        return self.chain_folder / "revisions" / f"{time_stamp(time)}.r{number:03d}"

    def _to_revisions(self, time: np.datetime64) -> Path:
        target = self._revision_place(time)
        with refusals_explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self.cycle_folder(time).rename(target)
            flush_folder(target.parent)
            flush_folder(self.cycle_folder(time).parent)
        reach("publish.revised")
        return target


def _time_of(name: str) -> np.datetime64 | None:
    try:
        return parse_time(name)
    except ConfigError:
        return None
