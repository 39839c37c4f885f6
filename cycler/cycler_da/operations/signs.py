"""Signs of life: a look touches a file when it begins, at every event of its cycles and when it ends.

    EXPERIMENT/logs/look.alive     its time of change is the last sign

So whoever watches the service from another process can tell a look that hangs from one that has nothing to do.
Only that the time has changed counts, never its value: clocks of hosts and file servers differ.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)

_FILE = Path("logs", "look.alive")


def give_sign_of_life(experiment_folder: Path) -> None:
    """Touch the file; a disk that refuses it does not hold up the look."""
    path = experiment_folder / _FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        log.warning("event=sign_not_given error=%s", error)


def signs_of_life(experiment_folder: Path) -> int:
    """A number that changes with every sign; 0 before the first."""
    try:
        return (experiment_folder / _FILE).stat().st_mtime_ns
    except OSError:
        return 0
