"""Nonlinear point operators: the value at the position of the observation, seen through a curve.

    arctan    H(x) = atan(v / scale)         saturates: far values are hardly told apart
    cubic     H(x) = (v / scale)^3           flat at 0: small values are hardly told apart
    sigmoid   H(x) = 1 / (1 + exp(-v / scale))    saturates as the arctangent does, between 0 and 1
    sine      H(x) = a sin(v / scale)        many states for one value: |v| above scale pi / 2 folds back
    exceeds   H(x) = 1 where v > threshold, else 0      a detection; it has no derivative

v is the observed variable interpolated linearly to the position (`points`); `scale` has its units, H(x) has none.
Used for Lorenz-63 and the double well in Chen et al. (2025), arXiv:2501.16642, with `scale` 8 and 1; arctan(3 x) and
1.5 sin(3 x) of normalised x in SOAD, arXiv:2407.21314: there `scale` is a third of the climatological deviation.

sigmoid(2 x) in MASF, arXiv:2604.02889.

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
    is_differentiable: bool = True  # False: schemes that need H' are refused with it

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


@register("operator", "sigmoid")
@dataclass(frozen=True, kw_only=True)
class SigmoidSpec(Spec):
    """Settings of the sigmoid."""

    scale: float = 1.0  # units of the observed variable

    def __post_init__(self) -> None:
        _require_positive(self.scale, "sigmoid")

    def build(self, layout: Layout) -> CurveOperator:
        """Make the operator; it suits every grid."""
        return CurveOperator("sigmoid", PointsSpec().build(layout), logistic, self.scale)


@register("operator", "sine")
@dataclass(frozen=True, kw_only=True)
class SineSpec(Spec):
    """Settings of the sine."""

    scale: float = 1.0  # units of the observed variable
    amplitude: float = 1.5

    def __post_init__(self) -> None:
        _require_positive(self.scale, "sine")
        if not self.amplitude > 0:
            raise ConfigError(f"operator sine: amplitude is {self.amplitude}; expected a positive number")

    def build(self, layout: Layout) -> CurveOperator:
        """Make the operator; it suits every grid."""
        return CurveOperator("sine", PointsSpec().build(layout), Sine(self.amplitude), self.scale)


@dataclass(frozen=True)
class Sine:
    """a sin."""

    amplitude: float

    def __call__(self, x: Tensor) -> Tensor:
        """Apply."""
        return self.amplitude * torch.sin(x)


@register("operator", "exceeds")
@dataclass(frozen=True, kw_only=True)
class ExceedsSpec(Spec):
    """Settings of the detection."""

    threshold: float = 0.0  # units of the observed variable

    def build(self, layout: Layout) -> CurveOperator:
        """Make the operator; it suits every grid."""
        return CurveOperator("exceeds", PointsSpec().build(layout), Above(self.threshold), 1.0, is_differentiable=False)


@dataclass(frozen=True)
class Above:
    """1 above a threshold, 0 elsewhere, NaN where the value is."""

    threshold: float

    def __call__(self, x: Tensor) -> Tensor:
        """Apply."""
        return torch.where(x.isnan(), x, (x > self.threshold).to(x.dtype))


def logistic(v: Tensor) -> Tensor:
    """1 / (1 + exp(-v)), with the same bits for a value wherever it stands in a batch, which torch.sigmoid has not."""
    return 0.5 * (1.0 + torch.tanh(0.5 * v))


def _cube(x: Tensor) -> Tensor:
    return x * x * x


def _require_positive(scale: float, kind: str) -> None:
    if not scale > 0:
        raise ConfigError(f"operator {kind}: scale is {scale}; expected a positive number")
