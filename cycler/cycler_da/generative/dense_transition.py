"""The learned transition of a system of few variables: a mean and a full covariance that depend on the state.

In scaled units z = (x - mean) / std, with n values in a state,

    z1 = z0 + mu(z0) + L(z0) r,     L(z0) = L0 P(z0)^-1 lower triangular,     r white: E[r | U] = U / (1 + tau)

L0 is the root of the mean residual covariance, P(z0) a learned triangle. Whitened by a root of its own state, the
residual of Lorenz-63 over 0.25 time units is nearly Gaussian (skewness and excess kurtosis below 0.1),
so that nothing is left for a denoiser to learn and one step of tau is a draw of the transition. Where the next state
has several modes a `denoiser` knows them (`dense_denoiser`), and draws take several steps of tau; one is the Gaussian.

Far from the attractor a network knows nothing and may say anything: states that it sees, and means, are held within
`FARTHEST` climatological deviations in every variable, and residuals have at most the variance of the climate, for a
step leaves no more open.

Guidance of a Gaussian is exact for linear observations: S_i = H L_i Cov[r | U] L_i^T H^T + R of every member,
factorised densely. With a denoiser every step is guided as if r given U were Gaussian, and what predicts observations
before any step is taken (`root`) is the Gaussian with the mean and covariance of the transition.
Limits: n^2 numbers for each member; one state of history.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.dense_denoiser import DenoisedEndpoint
from cycler_da.generative.gauss_newton import GaussNewtonDraw
from cycler_da.generative.gaussian_transition import WhiteEndpoint
from cycler_da.generative.localisation import EndpointModel
from cycler_da.generative.networks.base import MeanAndRoot
from cycler_da.generative.prediction import ResidualObservation, StateObservation
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.state_path import MemberCovariances

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.localisation import MemberNoise

#: Rows the network sees at once; the last block is filled up with zeros, so that bytes do not depend on the batch.
_ROWS = 64
#: Lorenz-63 and -96 stay within 3.6 deviations of their climates.
FARTHEST = 5.0


@dataclass(frozen=True)
class DenseTransition:
    """The transition; all methods take and give physical units."""

    network: MeanAndRoot
    scaling: Scaling
    state_climatology: StateClimatology | None = None
    history: int = 1
    denoiser: NetworkDenoiser | None = None  # of the whitened residual, its parameters without gradients

    @property
    def predicts(self) -> type[DensePrediction]:
        """What `predict` gives."""
        return DensePrediction

    def predict(self, frames: Float[Tensor, "batch time channel *space"]) -> DensePrediction:
        """Bind the transition to the last states of a batch."""
        now = self._held(frames[:, -1])
        scaled = self._scaled(now)
        parts = [self._moments(block) for block in scaled.split(_ROWS)]
        increment, root = (torch.cat(column) for column in zip(*parts, strict=True))
        mean = self._held(now + (increment.to(now.dtype) * self._std(now)))
        rows = self._std(now).to(torch.float64).expand(now.shape[1:]).reshape(-1, 1)
        endpoint = WhiteEndpoint() if self.denoiser is None else DenoisedEndpoint(self.denoiser, scaled)
        return DensePrediction(mean, rows * _no_wider_than_the_climate(root), self.scaling, endpoint)

    @property
    def has_state_path(self) -> bool:
        """True without a denoiser: the residual is Gaussian."""
        return self.denoiser is None

    def _held(self, states: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """States within FARTHEST deviations of the climate; NaN stays NaN."""
        middle, reach = self._middle(states), FARTHEST * self._std(states)
        return states.clamp(middle - reach, middle + reach)

    @torch.no_grad()
    def _moments(self, block: Tensor) -> tuple[Tensor, Tensor]:
        n = len(block)
        filled = F.pad(block, (*(0,) * (2 * (block.ndim - 1)), 0, _ROWS - n))
        return self.network(filled)[:n], self.network.covariance_root(filled)[:n]

    def _scaled(self, x: Tensor) -> Tensor:
        return ((x - self._middle(x)) / self._std(x)).to(torch.float32)

    def _middle(self, x: Tensor) -> Tensor:
        mean = torch.tensor(self.scaling.mean, dtype=x.dtype, device=x.device)
        return mean.reshape(-1, *(1,) * (x.ndim - 2))

    def _std(self, x: Tensor) -> Tensor:
        std = torch.tensor(self.scaling.std, dtype=x.dtype, device=x.device)
        return std.reshape(-1, *(1,) * (x.ndim - 2))


def _no_wider_than_the_climate(root: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch n n"]:
    """Scaled roots whose mean variance is at most 1; others are made smaller as a whole."""
    size = root.square().sum(dim=(1, 2)).div(root.shape[1]).sqrt()
    return root / size.clamp(min=1.0)[:, None, None]


@dataclass(frozen=True)
class DensePrediction:
    """The prediction of a `DenseTransition`: every member has a root of its own."""

    mean: Float[Tensor, "batch channel *space"]
    root: Float[Tensor, "batch n n"]  # float64, physical units
    path_scaling: Scaling
    endpoint: EndpointModel = field(default_factory=WhiteEndpoint)  # of the whitened residual

    @cached_property
    def covariance(self) -> Float[Tensor, "batch n n"]:
        """L_i L_i^T."""
        return self.root @ self.root.mT

    @cached_property
    def path_covariance(self) -> MemberCovariances:
        """L_i L_i^T, scaled."""
        std = torch.tensor(self.path_scaling.std, dtype=torch.float64, device=self.root.device)
        rows = std.repeat_interleave(self.root.shape[1] // len(std))[:, None]
        root = self.root / rows
        return MemberCovariances(*torch.linalg.eigh(root @ root.mT))

    def blank(self, dtype: torch.dtype) -> Tensor:
        """Zeros of the shape of the state."""
        return torch.zeros_like(self.mean, dtype=dtype)

    def spread(self, residual: Tensor) -> Tensor:
        """L_i r_i."""
        return self._times(self.root, residual)

    def gather(self, v: Tensor) -> Tensor:
        """L_i^T v_i."""
        return self._times(self.root.mT, v)

    def to_state(self, residual: Tensor) -> Tensor:
        """Mean + L r."""
        return self.mean + self.spread(residual).to(self.mean.dtype)

    def guided(self, observations: StateObservation, noise: MemberNoise) -> GaussNewtonDraw:
        """Conjugate guidance with a dense S for every member."""
        return GaussNewtonDraw(self.endpoint, ResidualObservation(self, observations), noise, iterations=1)

    def observed_slope(self, observations: StateObservation) -> Float[Tensor, "batch obs channel *space"]:
        """H L_i of every member."""
        units = torch.eye(len(observations.values), dtype=torch.float64, device=self.mean.device)
        rows = observations.adjoint(units).flatten(1)
        return (rows @ self.root).unflatten(2, self.mean.shape[1:])

    def observed_variance(self, observations: StateObservation) -> Tensor:
        """Diagonal of H L_i L_i^T H^T, its mean over members."""
        return self.observed_slope(observations).flatten(2).square().sum(dim=2).mean(dim=0)

    @staticmethod
    def _times(matrix: Tensor, v: Tensor) -> Tensor:
        flat = torch.einsum("bij,bj->bi", matrix, v.flatten(1).to(matrix.dtype))
        return flat.reshape(v.shape).to(v.dtype)
