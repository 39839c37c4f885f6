"""Start of a chain: the ensemble at the first time, before any observation of the experiment.

`perturbed_nature` is the twin experiment's start. With anomalies p_j ~ N(0, scale^2 B), B the climatological
covariance of the forecast model,

    x_i = truth - p_0 + p_i ,   i = 1 ... M

so that the truth is one more draw of the same kind: spread and error agree, and the mean is not the truth.
`lagged_nature` is for real data, whose climatology is no error: a forecast from frames of the nature run that
end some steps before the start. `climate` knows nothing of the truth: independent states of the system's climate.
`ensemble_file` takes a user's own ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.forecast import ForecastModel
from cycler_da.generative.climatology import StateClimatology
from cycler_da.nature import Nature
from cycler_da.noise import Noise
from cycler_da.products.dataset import read_ensemble
from cycler_da.registry import Spec, register
from cycler_da.systems.base import noisy_step
from cycler_da.systems.climate import climate_system
from cycler_da.times import time_stamp
from cycler_da.trial_read import require_harmless

if TYPE_CHECKING:
    from torch import Tensor

    from cycler_da.control import Control


@dataclass(frozen=True)
class StartRequest:
    """What the first ensemble of a chain must be, and what it may be made from."""

    time: np.datetime64  # of its last frame
    members: int
    history: int  # frames that the chain's forecast model reads
    control: Control
    noise: Noise
    nature: Nature | None = None
    climatology: StateClimatology | None = None  # of the experiment's learned model, control variable
    model: ForecastModel | None = None  # of the chain

    @property
    def times(self) -> np.ndarray:
        """Valid times of the frames, one model step apart."""
        return self.time - self.control.layout.step * np.arange(self.history - 1, -1, -1)


class Start(Protocol):
    """Makes the first ensemble, in the control variable, with the model's history of frames."""

    def ensemble(self, wanted: StartRequest) -> Ensemble:
        """Ensemble whose last time is the wanted one."""
        ...


@register("start", "perturbed_nature")
@dataclass(frozen=True, kw_only=True)
class PerturbedNatureSpec(Spec):
    """Truth plus exchangeable perturbations."""

    scale: float = 0.25  # of the climatological standard deviation

    def build(self) -> PerturbedNatureSpec:
        """The settings are the start itself."""
        return self

    def ensemble(self, wanted: StartRequest) -> Ensemble:
        """Draw the start; raises ConfigError without a nature run or a climatology."""
        nature, climatology, control = wanted.nature, wanted.climatology, wanted.control
        if nature is None or climatology is None:
            missing = "a nature run" if nature is None else "a learned forecast model with a climatology in some chain"
            raise ConfigError(f"start perturbed_nature: needs {missing}; use start.kind ensemble_file instead")
        times = wanted.times
        truth = nature.states(times)
        physical = Ensemble(truth[None], times, (0,), control.physical)
        frames = control.to_control(physical).values.to(torch.float64)
        shape = climatology.covariance.noise_shape(control.layout.state_shape)
        z = wanted.noise.normal("start", shape, members=range(wanted.members + 1), dtype=torch.float64)
        anomalies = self.scale * climatology.covariance.color(z)
        values: Tensor = frames + (anomalies[1:] - anomalies[:1])[:, None]
        return Ensemble(values.to(torch.float32), times, tuple(range(wanted.members)), control.layout)


@register("start", "lagged_nature")
@dataclass(frozen=True, kw_only=True)
class LaggedNatureSpec(Spec):
    """Forecast from known frames: every member starts from nature `steps` before and has its own model error.

    With `steps` equal to the model's history no frame of the start is a true one. Cells that nature does not
    know count as zero there.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"start lagged_nature: steps is {self.steps}, expected 1 or more")

    def build(self) -> LaggedNatureSpec:
        """The settings are the start itself."""
        return self

    def ensemble(self, wanted: StartRequest) -> Ensemble:
        """Forecast the start; raises ConfigError without nature and model, MissingInput for a frame too early."""
        nature, model, control = wanted.nature, wanted.model, wanted.control
        if nature is None or model is None:
            raise ConfigError("start lagged_nature: needs a nature run; use start.kind ensemble_file instead")
        step, members = control.layout.step, tuple(range(wanted.members))
        known = wanted.time - step * np.arange(self.steps + wanted.history - 1, self.steps - 1, -1)
        frames = control.to_control(
            Ensemble(nature.states(known).nan_to_num(nan=0.0)[None], known, (0,), control.physical)
        )
        start = Ensemble(frames.values.expand(len(members), *frames.values.shape[1:]), known, members, control.layout)
        ahead = wanted.time - step * np.arange(self.steps - 1, -1, -1)
        both = append_times(start, model.forecast(start, ahead, noise=wanted.noise))
        return Ensemble(both.values[:, -wanted.history :], wanted.times, members, control.layout)


@register("start", "climate")
@dataclass(frozen=True, kw_only=True)
class ClimateSpec(Spec):
    """Independent states of the climate of a numerical system; the nature run has other noise, whatever its seed."""

    system: Mapping[str, Any]  # kind and options

    def __post_init__(self) -> None:
        climate_system(self.system, where="start.system")

    def build(self) -> ClimateSpec:
        """The settings are the start itself."""
        return self

    def ensemble(self, wanted: StartRequest) -> Ensemble:
        """Spin up every member; raises LayoutMismatch for a system with other states than the experiment's."""
        system, members = climate_system(self.system, where="start.system"), tuple(range(wanted.members))
        wanted.control.physical.require_same(
            system.layout(), what="start climate", advice="Give start.system and system the same size and step"
        )
        dynamics, frames = system.build(), [system.spun_up(wanted.noise, members=members)]
        for step in range(1, wanted.history):
            frames.append(noisy_step(dynamics, frames[-1], wanted.noise, members=members, step=step))
        values = torch.stack(frames, dim=1).to(torch.float32)
        return wanted.control.to_control(Ensemble(values, wanted.times, members, system.layout()))


@register("start", "ensemble_file")
@dataclass(frozen=True, kw_only=True)
class EnsembleFileSpec(Spec):
    """A user's own ensemble, valid at the start of the experiment.

    `{stamp}` in the path stands for that time (20200101T0000Z), so that a cold start later finds its own file.
    """

    path: str

    def build(self) -> EnsembleFileSpec:
        """The settings are the start itself."""
        return self

    def ensemble(self, wanted: StartRequest) -> Ensemble:
        """Read the file; raises DataError for too few members or times, MissingInput when it is absent."""
        path = self.path.replace("{stamp}", time_stamp(wanted.time))
        require_harmless(Path(path), what="start ensemble")
        stored = read_ensemble(Path(path), layout=wanted.control.physical)
        if stored.n_members < wanted.members or len(stored.valid_times) < wanted.history:
            raise DataError(
                f"start ensemble {path}: {stored.n_members} members at {len(stored.valid_times)} times, the "
                f"experiment needs {wanted.members} at {wanted.history}"
            )
        if stored.valid_time != wanted.time:
            raise MissingInput(f"start ensemble {path} is valid at {stored.valid_time}Z, expected {wanted.time}Z")
        recent = Ensemble(
            stored.values[: wanted.members, -wanted.history :].float(),
            stored.valid_times[-wanted.history :],
            tuple(range(wanted.members)),
            stored.layout,
        )
        return wanted.control.to_control(recent)
