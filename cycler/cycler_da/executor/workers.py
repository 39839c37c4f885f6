"""The executor over dask workers; which workers is told by a function that connects to them.

Why no scatter: data that lives on one worker is lost with it. The states of a batch travel inside its task, so
that the scheduler can hand the whole task to another worker when the first one is killed. dask does so by
itself, up to `distributed.scheduler.allowed-failures` times (3), then it gives the batch up (KilledWorker).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import dask
import numpy as np
from distributed import Client, wait
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from cycler_da.ensemble import Ensemble
from cycler_da.executor.base import ExecutorFailed, Job, ModelSource, Result, SchedulerLost
from cycler_da.executor.batches import forecast_batch, join, on_one_thread, split
from cycler_da.noise import Noise

if TYPE_CHECKING:
    from distributed.deploy.cluster import Cluster

log = logging.getLogger(__name__)

#: How often the executor looks whether there still are workers, and how long it bears to see none (s).
LOOK_EVERY = 10.0
WITHOUT_WORKERS = 120.0


@dataclass(frozen=True)
class Connection:
    """A client and, when this process started the workers itself, their cluster."""

    client: Client
    address: str
    cluster: Cluster | None = None

    def workers(self) -> set[str]:
        """Addresses of the workers that are alive now."""
        return set(self.client.scheduler_info()["workers"])

    def close(self) -> None:
        """Close the client and stop the workers that were started with it."""
        self.client.close(timeout=10)
        if self.cluster is not None:
            self.cluster.close(timeout=10)


class WorkersExecutor:
    """Forecasts batches and maps functions on dask workers; connects with the first work.

    `connect` starts or finds the workers. `resources` are what a batch takes of its worker ({"GPU": 1}).
    """

    def __init__(
        self, connect: Callable[[], Connection], *, device: str = "cpu", resources: dict[str, float] | None = None
    ) -> None:
        self._connect = connect
        self._device = device
        self._resources = resources
        self._connection: Connection | None = None
        self._silence = ExitStack()

    def forecast(
        self, source: ModelSource, start: Ensemble, valid_times: np.ndarray, *, noise: Noise, batch: int
    ) -> Ensemble:
        """Forecast all members; see `Executor.forecast`."""
        jobs = split(source, start, valid_times, noise=noise, batch=batch, device=self._device)
        results = self._results(forecast_batch, jobs, what=f"forecast: batch of {batch} members")
        return join(results, start, valid_times)

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Do the jobs on the workers; see `Executor.map`."""
        yield from self._results(partial(on_one_thread, function), list(jobs), what="analysis")

    def close(self) -> None:
        """Stop the workers this executor started; may be called twice."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            self._silence.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._silence.enter_context(_dask_silenced())
            try:
                self._connection = self._connect()
            except BaseException:
                self._silence.close()
                raise
        return self._connection

    def _results(self, function: Callable[[Job], Result], jobs: list[Job], *, what: str) -> list[Result]:
        """Results of all jobs in order; `what` names a job where one fails."""
        connection = self._connected()
        try:
            return self._run(connection, function, jobs)
        except KilledWorker as error:
            raise ExecutorFailed(_killed_text(error, what)) from error
        except (CommClosedError, CancelledError, TimeoutError) as error:
            self.close()  # the next try connects anew
            raise SchedulerLost(
                f"lost the dask workers of {connection.address} ({what}; {type(error).__name__}: {error}); "
                "nothing of this stage was written. Run the same command again; if this repeats, look at the "
                "scheduler's log"
            ) from error

    def _run(self, connection: Connection, function: Callable[[Job], Result], jobs: list[Job]) -> list[Result]:
        before = connection.workers()
        call = uuid.uuid4().hex  # a key is never met again, so that no result is taken for another one
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            futures = [
                connection.client.submit(function, job, key=f"job-{call}-{i}", resources=self._resources)
                for i, job in enumerate(jobs)
            ]
        try:
            _wait_while_there_are_workers(connection, futures)
            results: list[Result] = connection.client.gather(futures)
        finally:
            connection.client.cancel(futures, reason="the work has ended")
        lost = before - connection.workers()
        if lost:
            log.warning("event=workers_lost count=%d redone=yes workers=%s", len(lost), ",".join(sorted(lost)))
        return results


@contextmanager
def _dask_silenced() -> Iterator[None]:
    """Keep dask's account of its connections off the log; what matters of it is said in one line or raised.

    dask's own `silence_logs` changes handlers that another logging configuration may have replaced.
    """
    names = ("distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed.")))
    levels = {name: logging.getLogger(name).level for name in names}  # dask gives its client a level of its own
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _wait_while_there_are_workers(connection: Connection, futures: list) -> None:
    """Wait for all futures; raises TimeoutError when there has been no worker for too long."""
    alone = 0.0
    while True:
        try:
            with connection.client.as_current():  # dask asks for the client of the process, which is none of ours
                wait(futures, timeout=LOOK_EVERY)
            return
        except TimeoutError:
            alone = 0.0 if connection.workers() else alone + LOOK_EVERY
            if alone >= WITHOUT_WORKERS:
                raise TimeoutError(f"no worker for {alone:.0f} s") from None


def _killed_text(error: KilledWorker, what: str) -> str:
    return (
        f"{what}: {error.allowed_failures + 1} workers died over the same job, most likely "
        "killed for memory (dmesg or the journal names the process). Use fewer workers, in a forecast also a "
        "smaller forecast batch, or give the job more memory"
    )
