"""What every executor receives and answers: the recipe of a model, the interface, the failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from cycler_da.ensemble import Ensemble
from cycler_da.errors import CyclerError, WeightsMismatch
from cycler_da.forecast import ForecastModel
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import Spec
from cycler_da.systems import catalogue as _systems  # noqa: F401  (a recipe may name a system, and a worker knows only this)

Job = TypeVar("Job")
Result = TypeVar("Result")


class ExecutorFailed(CyclerError):
    """The workers cannot do this work at all; the same try again would end the same way."""

    exit_code = 69


class SchedulerLost(ExecutorFailed):
    """The connection to the workers was lost; a later try connects anew and may succeed."""

    exit_code = 75


@dataclass(frozen=True)
class ModelSource:
    """Recipe of a forecast model that travels to a worker instead of the model.

    `spec` is a Spec of the group "forecast" with `build(layout, *, device="cpu")`. `digest` is the digest of the
    model that the experiment was checked with: a worker that would build another one (another weights
    file under the same name, say) refuses.
    """

    spec: Spec
    layout: Layout
    digest: str

    @property
    def key(self) -> str:
        """Equal keys build equal models, whatever the process."""
        return f"{self.digest}|{self.layout.digest}|{self.spec!r}"

    def build(self, *, device: str = "cpu") -> ForecastModel:
        """Build the model on a torch device; raises WeightsMismatch when its digest is another one."""
        build = self.spec.build  # type: ignore[attr-defined]  # every Spec has its own build
        model: ForecastModel = build(self.layout) if device == "cpu" else build(self.layout, device=device)
        if model.digest != self.digest:
            raise WeightsMismatch(
                f"a worker built forecast model {type(self.spec).__name__} with digest {model.digest}, expected "
                f"{self.digest}: give every worker the same weights file and the same version of Cycler"
            )
        return model


@runtime_checkable
class Executor(Protocol):
    """Forecasts members and maps functions; a context manager that gives its workers back at the end."""

    def forecast(
        self, source: ModelSource, start: Ensemble, valid_times: np.ndarray, *, noise: Noise, batch: int
    ) -> Ensemble:
        """Forecast all members of `start` to `valid_times`, `batch` members at a time.

        The result is on the CPU, members in the order of `start`. For one machine and one version of torch its
        bytes depend on the arguments alone, not on the executor or its number of workers. Raises ExecutorFailed
        or SchedulerLost when the workers fail, and whatever the model raises.
        """
        ...

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Apply a function to jobs, each on one thread; yields results in the order of the jobs.

        The function is a module's own and pure, job and result can be pickled: the mapper of a scheme's prior.
        Raises as `forecast` does.
        """
        ...

    def close(self) -> None:
        """Stop the workers this executor started; may be called twice."""
        ...

    def __enter__(self) -> Self:
        """Return the executor; workers start with the first forecast."""
        ...

    def __exit__(self, *details: object) -> None:
        """Close."""
        ...
