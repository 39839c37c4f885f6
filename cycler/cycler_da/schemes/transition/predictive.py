"""The predictive likelihood of every member, p(y | x_i), under a learned transition.

    p(y | x_i) = N(y; h(mean_i), S_i),   S_i = J_i L_i L_i^T J_i^T + R,   J_i = h' at mean_i

exact for linear h and Gaussian residuals; h is linearised at the mean of the transition otherwise. Where h is linear
and members share L there is one S for all. Source: the optimal proposal's weight, Doucet, Godsill, Andrieu (2000),
Stat. Comput. 10, 197-208.

Limit: slopes of every member are (member, observation, state) numbers; above `MOST_NUMBERS`, or where a transition does
not give them, the diagonal alone is formed, and the density leaves correlations between observations out (`is_full`).
Curves of linear observations, J_i = D_i P with D_i diagonal, have diag J L L^T J^T = D_i^2 diag(P L L^T P^T).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.gauss_newton import linearise
from cycler_da.generative.path_weights import log_normal
from cycler_da.generative.prediction import (
    Prediction,
    ResidualObservation,
    SharedCovariancePrediction,
    SlopedPrediction,
)
from cycler_da.obs.base import Observations
from cycler_da.obs.curves import CurvedObservations, is_curved

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Most numbers of dense slopes: 0.25 GB in float64.
MOST_NUMBERS = 2**25


@dataclass(frozen=True)
class Predictive:
    """What every member says of the observations."""

    hx: Float[Tensor, "member obs"]  # h at the mean of the transition, float64
    variance: Float[Tensor, "obs"]  # diagonal of J L L^T J^T, its mean over members
    shared: Float[Tensor, "obs obs"] | None = None  # J L L^T J^T of all members
    of_member: Float[Tensor, "member obs obs"] | None = None  # or of each

    @property
    def is_full(self) -> bool:
        """True when correlations between observations are known."""
        return self.shared is not None or self.of_member is not None

    def mean_covariance(self, error_variance: Float[Tensor, "obs"]) -> Float[Tensor, "obs obs"]:
        """S, its mean over members."""
        if self.of_member is not None:
            return self.of_member.mean(dim=0) + torch.diag(error_variance)
        signal = torch.diag(self.variance) if self.shared is None else self.shared
        return signal + torch.diag(error_variance)

    def covariances(self, error_variance: Float[Tensor, "obs"]) -> Float[Tensor, "member obs obs"]:
        """S of every member."""
        if self.of_member is not None:
            return self.of_member + torch.diag(error_variance)
        return self.mean_covariance(error_variance).expand(len(self.hx), -1, -1)

    def log_density(
        self, values: Float[Tensor, "obs"], error_variance: Float[Tensor, "obs"]
    ) -> Float[Tensor, "member"]:
        """log p(y | x_i)."""
        if self.of_member is not None:
            return log_normal(values - self.hx, self.covariances(error_variance))
        return log_normal(values - self.hx, self.mean_covariance(error_variance))


def predict_observations(prediction: Prediction, observations: Observations) -> Predictive:
    """The predictive likelihood of all members; p(y | x) before R is added."""
    hx = observations.hx(prediction.mean.to(torch.float64))
    if observations.is_linear and isinstance(prediction, SharedCovariancePrediction):
        shared = prediction.observed_covariance(observations)
        return Predictive(hx, shared.diagonal(), shared=shared)
    blank = prediction.blank(torch.float64)
    is_small = blank.numel() * len(observations) <= MOST_NUMBERS
    if observations.is_linear and not (is_small and isinstance(prediction, SlopedPrediction)):
        return Predictive(hx, prediction.observed_variance(observations))
    if not is_small and is_curved(observations) and isinstance(prediction, SharedCovariancePrediction):
        return Predictive(hx, _variance_of_curves(prediction, CurvedObservations.of(observations)))
    if not is_small:
        return Predictive(hx, _variance_by_observation(ResidualObservation(prediction, observations), blank))
    slope = linearise(ResidualObservation(prediction, observations), blank).slope.flatten(2)
    of_member = slope @ slope.mT
    return Predictive(hx, of_member.diagonal(dim1=1, dim2=2).mean(dim=0), of_member=of_member)


def _variance_of_curves(prediction: Prediction, seen: CurvedObservations) -> Float[Tensor, "obs"]:
    """Diagonal of J L L^T J^T, its mean over members, where they share L."""
    _, slopes = seen.curve(seen.inner.hx(prediction.mean.to(torch.float64)))
    return slopes.square().mean(dim=0) * prediction.observed_variance(seen.inner)


def _variance_by_observation(seen: ResidualObservation, at: Tensor) -> Float[Tensor, "obs"]:
    """Diagonal of J L L^T J^T, its mean over members, one backward pass of h for each observation."""
    with torch.enable_grad():
        x = at.requires_grad_()
        hx = seen(x)
        rows = (torch.autograd.grad(hx[:, i].sum(), x, retain_graph=True)[0] for i in range(hx.shape[1]))
        return torch.stack([row.flatten(1).square().sum(dim=1).mean() for row in rows])
