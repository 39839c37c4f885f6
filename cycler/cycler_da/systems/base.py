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
