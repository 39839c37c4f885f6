"""Publication: a work folder becomes a cycle, all at once.

    1  MANIFEST.json is written, unfinished files are removed, everything is flushed to the disk
    2  every file is opened again and compared with the manifest
    3  the lock is checked, and the folder is renamed from work/ to cycles/
    4  the lock is checked again, stage markers go, `_SUCCESS` is renamed into place (the last file)
    5  `latest` is moved by rename

A revision of a published cycle takes its place in one moment instead (exchange.py). A reader that trusts only
folders with `_SUCCESS` never sees a part of a cycle; one that does not still sees whole files only. Killed at any
point, `recover` ends what was begun or gives the folder back to work/.
What step 4 and 5 need on the disk is written before step 3, so that a full disk stops the cycle earlier.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import CannotWrite, CyclerError, LostLock
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import (
    PRIVATE_MARK,
    flush_file,
    flush_folder,
    flush_tree,
    is_private,
    private_name,
    refusals_explained,
    write_json_atomically,
)
from cycler_da.products.exchange import is_new, is_sealed, next_folder, swap
from cycler_da.products.lock import CycleLock
from cycler_da.products.manifest import MANIFEST, SUCCESS, check_files, read_manifest
from cycler_da.products.provenance import check_of, sha256_file
from cycler_da.products.stages import SUFFIX
from cycler_da.times import iso_time

log = logging.getLogger(__name__)

#: The newest complete cycle of a chain, a relative symbolic link.
LATEST = "latest"


@dataclass(frozen=True)
class Prepared:
    """A work folder that is whole on the disk and ready to be renamed."""

    work: Path
    seal: Path  # the content of _SUCCESS under a private name
    identities: Mapping[str, tuple[int, int, int]]


def prepare(work: Path, manifest: Mapping[str, Any], *, lock: CycleLock) -> Prepared:
    """Steps 1 and 2; raises LostLock, or CannotWrite when a file is not what the manifest says."""
    lock.require_held()
    with refusals_explained(work):
        remove_unfinished(work)
        write_json_atomically(work / MANIFEST, manifest)
        seal = _write_seal(work, lock)
        flush_tree(work)
        reach("publish.flushed")
        _require_whole(work, manifest)
        prepared = Prepared(work, seal, _identities(work))
    reach("publish.verified")
    return prepared


def commit(prepared: Prepared, final: Path, *, lock: CycleLock) -> None:
    """Steps 3 and 4: make the folder visible as `final`, which must not exist.

    Raises LostLock, or CannotWrite when the file system refuses; then nothing is visible as complete.
    """
    lock.require_held()
    work = prepared.work
    with refusals_explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        _rename(work, final)
        reach("publish.renamed")
        _require_same(prepared, final, lock=lock)
        try:
            _seal(final, final / prepared.seal.name)
        except OSError:
            lock.require_held()  # a run that took over has the folder, sealed or not: it stays where it is
            with suppress(OSError):
                final.rename(work)
            raise


def replace(prepared: Prepared, final: Path, revision: Path, *, lock: CycleLock) -> None:
    """Make the folder visible in the place of `final`, a complete cycle, which becomes `revision`.

    Raises LostLock, or CannotWrite when the file system refuses; then `final` is what it was.
    """
    lock.require_held()
    waiting = next_folder(revision)
    with refusals_explained(final):
        revision.parent.mkdir(parents=True, exist_ok=True)
        _rename(prepared.work, waiting)
        try:
            reach("publish.renamed")
            _require_same(prepared, waiting, lock=lock)
            _seal(waiting, waiting / prepared.seal.name)
            lock.require_held()
            swap(waiting, final, revision=revision)
        except OSError:
            with suppress(OSError):
                _give_back(waiting, prepared.work, final, revision)
            raise


def recover(work: Path, final: Path, revision: Path, *, lock: CycleLock) -> bool:
    """Put right what a killed run left of this cycle; returns True when its publication was completed.

    A folder with a manifest that verifies is published; a folder in cycles/ that does not verify goes back to
    work/, where valid stage markers spare the finished stages. An exchange that was begun is ended; `revision` is where
    the publication goes that it replaces.
    """
    lock.require_held()
    with refusals_explained(final):
        if next_folder(revision).exists():
            return _settle(work, final, revision)
        if (final / SUCCESS).exists():
            return False
        if final.exists():
            if _is_whole(final):
                log.warning("cycle %s: completing the publication of a killed run", final.name)
                remove_unfinished(final)
                _seal(final, _write_seal(final, lock))
                return True
            if work.exists():
                discard(final)
            else:
                work.parent.mkdir(parents=True, exist_ok=True)
                _rename(final, work)
        if not work.exists():
            return False
        remove_unfinished(work)
        if (work / MANIFEST).exists():
            if _is_whole(work):
                log.warning("cycle %s: completing the publication of a killed run", final.name)
                commit(prepare(work, read_manifest(work), lock=lock), final, lock=lock)
                return True
            (work / MANIFEST).unlink()
    return False


def point_latest(chain_folder: Path, target: Path | None) -> None:
    """Let `latest` lead to a cycle folder, moved by rename; None removes it."""
    point_link(chain_folder, LATEST, target)


def point_link(chain_folder: Path, name: str, target: Path | None) -> None:
    """Let a link of a chain lead to a cycle folder, moved by rename; None removes it."""
    link = chain_folder / name
    with refusals_explained(link):
        if target is None:
            link.unlink(missing_ok=True)
            return
        relative = target.relative_to(chain_folder)
        if link.is_symlink() and link.readlink() == relative:
            return
        private = private_name(link)
        private.symlink_to(relative, target_is_directory=True)
        try:
            private.replace(link)
        finally:
            private.unlink(missing_ok=True)
        flush_folder(chain_folder)


def discard(folder: Path) -> None:
    """Remove a folder: first out of sight by rename, then from the disk, with what a killed removal left."""
    with refusals_explained(folder):
        folder.rename(private_name(folder))
        for away in folder.parent.glob(f".{folder.stem}{PRIVATE_MARK}*"):
            shutil.rmtree(away)


def remove_unfinished(folder: Path) -> None:
    """Remove files that a killed writer left unfinished."""
    for path in [path for path in folder.rglob(f"*{PRIVATE_MARK}*") if is_private(path)]:
        path.unlink(missing_ok=True)


def _write_seal(folder: Path, lock: CycleLock) -> Path:
    """Write the content of `_SUCCESS` under a private name."""
    seal = private_name(folder / SUCCESS)
    content = {
        "manifest_sha256": sha256_file(folder / MANIFEST),
        "fencing_token": lock.token,
        "published": iso_time(np.datetime64("now", "s")),
    }
    content["check"] = check_of(content)
    seal.write_text(json.dumps(content) + "\n", encoding="utf-8")
    flush_file(seal)
    return seal


def _seal(final: Path, seal: Path) -> None:
    for marker in final.glob(f"*{SUFFIX}"):
        marker.unlink()
    reach("publish.unmarked")
    seal.rename(final / SUCCESS)
    flush_folder(final)
    reach("publish.success")


def _require_same(prepared: Prepared, folder: Path, *, lock: CycleLock) -> None:
    lock.require_held()
    if _identities(folder) != prepared.identities:
        raise LostLock(f"cannot publish {folder}: another run changed its files after they were verified")


def _settle(work: Path, final: Path, revision: Path) -> bool:
    """End an exchange that was begun; returns True when the revision that waited is published now."""
    waiting = next_folder(revision)
    if is_sealed(waiting) and not is_new(waiting, final):
        _rename(waiting, revision)
    elif is_sealed(waiting) and _is_whole(waiting):
        log.warning("cycle %s: completing the exchange that a killed run began", final.name)
        swap(waiting, final, revision=revision)
        return True
    elif work.exists():
        discard(waiting)
    else:
        _give_back(waiting, work, final, revision)
    return False


def _give_back(waiting: Path, work: Path, final: Path, revision: Path) -> None:
    """Let a revision that is not published be a work folder again, and the earlier publication stand."""
    if not waiting.exists() or not is_new(waiting, final):
        return
    if revision.exists() and not final.exists():
        revision.rename(final)
    (waiting / SUCCESS).unlink(missing_ok=True)
    work.parent.mkdir(parents=True, exist_ok=True)
    _rename(waiting, work)


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    flush_folder(target.parent)
    flush_folder(source.parent)


def _require_whole(folder: Path, manifest: Mapping[str, Any]) -> None:
    problems = list(check_files(folder, manifest))
    if problems:
        raise CannotWrite(
            f"cannot publish {folder}: {len(problems)} files are not what was written: {'; '.join(problems[:5])}; "
            "check the disk, then run the same command again"
        )


def _is_whole(folder: Path) -> bool:
    try:
        return not any(check_files(folder, read_manifest(folder)))
    except CyclerError:
        return False


def _identities(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What tells whether a file was touched: inode, size and time of modification."""
    facts = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in facts.items()}
