"""Denoisers: E[z_0 | z_t], the one form in which a diffusion is held here, and its other forms.

    epsilon = (z - mu zhat) / sigma      score = grad log p_t(z) = -epsilon / sigma      zhat = (z + sigma^2 score) / mu

(Tweedie's formula; all exact.) States are `(batch, *anything)`; a batch has one time t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cycler_da.generative.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Denoiser(Protocol):
    """E[z_0 | z_t], differentiable in z."""

    def __call__(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch *state"]:
        """The mean of the clean state given a noisy one."""
        ...


@dataclass(frozen=True)
class EpsilonDenoiser:
    """A denoiser from a noise prediction epsilon(z, t), the published parametrisation."""

    epsilon: Callable[[Tensor, float], Tensor]
    schedule: Schedule

    def __call__(self, z: Float[Tensor, "batch *state"], t: float) -> Float[Tensor, "batch *state"]:
        """(z - sigma epsilon) / mu."""
        return (z - self.schedule.sigma(t) * self.epsilon(z, t)) / self.schedule.mu(t)


def noise_in(z: Tensor, clean: Tensor, schedule: Schedule, t: float) -> Tensor:
    """The noise prediction that goes with a denoised estimate."""
    return (z - schedule.mu(t) * clean) / schedule.sigma(t)


def clean_of_score(z: Tensor, score: Tensor, schedule: Schedule, t: float) -> Tensor:
    """The denoised estimate that goes with a score."""
    return (z + schedule.sigma(t) ** 2 * score) / schedule.mu(t)
