"""The learned transition x_k -> x_{k+1}: a mean network and a localised, whitened residual.

In scaled units, with frames the present state and its history,

    x1 = mu(frames) + L r,   L L^T = C0 (covariance of the residual on a torus, held-out pairs)

and r is localised: U = tau r + B, E[r | U] = U / (1 + tau) + F(frames, U, tau) / sqrt(1 + tau), with
Cov[r | U] = I / (1 + tau). F is a residual denoiser; without one the residual is Gaussian, which makes
every number of sampling steps exact under the learned model.

The mean path is the same function in training, validation and cycling: it takes no noise channel, so that
it cannot be asked at tau = 0 for something it never saw. Noise that enters before the step (`kicks`) is added to the
frames by `kicked` and not by `predict`, so that a filter can move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from cycler_da.generative.climatology import ScaledCovariance, StateClimatology
from cycler_da.generative.covariance import Covariance, WhiteCovariance
from cycler_da.generative.guidance import ConjugateDraw, observation_covariance, observation_variance
from cycler_da.generative.prediction import MEMBERS_AT_ONCE, ResidualObservation, StateObservation
from cycler_da.generative.scaling import Scaling

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.localisation import MemberNoise


class ResidualDenoiser(Protocol):
    """F(frames, U, tau): what is known of the whitened residual beyond a Gaussian."""

    def __call__(self, frames: Tensor, u: Tensor, tau: float) -> Tensor:
        """Scaled correction of the residual's mean, `(batch, channel, *space)`."""
        ...


@dataclass(frozen=True)
class Transition:
    """A learned transition; all methods take and give physical units.

    `mean_network` maps scaled frames `(batch, history * channel, *space)` to the scaled increment.
    """

    mean_network: nn.Module
    scaling: Scaling
    residual_covariance: Covariance  # of the scaled residual
    climatology: Covariance | None = None  # of scaled states about the scaling's mean
    history: int = 1
    denoiser: ResidualDenoiser | None = None
    early_covariance: Covariance | None = None  # of the scaled noise that enters before the step (`kicks`)

    @property
    def state_climatology(self) -> StateClimatology | None:
        """Mean and covariance of the states, physical units."""
        if self.climatology is None:
            return None
        mean = torch.tensor(self.scaling.mean, dtype=torch.float64)
        return StateClimatology(mean, ScaledCovariance(self.scaling, self.climatology))

    @property
    def has_state_path(self) -> bool:
        """True where the residual is Gaussian, so that paths from state to state are known (`state_path`)."""
        return self.denoiser is None

    def kicked(
        self, frames: Float[Tensor, "batch time channel *space"], noise: MemberNoise
    ) -> Float[Tensor, "batch time channel *space"]:
        """Frames whose last state has taken the noise that enters before the step."""
        if self.early_covariance is None:
            return frames
        state = frames[:, -1]
        kick = self.early_covariance.color(noise.normal("kick", tuple(state.shape[1:]), step=0))
        return torch.cat([frames[:, :-1], (state + self.scaling.stretch(kick).to(state.dtype))[:, None]], dim=1)

    @property
    def predicts(self) -> type[SharedPrediction]:
        """What `predict` gives."""
        return SharedPrediction

    def predict(self, frames: Float[Tensor, "batch time channel *space"]) -> SharedPrediction:
        """Bind the transition to the frames of a batch."""
        mean = torch.cat([self.mean(part) for part in frames.split(MEMBERS_AT_ONCE)])
        return SharedPrediction(self, frames, mean)

    def mean(self, frames: Float[Tensor, "batch time channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Mean of the next state given the last `history` frames."""
        with torch.inference_mode():
            scaled = self.scaling.to_scaled(frames[:, -self.history :].to(torch.float32))
            increment = self.mean_network(scaled.flatten(1, 2))
            return (frames[:, -1] + self.scaling.stretch(increment).to(frames.dtype)).clone()

    def endpoint(self, frames: Float[Tensor, "batch time channel *space"]) -> TransitionEndpoint:
        """The whitened residual's endpoint model, bound to these frames."""
        return TransitionEndpoint(self, frames)

    def to_state(self, mean: Float[Tensor, "batch channel *space"], residual: Tensor) -> Tensor:
        """mean + L r, from the whitened residual."""
        return mean + self.spread_residual(residual).to(mean.dtype)

    def spread_residual(self, residual: Float[Tensor, "batch channel *space"]) -> Tensor:
        """L r in physical units; L is symmetric up to the scaling."""
        return self.scaling.stretch(self.residual_covariance.color(residual))

    def gather_residual(self, v: Float[Tensor, "batch channel *space"]) -> Tensor:
        """L^T v, the transpose of `spread_residual`."""
        return self.residual_covariance.color(self.scaling.stretch(v))


@dataclass(frozen=True)
class TransitionEndpoint:
    """Endpoint model of the whitened residual r given U_tau and the frames."""

    transition: Transition
    frames: Float[Tensor, "batch time channel *space"]

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """E[r | U]."""
        linear = u / (1.0 + tau)
        if self.transition.denoiser is None:
            return linear
        scaled = self.transition.scaling.to_scaled(self.frames[:, -self.transition.history :].to(torch.float32))
        learned = self.transition.denoiser(scaled.flatten(1, 2), u.to(torch.float32), tau)
        return linear + learned.to(u.dtype) / (1.0 + tau) ** 0.5

    def covariance(self, tau: float) -> WhiteCovariance:
        """Cov[r | U]."""
        return WhiteCovariance(1.0 / (1.0 + tau))


@dataclass(frozen=True)
class SharedPrediction:
    """The prediction of a `Transition`: all members share L."""

    transition: Transition
    frames: Float[Tensor, "batch time channel *space"]
    mean: Float[Tensor, "batch channel *space"]

    @property
    def endpoint(self) -> TransitionEndpoint:
        """The whitened residual's endpoint model."""
        return self.transition.endpoint(self.frames)

    @property
    def path_scaling(self) -> Scaling:
        """Units of the path from state to state."""
        return self.transition.scaling

    @property
    def path_covariance(self) -> Covariance:
        """C0, scaled."""
        return self.transition.residual_covariance

    def blank(self, dtype: torch.dtype) -> Tensor:
        """Zeros of the shape of the state."""
        return torch.zeros_like(self.mean, dtype=dtype)

    def spread(self, residual: Tensor) -> Tensor:
        """L r."""
        return self.transition.spread_residual(residual)

    def gather(self, v: Tensor) -> Tensor:
        """L^T v."""
        return self.transition.gather_residual(v)

    def to_state(self, residual: Tensor) -> Tensor:
        """Mean + L r."""
        return self.transition.to_state(self.mean, residual)

    def guided(self, observations: StateObservation, noise: MemberNoise) -> ConjugateDraw:
        """Conjugate guidance with one S for all members."""
        return ConjugateDraw(self.endpoint, ResidualObservation(self, observations), noise)

    def observed_covariance(self, observations: StateObservation) -> Tensor:
        """H L L^T H^T, exact."""
        white = self.endpoint.covariance(0.0)
        seen = ResidualObservation(self, observations)
        return observation_covariance(white, seen, like=self.mean)

    def observed_variance(self, observations: StateObservation) -> Tensor:
        """Diagonal of H L L^T H^T, exact."""
        white = self.endpoint.covariance(0.0)
        return observation_variance(white, ResidualObservation(self, observations), like=self.mean)
