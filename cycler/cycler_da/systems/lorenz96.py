"""Lorenz-96: one variable on a circle of latitude, chaotic with the error growth of weather.

    dX_i/dt = (X_{i+1} - X_{i-2}) X_{i-1} - X_i + F,   i = 1 ... n, cyclic
n = 40, F = 8; fourth-order Runge-Kutta with time step 0.05. One time unit is 5 days, by which the doubling time
of errors is that of the atmosphere (Lorenz's own reading); the default step of 0.05 is 6 hours.
The climatological standard deviation is 3.63 and the mean 2.34 at F = 8.
Source: Lorenz (1996), Predictability: a problem partly solved, ECMWF Seminar, eq. 4.1; Lorenz and Emanuel (1998),
J. Atmos. Sci. 55, eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register
from cycler_da.systems.base import noisy_step
from cycler_da.systems.physics import options_without
from cycler_da.systems.runge_kutta import OrdinaryDynamics, count_time_steps
from cycler_da.times import parse_duration

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Climate at F = 8.
MEAN, STD = 2.34, 3.63
#: Time units after which a state has forgotten its start: errors double in 0.42.
SPIN_UP = 20.0


@register("system", "lorenz96")
@dataclass(frozen=True, kw_only=True)
class Lorenz96Spec(Spec):
    """Settings of the system; the defaults are Lorenz's."""

    size: int = 40
    forcing: float = 8.0
    time_step: float = 0.05  # time units
    unit: str = "5d"  # what one time unit stands for
    step: str = "6h"  # one model step of the layout
    process_noise: float = 0.0  # standard deviation after one time unit

    def __post_init__(self) -> None:
        if self.size < 4:
            raise ConfigError(f"system lorenz96: size is {self.size}; expected at least 4 points")
        if self.process_noise < 0:
            raise ConfigError(f"system lorenz96: process_noise is {self.process_noise}; expected 0 or more")
        count_time_steps(self.step, unit=self.unit, time_step=self.time_step, system="lorenz96")

    def physics(self) -> dict[str, Any]:
        """Options that decide climate and steps; the time step of the solver is none."""
        return options_without(self, "time_step")

    def layout(self) -> Layout:
        """Layout of the state, `(1, size)`, on a periodic axis of index space."""
        variable = Variable("u", "1", "Lorenz-96 X, an atmospheric quantity along a circle of latitude")
        axis = Axis("x", self.size, units="1", periodic=True)
        return Layout("lorenz96", (variable,), Grid((axis,)), parse_duration(self.step))

    def build(self, *, dtype: torch.dtype = torch.float64, device: str = "cpu") -> OrdinaryDynamics:
        """Build the dynamics; arithmetic is in `dtype` on `device`."""
        count, length = count_time_steps(self.step, unit=self.unit, time_step=self.time_step, system="lorenz96")
        return OrdinaryDynamics(
            layout=self.layout(),
            tendency=self.tendency,
            time_step=self.time_step,
            n_time_steps=count,
            noise_std=self.process_noise * length**0.5,
            dtype=dtype,
            device=device,
        )

    def spun_up(
        self, noise: Noise, *, members: Sequence[int], years: float | None = None
    ) -> Float[Tensor, "member 1 x"]:
        """States of the climate, float64: 20 time units from states drawn about the climatological mean.

        Raises ConfigError when years are given: the system has none.
        """
        if years is not None:
            raise ConfigError(f"system lorenz96 has no years: got spin_up_years {years}, leave it out")
        dynamics = self.build()
        z = noise.normal("lorenz96.start", self.layout().state_shape, members=members, dtype=torch.float64)
        state = MEAN + STD * z
        length = dynamics.n_time_steps * self.time_step
        for i_step in range(math.ceil(SPIN_UP / length)):
            state = noisy_step(dynamics, state, noise, members=members, step=i_step)
        return state

    def tendency(self, x: Float[Tensor, "batch 1 x"]) -> Float[Tensor, "batch 1 x"]:
        """Time derivative of the states."""
        return (x.roll(-1, -1) - x.roll(2, -1)) * x.roll(1, -1) - x + self.forcing
