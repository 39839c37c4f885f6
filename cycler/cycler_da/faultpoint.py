"""Fault points: named places where a drill may kill the process.

`CYCLER_FAULT=<point>` makes the process send itself SIGKILL when it reaches that point; `<point>:3` on the
third visit. Nothing is flushed and no `finally` runs, as after a power cut of the process. With `=full` at its end
(`<point>:3=full`) there is no space on the disk at that visit, once. Used by the automated fault drills only;
without the variable a visit costs one dictionary look-up.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

VARIABLE = "CYCLER_FAULT"
_visits: Counter[str] = Counter()


def reach(point: str) -> None:
    """Say that `point` was reached; kills this process, or raises OSError (ENOSPC), when a drill asks for it."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    place, _, kind = wanted.partition("=")
    name, _, count = place.partition(":")
    if name != point:
        return
    _visits[point] += 1
    if kind == "full":
        if _visits[point] == int(count or 1):
            raise OSError(errno.ENOSPC, f"No space left on device (fault point {point})")
    elif _visits[point] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
