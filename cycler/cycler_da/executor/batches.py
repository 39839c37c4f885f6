"""One batch of members: the split, and the work itself.

Why the batch is a setting and never follows from the number of workers: convolution and matrix kernels are
chosen by the size of the batch, and another kernel rounds differently (a batch of 1 instead of 2 or more moves
values by 5e-7). With a fixed split, one thread and keyed noise, a batch is the same bytes in any process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.executor.base import ExecutorFailed, Job, ModelSource, Result
from cycler_da.forecast import ForecastModel
from cycler_da.noise import Noise

#: Models that a process keeps, keyed by recipe and device: an experiment has one or two.
MODELS_KEPT = 4
_models: dict[tuple[str, str], ForecastModel] = {}
_building = threading.Lock()


@dataclass(frozen=True)
class BatchJob:
    """All that a worker must know to forecast one batch; arrays are numpy."""

    source: ModelSource
    states: np.ndarray  # (member, time, channel, *space)
    start_times: np.ndarray
    members: tuple[int, ...]
    valid_times: np.ndarray
    noise: Noise
    device: str


def split(
    source: ModelSource, start: Ensemble, valid_times: np.ndarray, *, noise: Noise, batch: int, device: str
) -> list[BatchJob]:
    """Cut the members into batches of `batch`, the last one possibly smaller; raises ConfigError for batch < 1."""
    if batch < 1:
        raise ConfigError(f"forecast batch is {batch}; it must be at least 1 member")
    states = start.values.detach().cpu().numpy()
    cuts = [slice(i, i + batch) for i in range(0, start.n_members, batch)]
    return [
        BatchJob(source, states[cut], start.valid_times, start.members[cut], valid_times, noise, device) for cut in cuts
    ]


def forecast_batch(job: BatchJob) -> np.ndarray:
    """Forecast one batch on one thread; returns `(member, time, channel, *space)`."""
    torch.set_num_threads(1)  # sums are ordered by the number of threads
    try:
        model = _model(job.source, job.device)
        # clone: torch's own aligned memory, so that kernels take the same path in every process
        states = torch.from_numpy(np.ascontiguousarray(job.states)).clone().to(job.device)
        start = Ensemble(states, job.start_times, job.members, job.source.layout)
        with torch.no_grad():
            forecast = model.forecast(start, job.valid_times, noise=job.noise)
    except torch.OutOfMemoryError as error:
        raise ExecutorFailed(
            f"forecast of {len(job.members)} members at once does not fit into the memory of {job.device}: "
            "set a smaller forecast batch in the config"
        ) from error
    return forecast.values.cpu().numpy()


def on_one_thread(function: Callable[[Job], Result], job: Job) -> Result:
    """Apply a function to a job on one thread: sums are ordered by the number of threads."""
    torch.set_num_threads(1)
    return function(job)


def join(results: list[np.ndarray], start: Ensemble, valid_times: np.ndarray) -> Ensemble:
    """Put the batches together again, in the order of `split`."""
    values = torch.from_numpy(np.concatenate(results, axis=0))
    return Ensemble(values, valid_times, start.members, start.layout)


def _model(source: ModelSource, device: str) -> ForecastModel:
    key = (source.key, device)
    with _building:
        if key not in _models:
            if device.startswith("cuda") and not torch.cuda.is_available():
                raise ConfigError(
                    f"executor: a worker was asked to forecast on {device} but torch {torch.__version__} sees no GPU "
                    "there; use executor.kind: local, or install a CUDA build of torch and check nvidia-smi"
                )
            while len(_models) >= MODELS_KEPT:
                _models.pop(next(iter(_models)))
            _models[key] = source.build(device=device)
        return _models[key]
