"""Observations of the states of one frame of a window through their operators, in units of their own.

    H(x_f) / unit,   x_f = physical states

The unit of an observation is the deviation that H gives to scaled states of independent cells, exact for one
observation of every variable and stream and taken for all; 1 for nonlinear operators. Scalar likelihoods (SDA, SOAD)
add variances to R in these units, as published for normalised states. Operators that act wave by wave before they read
points (velocities of QG) say what they tell of each wave (`generative.diffusion.information`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.scaling import Scaling
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.layer_velocity import LayerVelocity
from cycler_da.schemes.minimisation.linearised import Linearised

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor


@dataclass(frozen=True)
class StatePart:
    """Observations of the states of one frame through their operators."""

    frame: int
    observations: Observations
    scaling: Scaling
    unit: Float[Tensor, "obs"]
    shape: tuple[int, ...]
    own: Float[Tensor, "batch obs"] | None = None  # values of each member in place of those of the observations

    @property
    def values(self) -> Float[Tensor, "*batch obs"]:
        """Values in their units."""
        return (self.observations.values if self.own is None else self.own) / self.unit

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """R in their units."""
        return self.observations.error_variance / self.unit**2

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """H(x) in their units."""
        return self.observations.hx(self._physical(z)) / self.unit

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> StateSlope:
        """H at the states of z."""
        return StateSlope(self, Linearised(self.observations, self._physical(z.detach())))

    @property
    def is_waves(self) -> bool:
        """True where every operator acts wave by wave before it reads points."""
        return all(isinstance(batch.operator, LayerVelocity) for batch in self.observations.batches)

    def of_waves(self) -> Complex[Tensor, "y k channel channel"]:
        """H^T R^-1 H of scaled states as if the observations were spread over all cells; exact where each is seen."""
        std, total = torch.tensor(self.scaling.std, dtype=torch.float64), torch.zeros(())
        for batch in self.observations.batches:
            assert isinstance(batch.operator, LayerVelocity)
            matrix = batch.operator.matrix * std[:, None, None]
            told = torch.zeros(len(matrix), dtype=torch.float64).index_add(0, batch.where.channel, batch.error**-2)
            weight = (told / (self.shape[-1] * self.shape[-2])).to(matrix.dtype)
            total = total + torch.einsum("l,liyk,ljyk->ykij", weight, matrix.conj(), matrix)
        return total

    def _physical(self, z: Tensor) -> Tensor:
        return self.scaling.to_physical(z[:, self.frame, : self.n_states].to(torch.float64))

    @property
    def n_states(self) -> int:
        """Channels that are states."""
        return len(self.observations.layout.channels)


@dataclass(frozen=True)
class StateSlope:
    """H of a `StatePart`."""

    part: StatePart
    linear: Linearised

    def forward(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """H v."""
        states = v[:, self.part.frame, : self.part.n_states].to(torch.float64)
        return self.linear.forward(self.part.scaling.stretch(states)) / self.part.unit

    def transpose(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch frame channel y x"]:
        """H^T w."""
        return self.added(w.new_zeros(()), w)

    def added(
        self, total: Float[Tensor, "*any"], w: Float[Tensor, "batch obs"]
    ) -> Float[Tensor, "batch frame channel y x"]:
        """H^T w added to a window, which is changed, or to a number."""
        if total.ndim == 0:
            total = total.expand(len(w), *self.part.shape).clone()
        back = self.part.scaling.stretch(self.linear.transpose(w.to(torch.float64) / self.part.unit))
        total[:, self.part.frame, : self.part.n_states] += back.to(w.dtype)
        return total


def state_part(frame: int, observations: Observations, scaling: Scaling, shape: tuple[int, ...]) -> StatePart:
    """The part of observations of states; `shape` is that of a window."""
    units = torch.cat([_units(batch, observations, scaling) for batch in observations.batches])
    return StatePart(frame, observations, scaling, units, shape)


def _units(batch: ObsBatch, observations: Observations, scaling: Scaling) -> Float[Tensor, "obs"]:
    units = torch.ones(len(batch), dtype=torch.float64)
    if not batch.operator.is_linear:
        return units
    for channel in torch.unique(batch.where.channel):
        here = batch.where.channel == channel
        first = torch.zeros(len(batch), dtype=torch.bool)
        first[int(here.nonzero()[0])] = True
        one = batch.select(first)
        row = one.operator.adjoint(torch.ones(1, 1, dtype=torch.float64), one.where, observations.layout)
        size = scaling.stretch(row).norm()
        if not float(size) > 0:
            raise AnalysisFailed(
                f"stream {batch.stream}: operator {batch.operator.name} sees nothing of any state at the position of "
                f"{one.ids[0]}; flag it DOMAIN"
            )
        units[here] = size
    return units
