"""Lorenz-63: three variables of convection, the smallest chaotic test of a filter.

    dX/dt = sigma (Y - X),   dY/dt = X (rho - Z) - Y,   dZ/dt = X Y - beta Z
sigma = 10, rho = 28, beta = 8/3; fourth-order Runge-Kutta with time step 0.01.
Source: Lorenz (1963), J. Atmos. Sci. 20, eqs. 25-27.

X, Y and Z are three variables on an axis of one point, so that each has its own mean and error. They have no
unit and neither has time: `unit` says which duration one time unit stands for (a convention of this project).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.registry import Spec, register
from cycler_da.systems.physics import options_without
from cycler_da.systems.runge_kutta import OrdinaryDynamics, count_time_steps
from cycler_da.times import parse_duration

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

VARIABLES = (
    Variable("convection", "1", "Lorenz-63 X, intensity of convection"),
    Variable("contrast", "1", "Lorenz-63 Y, temperature contrast of rising and sinking fluid"),
    Variable("distortion", "1", "Lorenz-63 Z, departure of the vertical temperature profile from linear"),
)


@register("system", "lorenz63")
@dataclass(frozen=True, kw_only=True)
class Lorenz63Spec(Spec):
    """Settings of the system; the defaults are Lorenz's, with a step of 0.25 time units."""

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8.0 / 3.0
    time_step: float = 0.01  # time units
    unit: str = "100s"  # what one time unit stands for
    step: str = "25s"  # one model step of the layout
    process_noise: float = 0.0  # standard deviation after one time unit

    def __post_init__(self) -> None:
        if self.process_noise < 0:
            raise ConfigError(f"system lorenz63: process_noise is {self.process_noise}; expected 0 or more")
        count_time_steps(self.step, unit=self.unit, time_step=self.time_step, system="lorenz63")

    def physics(self) -> dict[str, Any]:
        """Options that decide climate and steps; the time step of the solver is none."""
        return options_without(self, "time_step")

    def layout(self) -> Layout:
        """Layout of the state, `(3, 1)`."""
        return Layout("lorenz63", VARIABLES, Grid((Axis("x", 1, units="1"),)), parse_duration(self.step))

    def build(self, *, dtype: torch.dtype = torch.float64, device: str = "cpu") -> OrdinaryDynamics:
        """Build the dynamics; arithmetic is in `dtype` on `device`."""
        count, length = count_time_steps(self.step, unit=self.unit, time_step=self.time_step, system="lorenz63")
        return OrdinaryDynamics(
            layout=self.layout(),
            tendency=self.tendency,
            time_step=self.time_step,
            n_time_steps=count,
            noise_std=self.process_noise * length**0.5,
            dtype=dtype,
            device=device,
        )

    def tendency(self, x: Float[Tensor, "batch 3 *space"]) -> Float[Tensor, "batch 3 *space"]:
        """Time derivative of the states."""
        first, second, third = x.unbind(dim=1)
        parts = (
            self.sigma * (second - first),
            first * (self.rho - third) - second,
            first * second - self.beta * third,
        )
        return torch.stack(parts, dim=1)
