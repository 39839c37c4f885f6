"""Executors: where members are forecast.

| kind | where | for |
|---|---|---|
| `serial` | this process | the oracle; small experiments; tests |
| `threads` | threads of this process | several cores, without start-up or copies |
| `local` | worker processes of this machine | several cores |
| `address` | workers of a dask scheduler that is already running | a cluster |
| `cuda` | one worker process for each visible GPU | GPUs |

All of them split the members into batches of the size the config gives, run every batch on one thread and
join the results in order. The split never depends on the number of workers, so the bytes do not either.
"""

from __future__ import annotations

from cycler_da.executor.address import AddressExecutorSpec
from cycler_da.executor.base import Executor, ExecutorFailed, ModelSource, SchedulerLost
from cycler_da.executor.cuda import CudaExecutorSpec
from cycler_da.executor.local import LocalExecutorSpec
from cycler_da.executor.serial import SerialExecutor, SerialExecutorSpec
from cycler_da.executor.threads import ThreadsExecutor, ThreadsExecutorSpec
from cycler_da.executor.workers import WorkersExecutor

__all__ = [
    "AddressExecutorSpec",
    "CudaExecutorSpec",
    "Executor",
    "ExecutorFailed",
    "LocalExecutorSpec",
    "ModelSource",
    "SchedulerLost",
    "SerialExecutor",
    "SerialExecutorSpec",
    "ThreadsExecutor",
    "ThreadsExecutorSpec",
    "WorkersExecutor",
]
