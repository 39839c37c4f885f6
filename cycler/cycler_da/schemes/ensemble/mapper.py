"""Mapper: who computes the tiles of an analysis.

A scheme cuts its analysis into jobs that do not depend on who works and on how many there are, and hands them to the
mapper of its prior. `one_by_one` is the answer of a single process; executors bring one that uses their workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Mapper(Protocol):
    """Apply a function to jobs; results come in the order of the jobs.

    The function is a module's own (it is sent by name), pure, and job and result can be pickled.
    """

    def __call__(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield the results."""
        ...


def one_by_one(function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Do the jobs in this process as their results are asked for; one job exists at a time."""
    return (function(job) for job in jobs)
