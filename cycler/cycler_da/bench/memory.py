"""Memory of this process on Linux, MiB; NaN elsewhere.

What `getrusage` says will not do: its peak begins with that of the process that started this one.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable
from pathlib import Path

_SELF = Path("/proc/self")


def peak() -> float:
    """The largest resident set so far, or since `added_at_peak` began anew."""
    return _megabytes("VmHWM")


def added_at_peak(work: Callable[[], object]) -> float:
    """Run `work` and return the growth of the resident set to its peak, freed memory given back before."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (_SELF / "clear_refs").write_text("5")
        before = _megabytes("VmRSS")
    except OSError:
        before = math.nan
    work()
    return peak() - before


def _megabytes(name: str) -> float:
    try:
        status = (_SELF / "status").read_text()
    except OSError:
        return math.nan
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return math.nan if found is None else float(found.group(1)) / 1024.0
