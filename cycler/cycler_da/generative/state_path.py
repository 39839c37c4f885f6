"""The interpolant from a state to its successor, in scaled states: the coordinates in which FlowDAS is published.

    I_s = alpha z_k + beta z_{k+1} + sigma W_s,     z = (x - mean) / std,     z_{k+1} ~ N(m, C) given z_k
    E[z_{k+1} | U_tau = u] = m + (C^-1 + tau I)^-1 (u - tau m)

so the drift of a Gaussian transition is known for every s (`interpolant`, `drift_sampler.EndpointDrift`). The other
coordinates, of the whitened residual, have the same endpoints, but a path whose noise is as large as the residual and
not as the state: where a guide pulls by a step that has no unit, the two are different algorithms.
Source: Chen et al. (2025), FlowDAS, arXiv:2501.16642, section 3; conditioning of Gaussians.

Limits: Gaussian transitions with a covariance that can be damped in closed form: one for all members, or small dense
ones. A residual denoiser, and standard deviations that vary over the field (radar), know no such path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.analytic import GaussianEndpoint
from cycler_da.generative.covariance import Covariance
from cycler_da.generative.prediction import LearnedTransition, Prediction, StateObservation
from cycler_da.generative.scaling import Scaling

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class PathTransition(LearnedTransition, Protocol):
    """A transition whose predictions may be `PathPrediction`."""

    @property
    def has_state_path(self) -> bool:
        """True where they are: what is left of the mean is Gaussian."""
        ...


@runtime_checkable
class PathPrediction(Prediction, Protocol):
    """A Gaussian prediction with a scaled covariance that can be damped."""

    @property
    def path_scaling(self) -> Scaling:
        """Units of the path."""
        ...

    @property
    def path_covariance(self) -> Covariance:
        """C, scaled."""
        ...


@dataclass(frozen=True)
class MemberCovariances:
    """A dense covariance for each member, by its eigenvectors; states come as one row or several for each member."""

    values: Float[Tensor, "batch n"]
    vectors: Float[Tensor, "batch n n"]

    def apply(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """C_i v_i."""
        return self._function(v, self.values)

    def color(self, z: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """C_i^1/2 z_i."""
        return self._function(z, self.values.clamp(min=0.0).sqrt())

    def whiten(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """C_i^-1/2 v_i; directions without variance give zero."""
        floor = 1e-14 * self.values.amax(dim=1, keepdim=True)
        return self._function(v, torch.where(self.values > floor, self.values.clamp(min=floor).rsqrt(), 0.0))

    def damped(self, precision: float) -> MemberCovariances:
        """(C_i^-1 + precision I)^-1."""
        values = self.values.clamp(min=0.0)
        return MemberCovariances(values / (1.0 + precision * values), self.vectors)

    def _function(self, v: Tensor, values: Tensor) -> Tensor:
        rows = v.flatten(1).to(self.vectors).unflatten(0, (len(values), -1))
        turned = torch.einsum("bij,bri->brj", self.vectors, rows) * values[:, None]
        return torch.einsum("bij,brj->bri", self.vectors, turned).reshape(v.shape).to(v.dtype)


@dataclass(frozen=True)
class StatePath:
    """A prediction as the end of a path from the present state; scaled, float64."""

    start: Float[Tensor, "batch channel *space"]
    endpoint: GaussianEndpoint
    scaling: Scaling

    def to_physical(self, z: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Scaled to physical."""
        mean, std = _columns(self.scaling, z)
        return mean + std * z


@dataclass(frozen=True)
class PathObservation:
    """Observations of physical states seen as observations of scaled ones, in units of `scale`."""

    observations: StateObservation
    path: StatePath
    scale: Float[Tensor, "obs"]

    @property
    def values(self) -> Tensor:
        """Observed values."""
        return self.observations.values / self.scale

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R."""
        return self.observations.error_variance / self.scale**2

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """h of the physical states."""
        return self.observations.hx(self.path.to_physical(x)) / self.scale


@dataclass(frozen=True)
class LinearPathObservation(PathObservation):
    """Linear ones."""

    def linear(self, v: Float[Tensor, "any channel *space"]) -> Float[Tensor, "any obs"]:
        """H of differences."""
        return self.observations.hx(_columns(self.path.scaling, v)[1] * v) / self.scale

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """Its transpose."""
        back = self.observations.adjoint(v / self.scale)
        return _columns(self.path.scaling, back)[1] * back

    def of_draws(self, e: Float[Tensor, "batch draw channel *space"]) -> Float[Tensor, "batch draw obs"]:
        """H of every draw, outside the graph."""
        with torch.no_grad():
            return self.linear(e.flatten(0, 1)).unflatten(0, e.shape[:2])


def has_state_path(transition: LearnedTransition) -> bool:
    """True where `state_path` knows the predictions of a transition."""
    return isinstance(transition, PathTransition) and transition.has_state_path


def state_path(prediction: Prediction, now: Float[Tensor, "batch channel *space"]) -> StatePath:
    """The path from the present states to what is predicted; raises AnalysisFailed where there is none."""
    if not isinstance(prediction, PathPrediction):
        raise AnalysisFailed(
            f"the path from state to state is not known for {type(prediction).__name__}; expected a Gaussian residual "
            "with one covariance, or a dense one for each member. Take coordinates: residual"
        )
    scaling = prediction.path_scaling
    mean, std = _columns(scaling, now.to(torch.float64))
    start, end = ((x.to(torch.float64) - mean) / std for x in (now, prediction.mean))
    return StatePath(start, GaussianEndpoint(end, prediction.path_covariance), scaling)


def observe_path(
    path: StatePath, observations: StateObservation, scale: Float[Tensor, "obs"], *, is_linear: bool
) -> PathObservation:
    """Observations of the states on a path, in units of `scale`."""
    kind = LinearPathObservation if is_linear else PathObservation
    return kind(observations, path, scale)


def _columns(scaling: Scaling, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel, for any number of space axes."""
    shape = (-1, *(1,) * (like.ndim - 2))
    mean, std = (torch.tensor(x, dtype=like.dtype, device=like.device) for x in (scaling.mean, scaling.std))
    return mean.reshape(shape), std.reshape(shape)
