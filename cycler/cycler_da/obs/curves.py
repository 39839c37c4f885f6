"""Observations that are curves of linear ones, taken apart: h(x) = c(s), s = P x, so that h'(x) = c'(s) P.

P reads what an operator sees before its curve; c acts on each observation by itself. The slope of all of them is then
one number each, and P, which has a transpose.
Limits: operators of `nonlinear` alone have a curve; others that are not linear are left as they are, and `is_curved` is
false with one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.nonlinear import CurveOperator

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def uncurved(observations: Observations) -> Observations:
    """The same observations without their curves: their `hx` is s. Values and errors stay, and are not of s."""
    return replace(observations, batches=tuple(_uncurved(batch) for batch in observations.batches))


def is_curved(observations: Observations) -> bool:
    """True where some are curves, and all are linear without them."""
    return not observations.is_linear and uncurved(observations).is_linear


@dataclass(frozen=True)
class CurvedObservations:
    """Observations for which `is_curved` holds, with P."""

    observations: Observations
    inner: Observations

    @classmethod
    def of(cls, observations: Observations) -> CurvedObservations:
        """Take observations apart; raises ValueError where they are no curves of linear ones."""
        if not is_curved(observations):
            names = ", ".join(batch.operator.name for batch in observations.batches)
            raise ValueError(f"observations through {names} are no curves of linear ones")
        return cls(observations, uncurved(observations))

    def curve(self, s: Float[Tensor, "batch obs"]) -> tuple[Float[Tensor, "batch obs"], Float[Tensor, "batch obs"]]:
        """c(s) and c'(s) of every observation."""
        sizes = [len(batch) for batch in self.observations.batches]
        pairs = [
            _curve(batch, part) for batch, part in zip(self.observations.batches, s.split(sizes, dim=1), strict=True)
        ]
        values, slopes = zip(*pairs, strict=True)
        return torch.cat(values, dim=1), torch.cat(slopes, dim=1)


def _uncurved(batch: ObsBatch) -> ObsBatch:
    operator = batch.operator
    return replace(batch, operator=operator.inner) if isinstance(operator, CurveOperator) else batch


def _curve(batch: ObsBatch, s: Tensor) -> tuple[Tensor, Tensor]:
    operator = batch.operator
    if not isinstance(operator, CurveOperator):
        return s, torch.ones_like(s)
    # Tensors made in inference mode cannot be differentiated: clones made outside of it can.
    with torch.inference_mode(mode=False), torch.enable_grad():
        at = s.clone().requires_grad_()
        values = operator.curve(at / operator.scale)
        (slopes,) = torch.autograd.grad(values.sum(), at)
    return values.detach(), slopes
