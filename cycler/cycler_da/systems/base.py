"""What a numerical system offers: a layout and a step for batches of states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class Dynamics(Protocol):
    """Deterministic dynamics in physical units; every state of the batch is stepped alike."""

    layout: Layout

    def step(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Advance all states by one `layout.step`."""
        ...


@runtime_checkable
class StochasticDynamics(Protocol):
    """Dynamics with additive process noise; without it `noise_std` is 0."""

    noise_std: float  # of one layout step

    def perturb(
        self, x: Float[Tensor, "batch channel *space"], z: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """Add the noise of one layout step, given standard normal z."""
        ...
