"""Parts of a benchmark side by side, each in a process of its own, as many at once as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from cycler_da.bench.registry import Progress
from cycler_da.tables.report import Row

Found = TypeVar("Found")


def in_processes(
    run: Callable[..., Found], parts: Mapping[str, tuple[Any, ...]], progress: Progress, *, last_first: bool = False
) -> list[Found]:
    """What `run` finds of every part (a label and arguments), in their order; `last_first`: the last takes longest.

    `run` and its arguments go to the processes as pickles. Raises what a part raises.
    """
    found: list[Found] = []
    n_workers = min(len(parts), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:  # a fork would share torch's threads
        order = reversed(list(parts)) if last_first else iter(parts)
        waiting = {label: pool.submit(run, *parts[label]) for label in order}
        for done, label in enumerate(parts):
            progress(done, len(parts), label)
            found.append(waiting[label].result())
    return found


def rows_and_notes(
    run: Callable[..., tuple[list[Row], list[str]]],
    parts: Mapping[str, tuple[Any, ...]],
    progress: Progress,
    *,
    last_first: bool = False,
) -> tuple[list[Row], list[str]]:
    """The same for parts that are rows and notes, all in one."""
    rows, notes = list[Row](), list[str]()
    for of_part, told in in_processes(run, parts, progress, last_first=last_first):
        rows += of_part
        notes += told
    return rows, notes
