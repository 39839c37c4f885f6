"""Start of a chain: the ensemble at the first time, before any observation of the experiment.

`perturbed_nature` is the twin experiment's start. With anomalies p_j ~ N(0, scale^2 B), B the climatological
covariance of the forecast model,

    x_i = truth - p_0 + p_i ,   i = 1 ... M

so that the truth is one more draw of the same kind: spread and error agree, and the mean is not the truth.
`ensemble_file` takes a user's own ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.forecast import ForecastModel
from cycler_da.nature import Nature
from cycler_da.noise import Noise
from cycler_da.products.dataset import read_ensemble
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from torch import Tensor

    from cycler_da.control import Control


class Start(Protocol):
    """Makes the first ensemble, in the control variable, with the model's history of frames."""

    def ensemble(
        self,
        time: np.datetime64,
        *,
        members: int,
        model: ForecastModel,
        nature: Nature | None,
        control: Control,
        noise: Noise,
    ) -> Ensemble:
        """Ensemble whose last time is `time`."""
        ...


@register("start", "perturbed_nature")
@dataclass(frozen=True, kw_only=True)
class PerturbedNatureSpec(Spec):
    """Truth plus exchangeable perturbations."""

    scale: float = 0.25  # of the climatological standard deviation

    def build(self) -> PerturbedNatureSpec:
        """The settings are the start itself."""
        return self

    def ensemble(
        self,
        time: np.datetime64,
        *,
        members: int,
        model: ForecastModel,
        nature: Nature | None,
        control: Control,
        noise: Noise,
    ) -> Ensemble:
        """Draw the start; raises ConfigError without a nature run or a climatology."""
        climatology = getattr(model, "climatology", None)
        if nature is None or climatology is None:
            missing = "a nature run" if nature is None else f"a climatology, which {type(model).__name__} lacks"
            raise ConfigError(f"start perturbed_nature: needs {missing}; use start.kind ensemble_file instead")
        times = time - model.layout.step * np.arange(model.history - 1, -1, -1)
        truth = nature.states(times)
        physical = Ensemble(truth[None], times, (0,), control.physical)
        frames = control.to_control(physical).values.to(torch.float64)
        shape = climatology.covariance.noise_shape(control.layout.state_shape)
        z = noise.normal("start", shape, members=range(members + 1), dtype=torch.float64)
        anomalies = self.scale * climatology.covariance.color(z)
        values: Tensor = frames + (anomalies[1:] - anomalies[:1])[:, None]
        return Ensemble(values.to(torch.float32), times, tuple(range(members)), control.layout)


@register("start", "ensemble_file")
@dataclass(frozen=True, kw_only=True)
class EnsembleFileSpec(Spec):
    """A user's own ensemble, valid at the start of the experiment."""

    path: str

    def build(self) -> EnsembleFileSpec:
        """The settings are the start itself."""
        return self

    def ensemble(
        self,
        time: np.datetime64,
        *,
        members: int,
        model: ForecastModel,
        nature: Nature | None,
        control: Control,
        noise: Noise,
    ) -> Ensemble:
        """Read the file; raises DataError for too few members or times, MissingInput when it is absent."""
        stored = read_ensemble(Path(self.path), layout=control.physical)
        if stored.n_members < members or len(stored.valid_times) < model.history:
            raise DataError(
                f"start ensemble {self.path}: {stored.n_members} members at {len(stored.valid_times)} times, the "
                f"experiment needs {members} at {model.history}"
            )
        if stored.valid_time != time:
            raise MissingInput(f"start ensemble {self.path} is valid at {stored.valid_time}Z, expected {time}Z")
        recent = Ensemble(
            stored.values[:members, -model.history :].float(),
            stored.valid_times[-model.history :],
            tuple(range(members)),
            stored.layout,
        )
        return control.to_control(recent)
