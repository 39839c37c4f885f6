"""Speed seen through a sigmoid: one value of all components of a velocity at the position of the observation.

    H(x) = 1 / (1 + exp(-(|v|^2 - threshold) / scale)),   |v|^2 = sum over i v_i^2,   dH/dv_i = 2 v_i H (1 - H) / scale

v_i are the components, interpolated linearly to the position (`points`). H tells whether the flow is fast, not where it
goes: v and -v have the same value, and where the speed is small or large H hardly changes. An observation names one of
the components as its variable; which one is a label, for H reads all of them.
Source: the observations of MASF, arXiv:2604.02889, sigmoid(ux^2 + uy^2 - 3), whose one value stands for two velocities.
Limits: not linear, so there is no transpose. The components must have the same units; threshold and scale have theirs,
squared. Outside the grid H(x) is NaN, as for `points`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.nonlinear import logistic
from cycler_da.obs.points import PointOperator, PointsSpec
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@register("operator", "speed")
@dataclass(frozen=True, kw_only=True)
class SpeedSpec(Spec):
    """Settings of the operator."""

    threshold: float = 3.0  # square of the units of the components
    scale: float = 1.0  # square of the units of the components
    components: tuple[str, ...] = ()  # variables; none: all of the state

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"operator speed: scale is {self.scale}; expected a positive number")
        if len(set(self.components)) < len(self.components):
            raise ConfigError(f"operator speed: components are {', '.join(self.components)}; expected each once")

    def build(self, layout: Layout) -> Speed:
        """Make the operator; raises ConfigError for components that the state has not, or of different units."""
        names = self.components or layout.channels
        unknown = [name for name in names if name not in layout.channels]
        if unknown:
            raise ConfigError(
                f"operator speed: no variable {', '.join(unknown)}; valid components: {', '.join(layout.channels)}"
            )
        channels = tuple(layout.channels.index(name) for name in names)
        units = {layout.variables[channel].units for channel in channels}
        if len(units) > 1:
            raise ConfigError(
                f"operator speed: {', '.join(names)} have the units {', '.join(sorted(units))}; expected one"
            )
        return Speed(PointsSpec().build(layout), channels, self.threshold, self.scale)


@dataclass(frozen=True)
class Speed:
    """H for given components."""

    inner: PointOperator
    channels: tuple[int, ...]
    threshold: float
    scale: float
    name: str = "speed"
    is_linear: bool = False
    is_differentiable: bool = True

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents; NaN where the operator does not cover the position."""
        square = x.new_zeros(())
        for channel in self.channels:
            there = replace(where, channel=torch.full_like(where.channel, channel))
            square = square + self.inner(x, there, layout).square()
        return logistic((square - self.threshold) / self.scale)

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel *space"]:
        """Refused: raises ConfigError."""
        raise ConfigError("operator speed is not linear and has no transpose; use points or another scheme")

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True where H(x) is defined."""
        return self.inner.covers(where, layout)
