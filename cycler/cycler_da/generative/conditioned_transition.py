"""The learned transition from a start that is known with an error, p(x1 | x0~), x0~ = x0 + l S e.

e is white, S the standard deviations of the scaling (of the climate), l the level, which the network is told. Trained
on pairs (x0~, x1), x1 the successor of the clean x0, it knows the climate as a prior of x0. In the linear-Gaussian
case, x1 = A x0 + q, x0 ~ N(0, B), q ~ N(0, Q),

    p(x1 | x0~) = N(A K x0~, A P A^T + Q),     K = B (B + l^2 S^2)^-1,     P = (I - K) B

At level 0 it is the transition from a state to the next; forecasts are that, and every scheme that names no level.
Limits: e is white and one number says its size, so that directions in which errors grow are not told from others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.dense_transition import DensePrediction, DenseTransition
from cycler_da.generative.networks.base import ConditionedNetwork, MeanAndRoot
from cycler_da.generative.scaling import Scaling

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class ConditionedTransition:
    """The transition; all methods take and give physical units, levels are in standard deviations of the scaling."""

    network: ConditionedNetwork
    scaling: Scaling
    state_climatology: StateClimatology | None = None
    history: int = 1

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels at which it was trained, from 0 on."""
        return self.network.levels

    @property
    def predicts(self) -> type[DensePrediction]:
        """What `predict` gives."""
        return DensePrediction

    @property
    def has_state_path(self) -> bool:
        """Always: the residual is Gaussian."""
        return True

    def predict(self, frames: Float[Tensor, "batch time channel *space"]) -> DensePrediction:
        """Bind the clean transition to the last states of a batch."""
        return self.at_level(0.0).predict(frames)

    def at_level(self, level: float) -> DenseTransition:
        """The transition of starts with errors of one level, at most the largest that was trained."""
        told = AtLevel(self.network, min(level, self.levels[-1]))
        return DenseTransition(told, self.scaling, self.state_climatology, self.history)

    def spread_level(self, states: Float[Tensor, "member channel *space"]) -> float:
        """The spread of an ensemble as a level: its root mean variance, each in units of the climatological one."""
        std = torch.tensor(self.scaling.std, dtype=torch.float64).reshape(-1, *(1,) * (states.ndim - 2))
        return float((states.to(torch.float64).cpu().var(dim=0) / std.square()).mean().sqrt())


class AtLevel(MeanAndRoot):
    """A conditioned network whose level is fixed: a network of states alone."""

    def __init__(self, inner: ConditionedNetwork, level: float) -> None:
        super().__init__()
        self.inner, self.level = inner, level
        self.mean, self.root = inner.mean, inner.root
        self.increment_std = inner.increment_std
        like = inner.base_root.new_full((1,), level)
        self.base_root = inner.roots_at(like)[0].to(inner.base_root.dtype)

    def forward(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Predict the scaled increment over one model step."""
        increment: Tensor = self.inner(with_level(x, self.level))
        return increment

    def whitener(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch n n"]:
        """P of every state."""
        return self.inner.whitener(with_level(x, self.level))

    def covariance_root(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch n n"]:
        """The root of every state, float64."""
        return self.inner.covariance_root(with_level(x, self.level))


def with_level(
    x: Float[Tensor, "batch channel *space"], level: float | Float[Tensor, "batch"]
) -> Float[Tensor, "batch inputs *space"]:
    """States with their levels as the last channel."""
    column = torch.as_tensor(level, dtype=x.dtype, device=x.device).expand(len(x))
    return torch.cat([x, column.reshape(-1, 1, *(1,) * (x.ndim - 2)).expand(-1, 1, *x.shape[2:])], dim=1)
