"""Observations of the whitened residual in units of the climate: what a guidance with one step for all variables sees.

Beside it stand observations of a path from state to state (`generative.state_path`), in the same units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.prediction import Prediction, ResidualObservation, SharedCovariancePrediction
from cycler_da.obs.base import Observations

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class ScaledMap:
    """Observations of the residual through any map, in units of `scale`."""

    seen: ResidualObservation
    scale: Float[Tensor, "obs"]

    @property
    def values(self) -> Tensor:
        """Observed values."""
        return self.seen.values / self.scale

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R."""
        return self.seen.error_variance / self.scale**2

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """H(mean + L r)."""
        return self.seen(x) / self.scale


@dataclass(frozen=True)
class ScaledObservation(ScaledMap):
    """Linear observations of the residual in units of `scale`."""

    def linear(self, v: Float[Tensor, "any channel *space"]) -> Float[Tensor, "any obs"]:
        """H L v."""
        return self.seen.linear(v) / self.scale

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """L^T H^T v."""
        return self.seen.adjoint(v / self.scale)

    def of_draws(self, e: Float[Tensor, "batch draw channel *space"]) -> Float[Tensor, "batch draw obs"]:
        """H L e of every draw, outside the graph; one by one where members have an L of their own."""
        with torch.no_grad():
            if isinstance(self.seen.prediction, SharedCovariancePrediction):
                return self.linear(e.flatten(0, 1)).unflatten(0, e.shape[:2])
            return torch.stack([self.linear(draw) for draw in e.unbind(1)], dim=1)


def observe_residual(
    prediction: Prediction, observations: Observations, scale: Float[Tensor, "obs"]
) -> ScaledObservation | ScaledMap:
    """Observations of the state as observations of the whitened residual, in units of `scale`."""
    kind = ScaledObservation if observations.is_linear else ScaledMap
    return kind(ResidualObservation(prediction, observations), scale)


def climatological_scale(climatology: StateClimatology | None, observations: Observations) -> Float[Tensor, "obs"]:
    """Climatological deviation of the variable each observation sees.

    Ones where it is not known, or where an operator is not linear (its values are of another kind).
    """
    layout = observations.layout
    if climatology is None or not observations.is_linear:
        return torch.ones_like(observations.values)
    n_channels = len(layout.channels)
    centre = tuple(size // 2 for size in layout.grid.shape)
    units = torch.zeros((n_channels, *layout.state_shape), dtype=torch.float64)
    for channel in range(n_channels):
        units[(channel, channel, *centre)] = 1.0
    moved = climatology.covariance.apply(units)
    std = torch.stack([moved[(channel, channel, *centre)] for channel in range(n_channels)]).sqrt()
    return std[observations.channels].to(observations.values.device)
