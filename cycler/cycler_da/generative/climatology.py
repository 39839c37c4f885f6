"""Climatology of a learned system: mean and covariance of its states, in the units of the states.

It stands with the weights, because it was measured from the states they were trained on. Starts of twin
experiments and the observations-only baseline use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cycler_da.generative.covariance import Covariance
from cycler_da.generative.scaling import Scaling

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class StateCovariance(Protocol):
    """A covariance B = U U^T of states: applied, drawn from, and used as a control variable.

    `color` is U and `gather` its transpose; U need not be square, so `color` may take more noise than a state has.
    """

    def apply(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """B x."""
        ...

    def color(self, z: Float[Tensor, "batch channel *noise"]) -> Float[Tensor, "batch channel *space"]:
        """U z: a draw from N(0, B), from standard normal z of shape `noise_shape`."""
        ...

    def gather(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *noise"]:
        """U^T x."""
        ...

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of one member's z, for states of shape `(channel, *space)`."""
        ...


@dataclass(frozen=True)
class StateClimatology:
    """Mean of each channel and covariance of the states."""

    mean: Float[Tensor, "channel"]
    covariance: StateCovariance


@dataclass(frozen=True)
class ScaledCovariance:
    """A covariance of scaled states, acting on states."""

    scaling: Scaling
    scaled: Covariance

    def apply(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """B x."""
        return self.scaling.stretch(self.scaled.apply(self.scaling.stretch(x)))

    def color(self, z: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """A draw from N(0, B), from standard normal z."""
        return self.scaling.stretch(self.scaled.color(z))

    def gather(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The transpose of `color`."""
        return self.scaled.color(self.scaling.stretch(x))

    def whiten(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The inverse of `color`; directions without variance give zero."""
        return self.scaled.whiten(self.scaling.shrink(x))

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """That of a state."""
        return tuple(state_shape)
