"""Forecast by a numerical system: in twin experiments the true model, the best any learned one can be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast.base import model_steps
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register, spec_of_block
from cycler_da.systems.base import Dynamics, noisy_step

#: What to do where the model steps other states than the experiment's.
_SAME_STATES = (
    "A forecast model steps the states of the experiment: give forecast.system, system, nature.system and start.system "
    "the same size and step. Weights serve the size and step of their training alone"
)


@register("forecast", "numerical")
@dataclass(frozen=True, kw_only=True)
class NumericalSpec(Spec):
    """A numerical model; `system` is a block of the group "system" with its own `kind`."""

    system: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "kind" in self.system:  # a mistake in the block is found when the config is read
            spec_of_block("system", self.system, where="forecast.system")

    def build(self, layout: Layout, *, device: str = "cpu") -> NumericalForecast:
        """Build the solver; raises LayoutMismatch when it is not one of the experiment's states."""
        spec = spec_of_block("system", {"kind": layout.system, **self.system}, where="forecast.system")
        if not hasattr(spec, "build"):
            raise ConfigError(f"system {layout.system!r} has no numerical model to forecast with")
        dynamics = spec.build(device=device)
        layout.require_same(dynamics.layout, what="forecast.system", advice=_SAME_STATES)
        return NumericalForecast(layout, dynamics, hashlib.sha256(repr(spec).encode()).hexdigest()[:16])


@dataclass(frozen=True)
class NumericalForecast:
    """The dynamics of every member, with the system's process noise where it has one."""

    layout: Layout
    dynamics: Dynamics
    digest: str
    history: int = 1

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        """Forecast every member to `valid_times`; noise is drawn for a system with process noise alone."""
        counts = model_steps(start.valid_time, valid_times, self.layout.step)
        state, kept = start.latest, []
        for step in range(1, counts[-1] + 1):
            state = noisy_step(self.dynamics, state, noise, members=start.members, step=step)
            if step in counts:
                kept.append(state)
        return Ensemble(torch.stack(kept, dim=1), np.asarray(valid_times), start.members, start.layout)
