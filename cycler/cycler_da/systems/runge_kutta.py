"""Small systems of ordinary differential equations, stepped by the classical fourth-order Runge-Kutta scheme.

    k1 = f(x), k2 = f(x + h k1 / 2), k3 = f(x + h k2 / 2), k4 = f(x + h k3)
    x(t + h) = x + h (k1 + 2 k2 + 2 k3 + k4) / 6,   error after a fixed time O(h^4)
Process noise, where asked for, is added once for each step of the layout: x + sigma sqrt(T) z, with T the length
of the step in time units of the system and z standard normal.
Source: Kutta (1901), Z. Math. Phys. 46; Hairer, Norsett and Wanner (1993), Solving ODEs I, table 1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.times import parse_duration

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Tendency = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class OrdinaryDynamics:
    """A batched system dx/dt = f(x); every state of the batch is stepped alike.

    `noise_std` is the standard deviation of the process noise of one layout step, 0 for none.
    """

    layout: Layout
    tendency: Tendency  # states to states, in units of state per time unit of the system
    time_step: float  # time units of the system
    n_time_steps: int  # in one layout step
    noise_std: float = 0.0
    dtype: torch.dtype = torch.float64
    device: str = "cpu"

    def step(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Advance all states by one `layout.step`, without process noise; the dtype of x stays."""
        state = x.to(self.device, self.dtype)
        for _ in range(self.n_time_steps):
            state = runge_kutta_step(self.tendency, state, self.time_step)
        return state.to(x.dtype)

    def perturb(
        self, x: Float[Tensor, "batch channel *space"], z: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """Add the process noise of one layout step, given standard normal z."""
        return x + self.noise_std * z.to(x)


def runge_kutta_step(tendency: Tendency, x: Tensor, time_step: float) -> Tensor:
    """Advance x by one fourth-order step."""
    k1 = tendency(x)
    k2 = tendency(x + time_step / 2 * k1)
    k3 = tendency(x + time_step / 2 * k2)
    k4 = tendency(x + time_step * k3)
    return x + time_step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def count_time_steps(step: str, *, unit: str, time_step: float, system: str) -> tuple[int, float]:
    """Number of time steps in a layout step, and the layout step in time units of the system.

    `unit` is the duration that one time unit stands for. Raises ConfigError unless whole steps fit.
    """
    length = parse_duration(step) / parse_duration(unit)
    count = float(np.round(length / time_step)) if time_step > 0 else 0.0
    if count < 1 or abs(length / time_step - count) > 1e-9 * count:
        raise ConfigError(
            f"system {system}: step {step} is {length:g} time units (one is {unit}), got time_step {time_step}; "
            "expected a positive time step that divides it"
        )
    return int(count), length
