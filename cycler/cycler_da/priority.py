"""Priority: a backfill gives way to the service of the same experiment.

The service holds an exclusive lock of the kernel on one file while it runs cycles; a backfill looks before every
stage whether it is held, and waits until it is not. The kernel frees the lock when a process dies, however it dies.
So a real-time cycle is held up by one stage of a backfill at most.

Limit: one host. On network file systems the lock may not be seen elsewhere; then nobody waits, nothing breaks.
"""

from __future__ import annotations

import fcntl
import logging
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

FILE_NAME = ".realtime"
_POLL_SECONDS = 0.2


@contextmanager
def first_priority(experiment_folder: Path) -> Iterator[None]:
    """Let backfills of this experiment wait meanwhile."""
    experiment_folder.mkdir(parents=True, exist_ok=True)
    with (experiment_folder / FILE_NAME).open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def give_way(experiment_folder: Path, *, sleep: Callable[[float], None] = clock.sleep) -> int:
    """Wait until no service runs cycles of this experiment; returns how often it looked in vain."""
    waited = 0
    while _is_busy(experiment_folder / FILE_NAME):
        if waited == 0:
            log.info("event=giving_way experiment=%s", experiment_folder.name)
        waited += 1
        sleep(_POLL_SECONDS)
    return waited


def _is_busy(path: Path) -> bool:
    try:
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
