"""The learned transition of fields that are carried by a motion: advect first, then learn the rest.

For every member, from its own last frames x_{k-2}, x_{k-1}, x_k on the code scale:

    u    = block motion of the frames                     (advection.block_flow)
    a_j  = frames brought to the next time along u        (advection.advect_history)
    mean = a_last + s N_1(a),   std = c exp N_2(a)        N the network, s the scaling, c a constant
    x'   = mean + std * (G r),  r localised as in transition.py; G G^T = K, a short correlation

The covariance D K D differs between members, because std does, and K does not wrap around the domain. The
range of the states is kept by clipping after sampling; where std is at its floor that leaves no-echo areas
without echo but for values far below the first code that counts as echo, which are set to zero as the codec
does. Motion is that of the frames alone; what flows in at the edges is the repeated edge.

Measured (see the card of the weights): residuals are nearly Gaussian in echo and far from it at births,
which happen within a few pixels of echo or, rarely, out of nothing: those are missed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.advection import DEFAULT_FLOW, FlowSettings, advect_history, block_flow
from cycler_da.errors import LayoutMismatch
from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.covariance import WhiteCovariance
from cycler_da.generative.guidance import MemberConjugateDraw
from cycler_da.generative.local_covariance import LocalCovariance, StationaryCorrelation
from cycler_da.generative.prediction import MEMBERS_AT_ONCE, ResidualObservation, StateObservation
from cycler_da.generative.scaling import Scaling

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.localisation import MemberNoise


@dataclass(frozen=True, kw_only=True)
class StateRange:
    """What values a state can have: from `low` to `high`, and nothing between `low` and `first`."""

    low: float = 0.0
    high: float = 254.0 / 255.0
    first: float = 3.0 / 255.0  # below it the codec writes no echo

    def hold(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Bring values into the range."""
        return torch.where(x < self.first, self.low, x.clamp(max=self.high))


@dataclass(frozen=True, kw_only=True)
class SpreadHead:
    """How the network's second output becomes a standard deviation: start * exp(output), held to a range."""

    start: float = 0.04  # of an untrained network, units of the state
    least: float = 0.0025
    most: float = 0.5

    def std(self, output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Standard deviation in the units of the state."""
        return (self.start * torch.exp(output)).clamp(self.least, self.most)


@dataclass(frozen=True)
class MeanAndSpread:
    """The network with its scaling: advected history to mean and standard deviation of the next state."""

    network: nn.Module  # (batch, history, y, x) scaled -> (batch, 2, y, x)
    scaling: Scaling
    spread: SpreadHead = field(default_factory=SpreadHead)

    def __call__(
        self, history: Float[Tensor, "batch time y x"]
    ) -> tuple[Float[Tensor, "batch 1 y x"], Float[Tensor, "batch 1 y x"]]:
        """Mean, not yet held to the range of states, and standard deviation."""
        out = self.network(self.scaling.to_scaled(history[:, :, None])[:, :, 0])
        return history[:, -1:] + self.scaling.stretch(out[:, :1]), self.spread.std(out[:, 1:])


@dataclass(frozen=True)
class AdvectedTransition:
    """A learned transition of one variable on a grid that is not periodic; units of the control variable."""

    model: MeanAndSpread
    correlation: StationaryCorrelation
    state_climatology: StateClimatology | None = None
    history: int = 3
    flow: FlowSettings = DEFAULT_FLOW
    limits: StateRange = field(default_factory=StateRange)

    @property
    def predicts(self) -> type[AdvectedPrediction]:
        """What `predict` gives."""
        return AdvectedPrediction

    def predict(self, frames: Float[Tensor, "batch time 1 y x"]) -> AdvectedPrediction:
        """Bind the transition to the frames of a batch; raises LayoutMismatch unless there is one variable."""
        if frames.shape[2] != 1 or frames.shape[1] < self.history:
            raise LayoutMismatch(
                f"advected transition: got frames of shape {tuple(frames.shape)}, expected one variable at "
                f"{self.history} times or more (member, time, variable, y, x)"
            )
        recent = frames[:, -self.history :, 0].to(torch.float32)
        parts = [self._moments(part) for part in recent.split(MEMBERS_AT_ONCE)]
        mean, std = (torch.cat(column).to(frames.dtype) for column in zip(*parts, strict=True))
        return AdvectedPrediction(mean, LocalCovariance(std, self.correlation), self.limits)

    @torch.no_grad()
    def _moments(self, recent: Float[Tensor, "batch time y x"]) -> tuple[Tensor, Tensor]:
        mean, std = self.model(advect_history(recent, block_flow(recent, settings=self.flow)))
        return mean.clamp(self.limits.low, self.limits.high), std


@dataclass(frozen=True)
class WhiteEndpoint:
    """Endpoint model of a residual that is Gaussian and white: E[r | U] = U / (1 + tau), Cov = I / (1 + tau)."""

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """E[r | U]."""
        return u / (1.0 + tau)

    def covariance(self, tau: float) -> WhiteCovariance:
        """Cov[r | U]."""
        return WhiteCovariance(1.0 / (1.0 + tau))


@dataclass(frozen=True)
class AdvectedPrediction:
    """The prediction of an `AdvectedTransition`: every member has its own D K D."""

    mean: Float[Tensor, "batch 1 y x"]
    residual: LocalCovariance
    limits: StateRange
    endpoint: WhiteEndpoint = WhiteEndpoint()

    def blank(self, dtype: torch.dtype) -> Float[Tensor, "batch 1 torus_y torus_x"]:
        """Zeros of the shape of the whitened residual, which lives on the torus of K."""
        shape = self.residual.noise_shape(self.mean.shape[1:])
        return torch.zeros((len(self.mean), *shape), dtype=dtype, device=self.mean.device)

    def spread(self, residual: Tensor) -> Tensor:
        """D_i G r_i."""
        return self.residual.color(residual)

    def gather(self, v: Tensor) -> Tensor:
        """G^T D_i v_i."""
        return self.residual.gather(v)

    def to_state(self, residual: Tensor) -> Tensor:
        """Mean + D G r, held to the range of states."""
        return self.limits.hold(self.mean + self.spread(residual).to(self.mean.dtype))

    def widened(self, least_std: Float[Tensor, "1 1 y x"]) -> AdvectedPrediction:
        """The same with a standard deviation of at least this."""
        return replace(self, residual=replace(self.residual, std=torch.maximum(self.residual.std, least_std)))

    def guided(self, observations: StateObservation, noise: MemberNoise) -> MemberConjugateDraw:
        """Conjugate guidance with S_i = H D_i K D_i H^T + R of every member."""
        diagonal = observations.hx(self.residual.std.to(torch.float64)) ** 2
        return MemberConjugateDraw(self.endpoint, ResidualObservation(self, observations), noise, diagonal)

    def observed_variance(self, observations: StateObservation) -> Tensor:
        """Mean over members of (H std_i)^2: exact for operators that read one cell, else as if K were one there."""
        return (observations.hx(self.residual.std.to(torch.float64)) ** 2).mean(dim=0)
