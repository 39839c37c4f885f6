"""Noise that enters before a step: a system that is driven all the time, in one step of second order.

Noise that a system took early in a step was carried along by the flow when the step ends; its covariance differs from
state to state, and that of the residual x1 - mu(x0), measured over many states, knows their average alone. With a part
s of the noise before the step and the rest behind it (Strang's splitting at s = 1/2),

    x1 = mu(x0 + k) + L r,     k ~ N(0, s Q),     L L^T = (1 - s) Q

it is the map mu that carries k along, at no further pass of the network. A filter moves k with the member it belongs
to, and draws r under guidance. Q is found from the residuals' covariance C, both in blocks of waves, by

    Q <- Q + C - C(Q),     C(Q) that of mu(x0 + k) + L r - mu(x0)

which converges where mu changes small k little in one step.
Source: Strang (1968), SIAM J. Numer. Anal. 5, 506-517; for noise, Leimkuhler and Matthews (2015), Molecular Dynamics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cycler_da.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.covariance import Covariance
    from cycler_da.generative.localisation import MemberNoise
    from cycler_da.generative.prediction import LearnedTransition

#: Rounds of the iteration for Q; each leaves about a tenth of the difference where a step turns k by a few degrees.
ROUNDS = 4


@runtime_checkable
class KickedTransition(Protocol):
    """A transition with noise that may enter before its step."""

    def kicked(
        self, frames: Float[Tensor, "batch time channel *space"], noise: MemberNoise
    ) -> Float[Tensor, "batch time channel *space"]:
        """Frames whose last state has taken that noise."""
        ...


def kicked(
    transition: LearnedTransition, frames: Float[Tensor, "batch time channel *space"], noise: MemberNoise
) -> Float[Tensor, "batch time channel *space"]:
    """The frames from which a step is predicted: with the noise before it, of a transition that has some."""
    return transition.kicked(frames, noise) if isinstance(transition, KickedTransition) else frames


def noise_blocks(
    mean: Callable[[Tensor], Tensor],
    starts: Float[Tensor, "sample channel y x"],
    measured: Tensor,
    *,
    early: float,
    measure: Callable[[Tensor], Tensor],
    covariance: Callable[[Tensor], Covariance],
) -> Tensor:
    """Blocks of Q from those of the residuals, `measured`; scaled units.

    `mean` is the scaled mu, `measure` makes blocks of fields and `covariance` a covariance of blocks.
    """
    found, still = measured.clone(), mean(starts)
    before, behind = (
        Noise(0).normal(name, starts.shape[1:], members=range(len(starts)), dtype=starts.dtype)
        for name in ("kicks.before", "kicks.behind")
    )
    for _ in range(ROUNDS):
        root = covariance(found)
        carried = mean(starts + early**0.5 * root.color(before)) + (1.0 - early) ** 0.5 * root.color(behind) - still
        found = found + measured - measure(carried)
    return found
