"""Control variable: the variable in which forecasts and analyses do their algebra.

Files, maps and verification are always in physical units. Where a physical variable is far from Gaussian
(VIL is intermittent and near log-normal) the ensemble is transformed right after it is read and back right
before it is written; observations and their errors are transformed with it. For most systems the control
variable is the physical one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Layout, Variable
from cycler_da.obs.base import Observations
from cycler_da.systems.code_scale import from_code_scale, to_code_scale

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Control(Protocol):
    """A transform of states and observations, and the layout of the transformed states."""

    @property
    def physical(self) -> Layout:
        """Layout of the physical states."""
        ...

    @property
    def layout(self) -> Layout:
        """Layout of the transformed states."""
        ...

    def to_control(self, ensemble: Ensemble) -> Ensemble:
        """Physical to control."""
        ...

    def from_control(self, ensemble: Ensemble) -> Ensemble:
        """Control to physical."""
        ...

    def observations(self, observations: Observations) -> Observations:
        """Observations of the physical variable as observations of the control variable."""
        ...

    def perturb(
        self, values: Float[Tensor, "obs"], std: Float[Tensor, "obs"], z: Float[Tensor, "obs"]
    ) -> tuple[Float[Tensor, "obs"], Float[Tensor, "obs"]]:
        """Add errors std z on the control scale to physical values; returns values and their errors, physical."""
        ...


@dataclass(frozen=True)
class SameVariable:
    """The control variable is the physical one."""

    physical: Layout

    @property
    def layout(self) -> Layout:
        """The physical layout."""
        return self.physical

    def to_control(self, ensemble: Ensemble) -> Ensemble:
        """Return the ensemble itself."""
        return ensemble

    def from_control(self, ensemble: Ensemble) -> Ensemble:
        """Return the ensemble itself."""
        return ensemble

    def observations(self, observations: Observations) -> Observations:
        """Return the observations themselves."""
        return observations

    def perturb(self, values: Tensor, std: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Add the errors."""
        return values + std * z, std


@dataclass(frozen=True)
class CodeScale:
    """VIL on the scale v = code / 255 of SEVIR, near the logarithm of VIL above weak echo.

    An observation y with error e (kg m-2) becomes v(y) with error max(e dv/dVIL, `least_error`): the slope is
    steep near zero, where one code is the resolution of the data.
    """

    physical: Layout
    least_error: float = 1.0 / 255.0

    @property
    def layout(self) -> Layout:
        """The same grid with the variable `vil_code` (1)."""
        variables = tuple(
            Variable(f"{v.name}_code", "1", f"{v.long_name}, code scale of SEVIR divided by 255", 0.0, 1.0)
            for v in self.physical.variables
        )
        return replace(self.physical, variables=variables)

    def to_control(self, ensemble: Ensemble) -> Ensemble:
        """VIL to v."""
        return Ensemble(to_code_scale(ensemble.values), ensemble.valid_times, ensemble.members, self.layout)

    def from_control(self, ensemble: Ensemble) -> Ensemble:
        """V to VIL; below 0 is no echo."""
        return Ensemble(from_code_scale(ensemble.values), ensemble.valid_times, ensemble.members, self.physical)

    def observations(self, observations: Observations) -> Observations:
        """Transform values and errors; operators must read cells or interpolate."""
        batches = []
        for batch in observations.batches:
            error = batch.error * _slope(batch.values)
            error = torch.where(error.isfinite(), error.clamp(min=self.least_error), batch.error)
            batches.append(replace(batch, values=to_code_scale(batch.values), error=error))
        return Observations(tuple(batches), self.layout)

    def perturb(self, values: Tensor, std: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Add errors to v; what falls below zero is seen as no echo, as a radar does.

        The error in kg m-2 is std / (dv/dVIL) at the perturbed value, so that `observations` gives std back.
        """
        seen = from_code_scale(to_code_scale(values) + std * z)
        return seen, std / _slope(seen)


def control_of(system_kind: str, physical: Layout) -> Control:
    """The control variable of a system."""
    return CodeScale(physical) if system_kind == "sevir" else SameVariable(physical)


def verified_variables(control: Control) -> tuple[str, ...]:
    """Names under which states are scored: the physical variables and, where it is another, the control variable."""
    names = control.physical.channels
    return names if control.layout == control.physical else (*names, *control.layout.channels)


def _slope(vil: Float[Tensor, "obs"]) -> Float[Tensor, "obs"]:
    """The slope dv/dVIL by central differences of one per cent, at least 0.01 kg m-2."""
    step = 0.01 * vil.abs().clamp(min=1.0)
    return (to_code_scale(vil + step) - to_code_scale(vil - step)) / (vil + step - (vil - step).clamp(min=0.0))
