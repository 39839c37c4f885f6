"""Nonlinear point operators: the value at the position of the observation, seen through a curve.

    arctan    H(x) = atan(v / scale)         saturates: far values are hardly told apart
    cubic     H(x) = (v / scale)^3           flat at 0: small values are hardly told apart

v is the observed variable interpolated linearly to the position (`points`); `scale` has its units, H(x) has none.
Used for Lorenz-63 and the double well in Chen et al. (2025), arXiv:2501.16642; there with `scale` 8 and 1.

Limits: not linear, so there is no transpose; schemes that need one are refused with it. Gradients are those of
automatic differentiation. Outside the grid H(x) is NaN, as for `points`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.points import PointOperator, PointsSpec
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class CurveOperator:
    """A linear point operator followed by a curve."""

    name: str
    inner: PointOperator
    curve: Callable[[Tensor], Tensor]
    scale: float
    is_linear: bool = False

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents; NaN where the operator does not cover the position."""
        return self.curve(self.inner(x, where, layout) / self.scale)

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel *space"]:
        """Refused: raises ConfigError."""
        raise ConfigError(f"operator {self.name} is not linear and has no transpose; use points or another scheme")

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True where H(x) is defined."""
        return self.inner.covers(where, layout)


@register("operator", "arctan")
@dataclass(frozen=True, kw_only=True)
class ArctanSpec(Spec):
    """Settings of the arctangent."""

    scale: float = 1.0  # units of the observed variable

    def __post_init__(self) -> None:
        _require_positive(self.scale, "arctan")

    def build(self, layout: Layout) -> CurveOperator:
        """Make the operator; it suits every grid."""
        return CurveOperator("arctan", PointsSpec().build(layout), torch.atan, self.scale)


@register("operator", "cubic")
@dataclass(frozen=True, kw_only=True)
class CubicSpec(Spec):
    """Settings of the cube."""

    scale: float = 1.0  # units of the observed variable

    def __post_init__(self) -> None:
        _require_positive(self.scale, "cubic")

    def build(self, layout: Layout) -> CurveOperator:
        """Make the operator; it suits every grid."""
        return CurveOperator("cubic", PointsSpec().build(layout), _cube, self.scale)


def _cube(x: Tensor) -> Tensor:
    return x * x * x


def _require_positive(scale: float, kind: str) -> None:
    if not scale > 0:
        raise ConfigError(f"operator {kind}: scale is {scale}; expected a positive number")
