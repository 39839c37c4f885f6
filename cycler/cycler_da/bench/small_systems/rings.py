"""Many Lorenz-96 rings side by side: trials that do not see each other, analysed as one state.

    state (1, ring, x)     the axis of the rings has cells so long that no localization radius reaches the next ring

A localized scheme then analyses all rings at once and gives each what it gives a ring alone: a batch instead of a loop.
Only schemes whose every step is local may be used so; global weights, for one, may not.
A learned transition of one ring is applied to every ring of every member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import WeightsMismatch
from cycler_da.generative.dense_transition import DensePrediction, DenseTransition
from cycler_da.generative.gaussian_transition import WhiteEndpoint
from cycler_da.generative.guidance import MemberConjugateDraw
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.prediction import ResidualObservation, StateObservation
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.systems.runge_kutta import OrdinaryDynamics

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Length of a cell along the axis of the rings, in cells of a ring.
APART = 1000.0
START = np.datetime64("2020-01-01T00:00:00", "s")


def ring_layout(n_rings: int, size: int, step: np.timedelta64) -> Layout:
    """Layout of many rings; a kilometre is a thousand cells."""
    axes = (Axis("ring", n_rings, APART, 0.0, "m"), Axis("x", size, 1.0, 0.0, "m", periodic=True))
    return Layout("lorenz96_rings", (Variable("u", "1", "Lorenz-96 X"),), Grid(axes), step)


@dataclass(frozen=True)
class RingModel:
    """The true model of all rings: steps of the system with its process noise."""

    dynamics: OrdinaryDynamics
    n_steps: int  # of a cycle

    def advance(self, states: Float[Tensor, "batch 1 ring x"], noise: Noise, *, stream: str) -> Tensor:
        """States one cycle later."""
        x = states.flatten(0, 2)[:, None]
        for step in range(self.n_steps):
            x = self.dynamics.step(x)
            if self.dynamics.noise_std > 0:
                z = noise.shared_normal(stream, x.shape, step=step, dtype=torch.float64)
                x = self.dynamics.perturb(x, z)
        return x.view(states.shape)


@dataclass
class RingTransition:
    """A learned transition of one ring for all rings; counts the members it was run for.

    Raises WeightsMismatch for a transition with a denoiser.
    """

    inner: DenseTransition
    n_passes: int = 0
    history: int = 1
    state_climatology: None = None

    def __post_init__(self) -> None:
        if self.inner.denoiser is not None:
            raise WeightsMismatch(
                "rings side by side: the transition has a denoiser, and rings are drawn from Gaussians alone; use "
                "weights without a denoiser"
            )

    def predict(self, frames: Float[Tensor, "batch time 1 ring x"]) -> RingPrediction:
        """Bind the transition to the last states of a batch."""
        self.n_passes += len(frames)
        now = frames[:, -1]
        return RingPrediction(self.inner.predict(states_of_rings(now)[:, None]), tuple(now.shape))


@dataclass(frozen=True)
class RingPrediction:
    """The prediction of every ring of every member."""

    inner: DensePrediction
    shape: tuple[int, ...]

    @cached_property
    def mean(self) -> Float[Tensor, "batch 1 ring x"]:
        """Mean of the next states."""
        return self.inner.mean.view(self.shape)

    @property
    def endpoint(self) -> WhiteEndpoint:
        """The whitened residual's endpoint model."""
        return WhiteEndpoint()

    def blank(self, dtype: torch.dtype) -> Tensor:
        """Zeros of the shape of the state."""
        return torch.zeros(self.shape, dtype=dtype)

    def spread(self, residual: Tensor) -> Tensor:
        """L r of every ring."""
        return self.inner.spread(states_of_rings(residual)).view(self.shape)

    def gather(self, v: Tensor) -> Tensor:
        """L^T v of every ring."""
        return self.inner.gather(states_of_rings(v)).view(self.shape)

    def to_state(self, residual: Tensor) -> Tensor:
        """Mean + L r."""
        return self.mean + self.spread(residual).to(self.mean.dtype)

    def guided(self, observations: StateObservation, noise: MemberNoise) -> MemberConjugateDraw:
        """Conjugate guidance by conjugate gradients: rings have an S of their own."""
        diagonal = self.observed_variance(observations).expand(self.shape[0], -1)
        return MemberConjugateDraw(self.endpoint, ResidualObservation(self, observations), noise, diagonal)

    def observed_variance(self, observations: StateObservation) -> Float[Tensor, "obs"]:
        """Diagonal of H L L^T H^T, its mean over members; H reads single cells."""
        variance = self.inner.root.square().sum(dim=2).view(self.shape).mean(dim=0, keepdim=True)
        return observations.hx(variance)[0]


@dataclass(frozen=True)
class RingTwin:
    """Truths of some rings and their observations; noise depends on the ring's number, not on which are selected."""

    model: RingModel
    stride: int  # every n-th value of a ring is observed
    error: float
    seed: int
    truth: Float[Tensor, "time ring x"]  # the start, then every cycle
    values: Float[Tensor, "cycle ring obs"]
    rings: tuple[int, ...]  # numbers, out of the first `n_all`
    n_all: int

    @property
    def layout(self) -> Layout:
        """Layout of the selected rings; its step is a cycle."""
        step = self.model.n_steps * self.model.dynamics.layout.step
        return ring_layout(len(self.rings), self.truth.shape[-1], step)

    def select(self, places: Sequence[int]) -> RingTwin:
        """Rings at the given places, a ring as often as it is named."""
        chosen = list(places)
        rings = tuple(self.rings[place] for place in chosen)
        return replace(self, truth=self.truth[:, chosen], values=self.values[:, chosen], rings=rings)

    def first_members(self, n_members: int, std: float) -> Float[Tensor, "member 1 ring x"]:
        """Members at the start: truth + std z."""
        shape = (n_members, 1, self.n_all, self.truth.shape[-1])
        z = Noise(self.seed).shared_normal("members", shape, dtype=torch.float64)
        return self.truth[0] + std * z[:, :, list(self.rings)]

    def observations(self, cycle: int) -> Observations:
        """Of one cycle, from 1 on; the same for all methods."""
        layout, size = self.layout, self.truth.shape[-1]
        seen = torch.cartesian_prod(torch.arange(len(self.rings)), torch.arange(0, size, self.stride))
        batch = ObsBatch(
            stream="rings",
            operator=CellSpec().build(layout),
            where=Locations(seen.to(torch.float64) * torch.tensor([APART, 1.0]), torch.zeros_like(seen[:, 0])),
            values=self.values[cycle - 1].flatten(),
            error=torch.full((len(seen),), self.error, dtype=torch.float64),
            times=np.full(len(seen), START + cycle * layout.step),
            ids=np.arange(len(seen)).astype(str),
            flags=torch.zeros(len(seen), dtype=torch.int32),
        )
        return Observations((batch,), layout)


def make_ring_twin(
    model: RingModel, first: Float[Tensor, "ring x"], *, n_cycles: int, stride: int, error: float, seed: int
) -> RingTwin:
    """Truths from the given starts, and their observations."""
    states = [first[None, None]]
    for cycle in range(1, n_cycles + 1):
        states.append(model.advance(states[-1], Noise(seed, cycle), stream="truth"))
    truth = torch.cat(states)[:, 0]
    seen = truth[1:, :, ::stride]
    values = seen + error * Noise(seed).shared_normal("observations", seen.shape, dtype=torch.float64)
    return RingTwin(model, stride, error, seed, truth, values, tuple(range(len(first))), len(first))


def states_of_rings(x: Tensor) -> Float[Tensor, "rows 1 x"]:
    """Every ring of every member as a state of its own."""
    return x.flatten(0, 2)[:, None]
