"""The threads executor: batches and tiles on threads of this process, each on one core.

torch lets go of Python's lock inside its kernels, so threads keep several cores busy without start-up, copies or a
scheduler; what is left to Python runs on one core at a time. There is no other process that could be killed instead of
this one: where members need much memory, `local` is the safer choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from dask.system import CPU_COUNT

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.executor.base import Job, ModelSource, Result
from cycler_da.executor.batches import forecast_batch, join, on_one_thread, split
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register


@register("executor", "threads")
@dataclass(frozen=True, kw_only=True)
class ThreadsExecutorSpec(Spec):
    """Threads of this process; `workers: 0` means one for each core this process may use."""

    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"executor.workers is {self.workers}; use 0 (one for each core) or more")

    def build(self) -> ThreadsExecutor:
        """Make the executor; threads start with the first job."""
        return ThreadsExecutor(self.workers or CPU_COUNT)


class ThreadsExecutor:
    """Forecasts and maps on threads of the calling process."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cycler-worker")

    def forecast(
        self, source: ModelSource, start: Ensemble, valid_times: np.ndarray, *, noise: Noise, batch: int
    ) -> Ensemble:
        """Forecast all members; see `Executor.forecast`."""
        jobs = split(source, start, valid_times, noise=noise, batch=batch, device="cpu")
        return join(list(self._in_order(forecast_batch, jobs)), start, valid_times)

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Do the jobs on the threads; see `Executor.map`. One job more than there are threads exists at a time."""
        return self._in_order(partial(on_one_thread, function), jobs)

    def close(self) -> None:
        """Let the threads end; what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _in_order(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        is_inference = torch.is_inference_mode_enabled()  # a thread begins without it
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(self._pool.submit(_in_mode, is_inference, function, job))
                if len(waiting) > self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _in_mode(is_inference: bool, function: Callable[[Job], Result], job: Job) -> Result:
    with torch.inference_mode(is_inference):
        return function(job)
