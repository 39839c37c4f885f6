"""What guides members towards observations, for `interpolant_filter`: the contract of a guidance.

A guidance draws x' from p(x' | x_i, y) for every member, about: it returns the whitened residual r of the transition,
x' = mean_i + L_i r. Whether members meet the right y for where they are, p(y | x_i), is not its business.
To add one: a Spec registered under "guidance" whose `build()` gives a `Guidance`, named in this package's `__init__`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.prediction import Prediction
from cycler_da.obs.base import Observations

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Guided:
    """What a guidance works on: members bound to a transition, and observations of their next states."""

    prediction: Prediction
    observations: Observations
    noise: MemberNoise
    taus: tuple[float, ...]  # grid of the sampler
    gram: Float[Tensor, "obs obs"] | None = None  # H L L^T H^T where members share it and H is linear
    climatology: StateClimatology | None = None


@runtime_checkable
class Guidance(Protocol):
    """Draws residuals that agree with the observations."""

    @property
    def linear_only(self) -> bool:
        """True when it cannot take nonlinear operators."""
        ...

    def residual(self, guided: Guided) -> Float[Tensor, "member channel *space"]:
        """The whitened residual of every member, of the shape of `prediction.blank`; keyed noise only."""
        ...


@runtime_checkable
class GuidanceSpec(Protocol):
    """Options of a guidance, from a config block."""

    def build(self) -> Guidance:
        """Make the guidance."""
        ...
