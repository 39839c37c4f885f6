"""What a numerical system offers: a layout, a step for batches of states, and states of its climate.

Process noise is one of two kinds: added after a step (`StochasticDynamics`), or acting while the system moves
(`DrivenDynamics`). `noisy_step` takes either, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.layout import Layout
from cycler_da.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class Dynamics(Protocol):
    """Deterministic dynamics in physical units; every state of the batch is stepped alike."""

    @property
    def layout(self) -> Layout:
        """Layout of the states; one step of it is one step of the model."""
        ...

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


@runtime_checkable
class DrivenDynamics(Protocol):
    """Dynamics that noise drives all along a step."""

    noise_shape: tuple[int, ...]  # standard normal numbers of one state and one layout step

    def driven_step(
        self, x: Float[Tensor, "batch channel *space"], z: Float[Tensor, "batch *noise"]
    ) -> Float[Tensor, "batch channel *space"]:
        """Advance all states by one `layout.step` under the noise that z stands for."""
        ...


@runtime_checkable
class ClimateSpec(Protocol):
    """Settings of a system that can be run from states of its own climate."""

    def layout(self) -> Layout:
        """Layout of the state."""
        ...

    def build(self, *, dtype: torch.dtype = ..., device: str = ...) -> Dynamics:
        """Build the dynamics."""
        ...

    def spun_up(
        self, noise: Noise, *, members: Sequence[int], years: float | None = None
    ) -> Float[Tensor, "member channel *space"]:
        """Independent states after the system's usual spin-up, or after `years` where it counts in years."""
        ...


def noisy_step(
    dynamics: Dynamics, x: Float[Tensor, "batch channel *space"], noise: Noise, *, members: Sequence[int], step: int
) -> Float[Tensor, "batch channel *space"]:
    """Advance by one layout step with the system's process noise, keyed by member and step; dtype as x."""
    if isinstance(dynamics, DrivenDynamics):
        z = noise.normal("process", dynamics.noise_shape, members=members, step=step, dtype=torch.float64)
        return dynamics.driven_step(x, z).to(x.dtype)
    state = dynamics.step(x).to(x.dtype)
    if isinstance(dynamics, StochasticDynamics) and dynamics.noise_std > 0:
        z = noise.normal("process", state.shape[1:], members=members, step=step, dtype=torch.float64)
        state = dynamics.perturb(state, z)
    return state
