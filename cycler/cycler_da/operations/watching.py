"""Watching from outside: the monitor beside looks that run in other processes, or on another orchestrator.

Two watchers of one experiment would tell every alert twice, so each holds a lock of the kernel on
`EXPERIMENT/.watched`; it is free as soon as its process has ended, however it ended. Limit: one host, as in priority.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from cycler_da.errors import LockedCycle
from cycler_da.operations.monitor import Monitor

FILE_NAME = ".watched"
OFTEN = 60.0  # s between two visits to the store, at most


class Watched(LockedCycle):
    """Another process watches this experiment."""


def watch(monitor: Monitor, *, every: float, stop: Event) -> None:
    """Visit the store until `stop` is set; `every` (s) is how often looks come."""
    while not stop.is_set():
        monitor.follow()
        monitor.refresh()
        stop.wait(min(every, OFTEN))


@contextmanager
def only_watcher(experiment_folder: Path) -> Iterator[None]:
    """Be the only one that watches this experiment; raises Watched with the process that does."""
    experiment_folder.mkdir(parents=True, exist_ok=True)
    with (experiment_folder / FILE_NAME).open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise Watched(
                f"{experiment_folder} is watched already, by process {handle.read().strip() or 'unknown'}: a `cycler "
                "serve` or `cycler watch` of this experiment; end that one first, or let it watch"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
