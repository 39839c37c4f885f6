"""Double well: one variable that rests in one of two wells and is kicked over the barrier between them by noise.

    dX = 4 (X - X^3) dt + sigma dW,        V(X) = X^4 - 2 X^2,   wells at -1 and 1, barrier of height 1 at 0

Without noise the flow is known: F_t(x) = x e^{4t} / sqrt(1 + x^2 (e^{8t} - 1)). With noise a step of length h is
F_{h/2}, then sigma sqrt(h) z, then F_{h/2} (Strang splitting): second order in law, so that the stationary density
exp(-2 V / sigma^2) is kept to O(h^2). `step` is F_h and `perturb` goes half a step back, kicks and returns.
The mean time before a crossing grows as exp(2 / sigma^2) (Kramers 1940, Physica 7, 284): 75 time units from -1 to 1 at
the default sigma of 0.7, and 1e21 at 0.2.

One time unit stands for `unit` (a convention of this project). Source: Miller, Ghil and Gauthiez (1994), J. Atmos.
Sci. 51, 1037, where it is a test of filters; the form above is that of Chen et al. (2025), arXiv:2501.16642.
Known limit: `perturb` wants a state that `step` gave (|x| < (1 - e^{-4h})^{-1/2}); beyond, no half step back exists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.registry import Spec, register
from cycler_da.times import parse_duration

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@register("system", "double_well")
@dataclass(frozen=True, kw_only=True)
class DoubleWellSpec(Spec):
    """Settings of the system; the defaults step by 0.02 time units."""

    process_noise: float = 0.7  # sigma, standard deviation after one time unit without drift
    unit: str = "1000s"  # what one time unit stands for
    step: str = "20s"  # one model step of the layout

    def __post_init__(self) -> None:
        if self.process_noise < 0:
            raise ConfigError(f"system double_well: process_noise is {self.process_noise}; expected 0 or more")
        parse_duration(self.unit)
        parse_duration(self.step)

    def layout(self) -> Layout:
        """Layout of the state, `(1, 1)`."""
        variable = Variable("position", "1", "position of a particle in a double well")
        return Layout("double_well", (variable,), Grid((Axis("x", 1, units="1"),)), parse_duration(self.step))

    def build(self, *, dtype: torch.dtype = torch.float64, device: str = "cpu") -> DoubleWell:
        """Build the dynamics; dtype and device follow the states."""
        length = parse_duration(self.step) / parse_duration(self.unit)
        return DoubleWell(self.layout(), float(length), self.process_noise * math.sqrt(length))


@dataclass(frozen=True)
class DoubleWell:
    """The dynamics; states are `(batch, 1, x)`."""

    layout: Layout
    length: float  # of one layout step, time units
    noise_std: float  # of one layout step

    def step(self, x: Float[Tensor, "batch 1 x"]) -> Float[Tensor, "batch 1 x"]:
        """Advance by one step of the layout without noise, exactly."""
        return flow(x, self.length)

    def perturb(self, x: Float[Tensor, "batch 1 x"], z: Float[Tensor, "batch 1 x"]) -> Float[Tensor, "batch 1 x"]:
        """Put the noise of one layout step, given standard normal z, into the middle of the step that led to x."""
        middle = flow(x, -0.5 * self.length)
        return flow(middle + self.noise_std * z.to(x), 0.5 * self.length)


def flow(x: Float[Tensor, "*shape"], length: float) -> Float[Tensor, "*shape"]:
    """Where dX/dt = 4 (X - X^3) leads in `length` time units; backwards when it is negative."""
    return x * math.exp(4.0 * length) / torch.sqrt(1.0 + x.square() * math.expm1(8.0 * length))
