"""Durable writes: a file is there whole, or not there.

A file is written under a private name in its own folder, flushed to the disk, renamed into place, and the
folder is flushed. A reader that opens the final name sees the old file or the complete one. Errors of
the file system come back as CannotWrite with what an operator can do.

Limits: the promise is that of the file system's rename; POSIX local file systems and NFSv4 keep it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cycler_da.errors import CannotWrite

#: Part of every private name; files that carry it are never products.
PRIVATE_MARK = ".private-"

#: A write is refused up front unless this multiple of the expected bytes is free.
SPACE_FACTOR = 1.5

#: Below this many free bytes an unexplained library error is read as a full disk.
_NEARLY_FULL = 1 << 20

_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full: free space or give another store.root, then run the same command again",
    errno.EDQUOT: "the quota is used up: free space or raise it, then run the same command again",
    errno.EFBIG: "the file would exceed the size limit of this process or file system (see ulimit -f)",
    errno.EROFS: "the file system is read-only: mount it writable or give another store.root",
    errno.EACCES: "permission is missing: check owner and mode of the folder",
    errno.EPERM: "the operation is not permitted: check owner, mode and attributes of the folder",
    errno.EIO: "the device reports an I/O error: check the disk before anything else is written to it",
    errno.ESTALE: "the network file system lost this folder: check the mount",
    errno.ENOTDIR: "a part of this path is a file, not a folder: give another store.root",
    errno.EEXIST: "a file stands where a folder should be: give another store.root",
    errno.EMFILE: "too many files are open in this process: raise ulimit -n",
}


def private_name(path: Path) -> Path:
    """A name in the same folder that no other process uses; its suffix is that of `path`."""
    return path.with_name(f".{path.stem}{PRIVATE_MARK}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


def is_private(path: Path) -> bool:
    """Tell whether a path is an unfinished file left by a killed process."""
    return PRIVATE_MARK in path.name


def explain_refusal(path: Path, error: Exception) -> str:
    """Say why a write was refused and what to do."""
    code = error.errno if isinstance(error, OSError) else None
    free = _free_bytes(path)
    if code not in _WHAT_TO_DO and free is not None and free < _NEARLY_FULL:
        code = errno.ENOSPC
    advice = _WHAT_TO_DO.get(code or 0, "see the cause above; the same command may be run again")
    room = "" if free is None else f", {free} bytes free"
    return f"cannot write {path}: {error}{room}; {advice}"


@contextmanager
def refusals_explained(path: Path, *, within: Path | None = None) -> Iterator[None]:
    """Turn errors of the file system and of the NetCDF library inside the block into CannotWrite.

    With `within`, only errors about files below that folder, or about no named file, are turned.
    """
    try:
        yield
    except OSError as error:
        if within is not None and not _concerns(within, error):
            raise
        raise CannotWrite(explain_refusal(path, error)) from error
    except RuntimeError as error:
        # The NetCDF library reports a failed write as "NetCDF: HDF error" without an error number.
        if "NetCDF" not in str(error) and "HDF" not in str(error):
            raise
        raise CannotWrite(explain_refusal(path, error)) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a private file beside `path`, flush it, and rename it to `path`.

    Raises CannotWrite when the file system refuses; then `path` is as it was and no private file is left.
    """
    path = Path(path)
    private = private_name(path)
    with refusals_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # What fills the file may read others; trouble with those is not a refused write.
        with refusals_explained(path, within=path.parent):
            write(private)
            flush_file(private)
            private.replace(path)
            flush_folder(path.parent)
    finally:
        _remove(private)


def write_json_atomically(path: Path, content: Any) -> None:
    """Write JSON (indented, keys in the order given; NaN and infinity are refused)."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda private: _write_text(private, text))


def flush_file(path: Path) -> None:
    """Force the bytes of a file to the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def flush_folder(path: Path) -> None:
    """Force the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Force a folder, everything below it and its names to the disk."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush_file(Path(here) / name)
        flush_folder(Path(here))


def require_space(path: Path, n_bytes: int, *, n_files: int = 64) -> None:
    """Raise CannotWrite unless the file system of `path` has room for `n_bytes` (1.5 times) and `n_files`.

    `path` need not exist; the nearest existing folder above it is asked.
    """
    place = _nearest_existing(Path(path))
    facts = os.statvfs(place)
    free, wanted = facts.f_bavail * facts.f_frsize, int(SPACE_FACTOR * n_bytes)
    if free < wanted:
        raise CannotWrite(
            f"cannot write below {path}: {free} bytes are free, {wanted} are needed (1.5 times the expected "
            f"{n_bytes}); {_WHAT_TO_DO[errno.ENOSPC]}"
        )
    # File systems without a fixed number of inodes report zero for all of them.
    if facts.f_files and facts.f_favail < n_files:
        raise CannotWrite(
            f"cannot write below {path}: {facts.f_favail} inodes are free, {n_files} are needed; delete small "
            "files that are no longer needed or give another store.root"
        )


def _remove(private: Path) -> None:
    with suppress(OSError):
        # The NetCDF library keeps a file open when closing it failed; emptied, it holds no space.
        os.truncate(private, 0)
        private.unlink()


def _concerns(folder: Path, error: OSError) -> bool:
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return True
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _nearest_existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(_nearest_existing(path)).free
    except OSError:
        return None
