"""Ways to break one process from within: what the command server does to a process that it has just forked.

Real faults (signals, limits, damaged files) need none of this. These are for what cannot be had to order: an analysis
that blows up, a disk that stalls or reports errors, a figure that fails, a host that is another one.
"""

from __future__ import annotations

import errno
import importlib
import os
import random
import time as clock
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from cycler_da import opened_cycle
from cycler_da.cycle.stages import plot
from cycler_da.products.owner import Owner
from cycler_da.products.store import Store
from cycler_da.schemes.base import Analysis
from cycler_da.schemes.letkf import Letkf

#: Calls through which everything durable goes.
_CALLS = ("fsync", "replace", "rename", "link")


def apply(name: str, options: dict[str, Any]) -> None:
    """Break this process in the way that is named."""
    WAYS[name](**options)


def analysis(way: str, seed: int) -> None:
    """The LETKF returns NaN or infinity at some place, or members that are all the same."""
    analyse, draw = Letkf.analyse, random.Random(seed)

    def broken(self: Letkf, *arguments: Any, **named: Any) -> Analysis:
        found = analyse(self, *arguments, **named)
        values = found.ensemble.values.clone()
        if way == "collapse":
            values[:] = values.mean(dim=0)
        else:
            values[tuple(draw.randrange(n) for n in values.shape)] = float(way)
        return replace(found, ensemble=found.ensemble.with_values(values))

    Letkf.analyse = broken  # type: ignore[method-assign]


def figures() -> None:
    """No map can be drawn."""
    plot.plot_cycle = _no_font  # type: ignore[assignment]


def page() -> None:
    """The page cannot be written."""
    opened_cycle.write_page = _no_font  # type: ignore[assignment]


def disk(way: str, visit: int, seconds: float) -> None:
    """The n-th call that makes something durable stalls (`way` = stall), or reports an error (EIO, ESTALE, ...)."""
    visits: Counter[str] = Counter()

    def through(call: Callable[..., Any]) -> Callable[..., Any]:
        def struck(*arguments: Any, **named: Any) -> Any:
            visits["all"] += 1
            if visits["all"] == visit:
                if way != "stall":
                    raise OSError(getattr(errno, way), os.strerror(getattr(errno, way)))
                clock.sleep(seconds)
            return call(*arguments, **named)

        return struck

    for name in _CALLS:
        setattr(os, name, through(getattr(os, name)))


def elsewhere() -> None:
    """Locks say that this process runs on another host, so that nobody can look whether it lives."""
    mine = Owner.of_this_process
    Owner.of_this_process = staticmethod(lambda: replace(mine(), host="elsewhere"))  # type: ignore[method-assign]


def impatient(milliseconds: int) -> None:
    """The heartbeat of a lock of another host counts as lost after this time."""
    limits = Store.lock.__wrapped__.__kwdefaults__  # type: ignore[attr-defined]
    limits["stale_after"] = np.timedelta64(milliseconds, "ms")


def quick_retries() -> None:
    """What is temporary is tried again at once."""
    importlib.import_module("cycler_da.cycle_plan").PlainShell.__init__.__defaults__ = ((0.1, 0.5),)


def _no_font(*arguments: object) -> NoReturn:
    raise RuntimeError("no font was found")


WAYS: dict[str, Callable[..., None]] = {
    way.__name__: way for way in (analysis, figures, page, disk, elsewhere, impatient, quick_retries)
}
