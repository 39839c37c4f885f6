"""The executor over a dask scheduler that is already running, given by its address.

The workers must have the same version of Cycler and of torch as this process: another torch rounds
differently. This is checked when the connection is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from distributed import Client

from cycler_da.errors import ConfigError
from cycler_da.executor.base import ExecutorFailed, SchedulerLost
from cycler_da.executor.workers import Connection, WorkersExecutor
from cycler_da.registry import Spec, register

#: Distributions that decide the bytes of a forecast.
SAME_VERSION = ("cycler-da", "torch", "numpy")


@register("executor", "address")
@dataclass(frozen=True, kw_only=True)
class AddressExecutorSpec(Spec):
    """Workers of the scheduler at `address` ("tcp://10.0.0.5:8786"); `device` is a torch device on every worker.

    `timeout` (s) is how long the first contact may take.
    """

    address: str
    device: str = "cpu"
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if "://" not in self.address:
            raise ConfigError(f"executor.address is {self.address!r}; write it with its protocol, tcp://host:8786")

    def build(self) -> WorkersExecutor:
        """Make the executor; the connection is made with the first forecast."""
        return WorkersExecutor(self._connect, device=self.device)

    def _connect(self) -> Connection:
        try:
            client = Client(self.address, timeout=self.timeout, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise SchedulerLost(
                f"no dask scheduler answers at {self.address} within {self.timeout:.0f} s ({error}); start one with "
                "`dask scheduler` and workers with `dask worker ADDRESS --nthreads 1`, or use executor.kind: local"
            ) from error
        try:
            require_same_versions(client.run(versions), self.address)
        except OSError as error:  # a worker, or the scheduler, died while it was asked
            client.close(timeout=10)
            raise SchedulerLost(
                f"lost the dask workers of {self.address} while they were asked for their versions ({error}); nothing "
                "of this stage was written. Run the same command again; if this repeats, look at the scheduler's log"
            ) from error
        except BaseException:
            client.close(timeout=10)
            raise
        return Connection(client, self.address)


def versions() -> dict[str, str]:
    """Versions of what decides the bytes, in the process that is asked."""
    return {name: version(name) for name in SAME_VERSION}


def require_same_versions(found: dict[str, dict[str, str]], address: str) -> None:
    """Raise ExecutorFailed unless there are workers and all of them run this process's versions."""
    if not found:
        raise SchedulerLost(
            f"the dask scheduler at {address} has no workers; start `dask worker {address} --nthreads 1`"
        )
    mine = versions()
    for worker, theirs in sorted(found.items()):
        for name, ours in mine.items():
            if theirs.get(name) != ours:
                raise ExecutorFailed(
                    f"dask worker {worker} has {name} {theirs.get(name)}, this process has {ours}; the same bytes "
                    "cannot be promised. Install the same version on every worker"
                )
