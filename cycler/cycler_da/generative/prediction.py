"""What a learned transition says of the next states of a batch, whatever kind of transition it is.

    x1 = mean + L_i r,   r the whitened residual, localised: E[r | U] and Cov[r | U] from the endpoint model

A `Prediction` is bound to the frames of its members; L_i may be one operator for all of them or one for each.
Forecasts draw r and take `to_state`; guided analyses draw r from `guided(observations)`. Linear observations
of the state are seen as observations of r through `ResidualObservation`: H(mean + L_i r).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cycler_da.generative.localisation import EndpointDraw, EndpointModel, MemberNoise

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.climatology import StateClimatology

#: Members whose networks run at once; fixed, so that bytes do not depend on the batch they come in.
MEMBERS_AT_ONCE = 8


class StateObservation(Protocol):
    """What guidance needs of `obs.base.Observations`."""

    @property
    def values(self) -> Float[Tensor, "obs"]:
        """Observed values, float64."""
        ...

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R, float64."""
        ...

    def hx(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """H x, linear in x."""
        ...

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """H^T v."""
        ...


@runtime_checkable
class Prediction(Protocol):
    """A transition bound to the frames of a batch; all methods take and give the units of the states."""

    @property
    def mean(self) -> Float[Tensor, "batch channel *space"]:
        """Mean of the next state of every member."""
        ...

    @property
    def endpoint(self) -> EndpointModel:
        """The whitened residual's endpoint model."""
        ...

    def blank(self, dtype: torch.dtype) -> Float[Tensor, "batch channel *space"]:
        """Zeros of the shape of the whitened residual, which may be larger than the state."""
        ...

    def spread(self, residual: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """L_i r."""
        ...

    def gather(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """L_i^T v."""
        ...

    def to_state(self, residual: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Mean + L_i r, held to the range that states can have."""
        ...

    def guided(self, observations: StateObservation, noise: MemberNoise) -> EndpointDraw:
        """Draw of the whitened residual given linear observations of the state."""
        ...

    def observed_variance(self, observations: StateObservation) -> Float[Tensor, "obs"]:
        """Diagonal of H L L^T H^T, its mean over members where they differ."""
        ...


@runtime_checkable
class SharedCovariancePrediction(Prediction, Protocol):
    """A prediction whose residual covariance all members share."""

    def observed_covariance(self, observations: StateObservation) -> Float[Tensor, "obs obs"]:
        """H L L^T H^T, for linear observations."""
        ...


@runtime_checkable
class SlopedPrediction(Prediction, Protocol):
    """A prediction of few values, whose members' roots are matrices."""

    def observed_slope(self, observations: StateObservation) -> Float[Tensor, "batch obs channel *space"]:
        """H L_i of every member, for linear observations; float64."""
        ...


@runtime_checkable
class WidenedPrediction(Prediction, Protocol):
    """A prediction whose spread differs from place to place and can be made larger where it was too small."""

    def widened(self, least_std: Float[Tensor, "1 channel *space"]) -> Prediction:
        """The same with a standard deviation of at least this, units of the states."""
        ...


@runtime_checkable
class LearnedTransition(Protocol):
    """A learned x_k -> x_{k+1}.

    It may say beforehand what kind of prediction it makes, by a property `predicts` (`schemes.transition.kinds`).
    """

    @property
    def history(self) -> int:
        """Past states it reads, the present included."""
        ...

    @property
    def state_climatology(self) -> StateClimatology | None:
        """Mean and covariance of the states of the system."""
        ...

    def predict(self, frames: Float[Tensor, "batch time channel *space"]) -> Prediction:
        """What is known of the next state of every member, given its last `history` frames."""
        ...


@runtime_checkable
class LeveledTransition(LearnedTransition, Protocol):
    """A transition from starts with errors, whose size it can be told (`conditioned_transition`)."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels at which it was trained, from 0 on, in climatological standard deviations."""
        ...

    def at_level(self, level: float) -> LearnedTransition:
        """The transition of starts with errors of one level."""
        ...

    def spread_level(self, states: Float[Tensor, "member channel *space"]) -> float:
        """The spread of an ensemble as a level."""
        ...


@dataclass(frozen=True)
class ResidualObservation:
    """Linear observations of the state seen as observations of the whitened residual, for guidance."""

    prediction: Prediction
    observations: StateObservation

    @property
    def values(self) -> Tensor:
        """Observed values."""
        return self.observations.values

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R."""
        return self.observations.error_variance

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """H(mean + L r) of every member."""
        return self.observations.hx(self.prediction.mean.to(x.dtype) + self.prediction.spread(x))

    def known_slope(self) -> Float[Tensor, "batch obs channel *space"] | None:
        """H L_i where the observations are linear and the prediction knows it; None elsewhere."""
        if isinstance(self.prediction, SlopedPrediction) and getattr(self.observations, "is_linear", False):
            return self.prediction.observed_slope(self.observations)
        return None

    def linear(self, v: Float[Tensor, "any channel *space"]) -> Float[Tensor, "any obs"]:
        """H L v."""
        return self.observations.hx(self.prediction.spread(v))

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """L^T H^T v."""
        return self.prediction.gather(self.observations.adjoint(v))


class CurvedStateObservation(Protocol):
    """What curved guidance needs of `obs.curves.CurvedObservations`."""

    @property
    def observations(self) -> StateObservation:
        """The observations themselves: values, errors, h."""
        ...

    @property
    def inner(self) -> StateObservation:
        """Their linear part P."""
        ...

    def curve(self, s: Float[Tensor, "batch obs"]) -> tuple[Float[Tensor, "batch obs"], Float[Tensor, "batch obs"]]:
        """c(s) and c'(s)."""
        ...


@dataclass(frozen=True)
class CurvedResidualObservation:
    """Curves of linear observations of the state seen as observations of the whitened residual."""

    prediction: Prediction
    seen: CurvedStateObservation

    @property
    def values(self) -> Tensor:
        """Observed values."""
        return self.seen.observations.values

    @property
    def error_variance(self) -> Tensor:
        """Diagonal of R."""
        return self.seen.observations.error_variance

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """h(mean + L r) of every member."""
        return self.curve(self.inner(x))[0]

    def inner(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """P(mean + L r)."""
        return self._before(x)

    def curve(self, s: Float[Tensor, "batch obs"]) -> tuple[Float[Tensor, "batch obs"], Float[Tensor, "batch obs"]]:
        """c(s) and c'(s)."""
        return self.seen.curve(s)

    def linear(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """P L v."""
        return self._before.linear(v)

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """L^T P^T v."""
        return self._before.adjoint(v)

    @property
    def _before(self) -> ResidualObservation:
        return ResidualObservation(self.prediction, self.seen.inner)
