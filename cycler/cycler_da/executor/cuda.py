"""The CUDA executor: one worker process for each GPU, each seeing its own GPU only.

Plain dask nannies with their own CUDA_VISIBLE_DEVICES do all that a forecast needs. Where dask-cuda is
installed its LocalCUDACluster is used instead; it adds CPU affinity for each GPU. Every worker offers one unit
of the resource GPU and every batch takes one, so that two batches never share a GPU.
Limit: bytes are the same for one kind of GPU and one version of torch, not between CPU and GPU.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from distributed import Client, Nanny, Scheduler
from distributed.deploy import SpecCluster

from cycler_da.errors import ConfigError
from cycler_da.executor.local import LOOPBACK
from cycler_da.executor.workers import Connection, WorkersExecutor
from cycler_da.registry import Spec, register

ONE_GPU = {"GPU": 1.0}


@register("executor", "cuda")
@dataclass(frozen=True, kw_only=True)
class CudaExecutorSpec(Spec):
    """One worker for each GPU; `gpus` names them (indices or UUIDs), empty means all that are visible.

    `memory_limit` is the main memory of a worker.
    """

    gpus: tuple[str, ...] = ()
    memory_limit: str = "auto"

    def build(self) -> WorkersExecutor:
        """Make the executor; the processes start with the first forecast. Raises ConfigError without a GPU."""
        gpus = self.gpus or visible_gpus(os.environ)
        if not gpus:
            raise ConfigError(
                f"executor.kind is cuda but torch {torch.__version__} sees no GPU (CUDA_VISIBLE_DEVICES is "
                f"{os.environ.get('CUDA_VISIBLE_DEVICES')!r}); install a CUDA build of torch and check nvidia-smi, "
                "or use executor.kind: local"
            )
        return WorkersExecutor(
            lambda: connect_gpus(gpus, memory_limit=self.memory_limit), device="cuda", resources=ONE_GPU
        )


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Name the GPUs this process may use: CUDA_VISIBLE_DEVICES up to a -1, else all torch counts."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return tuple(str(index) for index in range(torch.cuda.device_count()))
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return tuple(names[: names.index("-1")] if "-1" in names else names)


def gpu_workers(gpus: tuple[str, ...], *, memory_limit: str = "auto") -> dict[str, dict[str, Any]]:
    """Describe one nanny for each GPU, for a SpecCluster; "auto" shares the main memory between them."""
    limit = 1.0 / len(gpus) if memory_limit == "auto" else memory_limit  # dask reads up to 1.0 as a fraction
    return {
        f"gpu-{gpu}": {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "host": LOOPBACK,
                "env": {"CUDA_VISIBLE_DEVICES": gpu},
                "resources": dict(ONE_GPU),
                "memory_limit": limit,
                "dashboard": False,
                "silence_logs": logging.CRITICAL,
            },
        }
        for gpu in gpus
    }


def connect_gpus(gpus: tuple[str, ...], *, memory_limit: str = "auto") -> Connection:
    """Start one worker for each GPU and connect to them."""
    start = _dask_cuda_cluster if importlib.util.find_spec("dask_cuda") else _nanny_cluster
    cluster = start(gpus, memory_limit=memory_limit)
    return Connection(Client(cluster, set_as_default=False), cluster.scheduler_address, cluster)


def _nanny_cluster(gpus: tuple[str, ...], *, memory_limit: str) -> SpecCluster:
    options = {"host": LOOPBACK, "dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    scheduler = {"cls": Scheduler, "options": options}
    return SpecCluster(
        workers=gpu_workers(gpus, memory_limit=memory_limit), scheduler=scheduler, silence_logs=logging.CRITICAL
    )


def _dask_cuda_cluster(gpus: tuple[str, ...], *, memory_limit: str) -> SpecCluster:
    from dask_cuda import LocalCUDACluster

    return LocalCUDACluster(
        CUDA_VISIBLE_DEVICES=list(gpus),
        threads_per_worker=1,
        memory_limit=memory_limit,
        host=LOOPBACK,
        dashboard_address=None,
        resources=dict(ONE_GPU),
        silence_logs=logging.CRITICAL,
    )
