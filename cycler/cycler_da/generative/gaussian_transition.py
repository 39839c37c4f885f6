"""A transition with a known mean and Gaussian residuals, in low dimension: x1 = mu(x0) + L r, L L^T = C.

What a learned transition is at best when the step is a known map plus Gaussian noise: analytic tests and benchmarks
with a true model use it in place of trained weights. L is the symmetric root of a dense C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.covariance import FullCovariance, WhiteCovariance
from cycler_da.generative.guidance import ConjugateDraw, observation_covariance
from cycler_da.generative.prediction import ResidualObservation, StateObservation
from cycler_da.generative.scaling import Scaling

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.localisation import MemberNoise


@dataclass(frozen=True)
class GaussianTransition:
    """x1 ~ N(mean_map(x0), covariance); reads the present state alone."""

    mean_map: Callable[[Tensor], Tensor]  # (batch, channel, *space) to the same
    covariance: Float[Tensor, "n n"]  # over the flattened state, float64, positive definite
    history: int = 1
    state_climatology: StateClimatology | None = None

    @property
    def predicts(self) -> type[GaussianPrediction]:
        """What `predict` gives."""
        return GaussianPrediction

    def predict(self, frames: Float[Tensor, "batch time channel *space"]) -> GaussianPrediction:
        """Bind the transition to the last states of a batch."""
        return GaussianPrediction(self.mean_map(frames[:, -1]), self.root)

    @property
    def has_state_path(self) -> bool:
        """Always: the residual is Gaussian."""
        return True

    @cached_property
    def root(self) -> Float[Tensor, "n n"]:
        """L."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T


@dataclass(frozen=True)
class WhiteEndpoint:
    """Endpoint model of a whitened Gaussian residual."""

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """E[r | U] = U / (1 + tau)."""
        return u / (1.0 + tau)

    def covariance(self, tau: float) -> WhiteCovariance:
        """Cov[r | U] = I / (1 + tau)."""
        return WhiteCovariance(1.0 / (1.0 + tau))


@dataclass(frozen=True)
class GaussianPrediction:
    """The prediction of a `GaussianTransition`."""

    mean: Float[Tensor, "batch channel *space"]
    root: Float[Tensor, "n n"]

    @property
    def endpoint(self) -> WhiteEndpoint:
        """The whitened residual's endpoint model."""
        return WhiteEndpoint()

    @property
    def path_scaling(self) -> Scaling:
        """States as they are."""
        n_channels = self.mean.shape[1]
        return Scaling((0.0,) * n_channels, (1.0,) * n_channels)

    @cached_property
    def path_covariance(self) -> FullCovariance:
        """C."""
        return FullCovariance(self.root @ self.root)

    def blank(self, dtype: torch.dtype) -> Tensor:
        """Zeros of the shape of the state."""
        return torch.zeros_like(self.mean, dtype=dtype)

    def spread(self, residual: Tensor) -> Tensor:
        """L r."""
        return (residual.flatten(1).to(self.root.dtype) @ self.root).reshape(residual.shape).to(residual.dtype)

    def gather(self, v: Tensor) -> Tensor:
        """L^T v; L is symmetric."""
        return self.spread(v)

    def to_state(self, residual: Tensor) -> Tensor:
        """Mean + L r."""
        return self.mean + self.spread(residual).to(self.mean.dtype)

    def guided(self, observations: StateObservation, noise: MemberNoise) -> ConjugateDraw:
        """Conjugate guidance with one S for all members."""
        return ConjugateDraw(self.endpoint, ResidualObservation(self, observations), noise)

    def observed_covariance(self, observations: StateObservation) -> Tensor:
        """H C H^T."""
        seen = ResidualObservation(self, observations)
        return observation_covariance(WhiteCovariance(), seen, like=self.mean)

    def observed_variance(self, observations: StateObservation) -> Tensor:
        """Diagonal of H C H^T."""
        return self.observed_covariance(observations).diagonal()
