"""The serial executor: batches one after the other in this process; the oracle of all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.executor.base import Job, ModelSource, Result
from cycler_da.executor.batches import forecast_batch, join, on_one_thread, split
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register


@register("executor", "serial")
@dataclass(frozen=True, kw_only=True)
class SerialExecutorSpec(Spec):
    """Forecast in this process, on one thread; `device` is a torch device."""

    device: str = "cpu"

    def build(self) -> SerialExecutor:
        """Make the executor."""
        return SerialExecutor(device=self.device)


class SerialExecutor:
    """Forecasts batch after batch in the calling process."""

    def __init__(self, *, device: str = "cpu") -> None:
        self._device = device

    def forecast(
        self, source: ModelSource, start: Ensemble, valid_times: np.ndarray, *, noise: Noise, batch: int
    ) -> Ensemble:
        """Forecast all members; see `Executor.forecast`."""
        jobs = split(source, start, valid_times, noise=noise, batch=batch, device=self._device)
        with _threads_restored():
            return join([forecast_batch(job) for job in jobs], start, valid_times)

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Do one job after the other; see `Executor.map`."""
        for job in jobs:
            with _threads_restored():
                result = on_one_thread(function, job)
            yield result

    def close(self) -> None:
        """Nothing to give back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@contextmanager
def _threads_restored() -> Iterator[None]:
    """Give the caller its number of torch threads back: a batch sets it to one."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
