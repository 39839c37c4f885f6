"""Exchange of a published cycle for its revision, in one moment.

    1  the work folder is renamed to revisions/<stamp>.next, its files compared with those verified, `_SUCCESS` written
    2  the lock is checked, and .next and the published folder change places
    3  .next, now the earlier publication, is renamed to revisions/<stamp>.rNNN

Step 2 is one call of the kernel, renameat2(2) with RENAME_EXCHANGE (Linux; ext4, XFS, Btrfs, tmpfs): whoever opens a
file of the cycle, through `latest` or by its name, finds the earlier one or the new one, never none. Where the kernel
or the file system has no such call (NFS, other systems) two renames take its place, and for some microseconds between
them there is no folder. A reader of several files opens the folder once (`opened`, `cd -P`): then all files are of one
publication, since a folder that is renamed stays the same folder.

Killed at any point, `settle` ends what was begun: of two sealed folders the one with the higher fencing token is new.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cycler_da.errors import LostLock
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import flush_folder
from cycler_da.products.manifest import SUCCESS

NEXT = ".next"

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def next_folder(revision: Path) -> Path:
    """Where a revision waits for the exchange, beside the place of the publication that it replaces."""
    return revision.with_name(f"{revision.name.partition('.')[0]}{NEXT}")


def swap(waiting: Path, published: Path, *, revision: Path) -> None:
    """Steps 2 and 3; raises LostLock when another run has ended this exchange already."""
    if not _exchanged(waiting, published):
        if published.exists():
            _rename(published, revision)
        reach("publish.revised")
        _rename(waiting, published)
        return
    for folder in (waiting.parent, published.parent):
        flush_folder(folder)
    reach("publish.revised")
    with suppress(LostLock):  # whoever settles it gives it the same name
        _rename(waiting, revision)


def is_sealed(folder: Path) -> bool:
    """Tell whether a folder was whole at some time, published or about to be."""
    return (folder / SUCCESS).is_file()


def is_new(waiting: Path, published: Path) -> bool:
    """True when a folder that waits has not been published yet; False when it was, and was replaced."""
    return not is_sealed(waiting) or not is_sealed(published) or _token(waiting) > _token(published)


def can_exchange(folder: Path) -> bool:
    """Tell whether folders within a folder, which can be written, change places by one call of the kernel."""
    with tempfile.TemporaryDirectory(dir=folder) as room:
        one, other = Path(room) / "one", Path(room) / "other"
        one.mkdir()
        other.mkdir()
        return _exchanged(one, other)


@contextmanager
def opened(folder: Path) -> Iterator[Path]:
    """Hold a published folder, so that all files below the path given are of one publication (Linux).

    Elsewhere it is the folder behind the link: compare `_SUCCESS` before and after. Raises FileNotFoundError.
    """
    if not sys.platform.startswith("linux"):
        yield folder.resolve(strict=True)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places; False where that is not to be had, or one of them is absent."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform.startswith("linux") else None
    if call is None or not other.exists():
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_SUPPORTED:
        return False
    if number == errno.ENOENT:
        raise _lost(other)
    raise OSError(number, os.strerror(number), str(other))


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError as error:
        raise _lost(target) from error
    for folder in (target.parent, source.parent):
        flush_folder(folder)


def _token(folder: Path) -> int:
    return int(json.loads((folder / SUCCESS).read_text(encoding="utf-8"))["fencing_token"])


def _lost(target: Path) -> LostLock:
    return LostLock(f"cannot publish {target}: another run has taken over its exchange; run the same command again")
