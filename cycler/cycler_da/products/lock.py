"""One writer for each cycle: a chain of lock files whose numbers are fencing tokens.

The folder `locks/<stamp>.lock` holds one small file for each holder there ever was, named by its token:
000001, 000002, ... The holder is the file with the highest number, unless its name ends in `.released`.

    take    read the highest number n; when its holder is gone, create n + 1 exclusively, content and all
            (exactly one of several rivals succeeds), then look again: a higher number means too late
    keep    a thread touches the file every `heartbeat`; its modification time is the heartbeat
    check   `require_held`: the own number is still the highest and not released
    break   is the same as take: a stale number is passed over, never removed and made again

So tokens only grow, two rivals cannot both break one lock, and a holder that slept finds a higher number. A
holder is gone when it released the lock; or, when it ran on this host and boot, its process is dead and its
last heartbeat is older than three of them; or, when it ran elsewhere, its heartbeat is older than
`stale_after`. A process that lives on this host keeps its lock, however long it sleeps. Ages are differences of
two modification times on the same file system, so that clocks of hosts do not matter.

Limit: between a check and the next write a holder can be put to sleep. What is renamed into place is
protected by the rename itself (products/store.py).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import threading
import time as clock
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import LockedCycle, LostLock
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import is_private, private_name, refusals_explained
from cycler_da.products.owner import Owner

log = logging.getLogger(__name__)

HEARTBEAT = np.timedelta64(2, "s")
STALE_AFTER = np.timedelta64(120, "s")

#: A process known to be dead is waited for this many heartbeats.
_DEAD_BEATS = 3

_POLL_SECONDS = 0.1


class CycleLock:
    """The right to write one cycle, held by this process until `release`."""

    def __init__(self, folder: Path, token: int, nonce: str, heartbeat: np.timedelta64) -> None:
        self.folder = folder
        self.token = token
        self._nonce = nonce
        self._path = _token_path(folder, token)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, args=(_seconds(heartbeat),), name=f"lock-{folder.stem}", daemon=True
        )
        self._thread.start()

    def require_held(self) -> None:
        """Raise LostLock when another run has taken the cycle, or this one gave it back."""
        if self._stop.is_set():
            raise LostLock(f"lock {self.folder}: this run released token {self.token}; nothing may be written")
        highest = _highest(self.folder)
        if highest == self.token and _read(self._path).get("nonce") == self._nonce:
            return
        raise LostLock(
            f"lock {self.folder}: this run held token {self.token} and lost it to token {highest}; nothing of it is "
            "published. The other run goes on; if there is none, run the same command again"
        )

    def release(self) -> None:
        """Give the cycle back; safe to call twice, and after the lock was lost."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        try:
            # A rename needs no space: a full disk must not keep the cycle locked.
            self._path.rename(_released(self._path))
        except FileNotFoundError:
            pass  # a later holder has tidied up
        except OSError as error:
            # Whatever ended the run matters more; the lock ends with this process.
            log.warning("lock %s: not released: %s", self.folder, error)

    def _beat(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            try:
                os.utime(self._path)
            except FileNotFoundError:
                return  # a later holder has tidied up; `require_held` will say so
            except OSError as error:
                log.warning("lock %s: heartbeat failed: %s", self.folder, error)


def take_lock(
    folder: Path, *, heartbeat: np.timedelta64 = HEARTBEAT, stale_after: np.timedelta64 = STALE_AFTER
) -> CycleLock:
    """Take the lock of a cycle; `folder` is made when absent.

    Waits, for three heartbeats at most, only for a process that is known to be dead. Raises
    LockedCycle when another run holds the lock, CannotWrite when the folder cannot be written.
    """
    nonce = secrets.token_hex(16)
    with refusals_explained(folder / "token"):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            newest = _highest(folder)
            limits = (_DEAD_BEATS * _seconds(heartbeat), _seconds(stale_after))
            if newest and not _is_free(folder, newest, *limits):
                clock.sleep(_POLL_SECONDS)
                continue
            token = newest + 1
            if not _create(_token_path(folder, token), token, nonce):
                continue  # a rival took this number: look at it afresh
            if _highest(folder) == token and not _released(_token_path(folder, token)).exists():
                break
            # This number is an old one that a younger holder has tidied away: leave no trace of it.
            _token_path(folder, token).unlink(missing_ok=True)
    lock = CycleLock(folder, token, nonce, heartbeat)
    reach("lock.taken")
    _tidy(folder, token)
    return lock


def lock_holder(folder: Path) -> Owner | None:
    """Who holds the lock of a cycle, as far as can be seen; None when it is free."""
    newest = _highest(folder)
    if not newest or _released(_token_path(folder, newest)).exists():
        return None
    return Owner.from_json(_read(_token_path(folder, newest)))


def _is_free(folder: Path, token: int, dead_after: float, stale_after: float) -> bool:
    """Whether a token may be passed over; False asks to look again; raises LockedCycle when it is held."""
    path = _token_path(folder, token)
    if _released(path).exists():
        return True
    age = _age(path)
    if age is None:
        return False
    owner = Owner.from_json(_read(path))
    is_known_dead = owner is not None and owner.is_known_dead()
    is_elsewhere = owner is None or not owner.is_here()
    if is_known_dead and age <= dead_after:
        return False
    if is_known_dead or (is_elsewhere and age > stale_after):
        log.warning("lock %s: last heartbeat of %s was %.0f s ago, taking over", folder, owner or "its holder", age)
        return True
    limit = f" (limit {stale_after:.0f} s)" if is_elsewhere else ""
    raise LockedCycle(
        f"lock {folder}: {owner or 'another run'} holds token {token}, last heartbeat {age:.0f} s ago{limit}; "
        "try again when it has ended"
    )


def _create(path: Path, token: int, nonce: str) -> bool:
    content = {
        "token": token,
        "nonce": nonce,
        **Owner.of_this_process().to_json(),
        "taken": str(np.datetime64("now", "s")) + "Z",
    }
    private = private_name(path)
    try:
        with private.open("x", encoding="utf-8") as handle:
            json.dump(content, handle)
            handle.flush()
            os.fsync(handle.fileno())
        reach("lock.written")
        _link(private, path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        return False  # a winner has tidied up
    finally:
        private.unlink(missing_ok=True)
    return True


def _link(private: Path, path: Path) -> None:
    """Give a whole file its name, only if the name is free (O_EXCL); raises FileExistsError."""
    try:
        path.hardlink_to(private)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here. Killed between the next two lines, the empty file waits for `stale_after`.
        with path.open("x", encoding="utf-8") as handle:
            handle.write(private.read_text(encoding="utf-8"))


def _highest(folder: Path) -> int:
    """Highest token that was ever given; 0 when there is none."""
    try:
        return max((_number(path) for path in folder.iterdir()), default=0)
    except FileNotFoundError:
        return 0


def _tidy(folder: Path, token: int) -> None:
    """Remove the files of earlier holders; the number of this one keeps the count."""
    for path in folder.iterdir():
        if 0 < _number(path) < token or is_private(path):
            path.unlink(missing_ok=True)


def _age(path: Path) -> float | None:
    """Seconds since the last heartbeat, by the clock of the file system; None when the file has gone."""
    probe = path.with_name(f".probe-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """Content of a token file; empty when it is gone or half written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _token_path(folder: Path, token: int) -> Path:
    return folder / f"{token:06d}"


def _released(path: Path) -> Path:
    return path.with_name(f"{path.name}.released")


def _number(path: Path) -> int:
    """Token in the name of a file, 0 for other files."""
    number = path.name.removesuffix(".released")
    return int(number) if number.isdigit() else 0


def _seconds(length: np.timedelta64) -> float:
    return float(length / np.timedelta64(1, "ms")) / 1000.0
