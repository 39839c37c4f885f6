"""The local executor: worker processes of this machine, one thread each, reachable from this machine only."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dask.system import CPU_COUNT
from distributed import Client, LocalCluster

from cycler_da.errors import ConfigError
from cycler_da.executor.base import SchedulerLost
from cycler_da.executor.workers import Connection, WorkersExecutor
from cycler_da.registry import Spec, register

#: A dask scheduler runs what it is sent, so it listens on the loopback interface alone.
LOOPBACK = "127.0.0.1"


@register("executor", "local")
@dataclass(frozen=True, kw_only=True)
class LocalExecutorSpec(Spec):
    """Worker processes on this machine; `workers: 0` means one for each core this process may use.

    `memory_limit` is per worker ("2GB"); a worker beyond it is restarted and its batch redone. "auto" shares the
    memory of the machine between the workers.
    """

    workers: int = 0
    memory_limit: str = "auto"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"executor.workers is {self.workers}; use 0 (one for each core) or more")

    def build(self) -> WorkersExecutor:
        """Make the executor; the processes start with the first forecast."""
        return WorkersExecutor(self._start)

    def _start(self) -> Connection:
        try:
            cluster = LocalCluster(
                n_workers=self.workers or CPU_COUNT,
                threads_per_worker=1,
                processes=True,
                host=LOOPBACK,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},  # any free port: its HTTP server cannot be off
                memory_limit=self.memory_limit,
                silence_logs=logging.CRITICAL,  # a lost worker is reported by the executor, in one line
            )
        except (RuntimeError, TimeoutError, OSError) as error:  # a worker that is killed while it starts, no memory
            raise SchedulerLost(
                f"the worker processes did not start ({type(error).__name__}: {error}); nothing of this stage was "
                "written. Run the same command again; if this repeats, use fewer executor.workers and look for what "
                "kills them"
            ) from error
        return Connection(Client(cluster, set_as_default=False), cluster.scheduler_address, cluster)
