"""Observation operators linearised about a state: H v and H^T w, for a linear h exactly, else by differentiation.

    H = h'(x),   forward: v -> H v,   transpose: w -> H^T w        (row i at its own state x_i)

A linear operator has its own transpose; its H v is h(v) - h(0), because an offset is no part of H. For others both
come from automatic differentiation of h alone (H v by differentiating H^T w once more), so h must be differentiable
torch operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.obs.base import Observations

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Linearised:
    """H and its transpose at `states`; of linear operators for any number of rows."""

    observations: Observations
    states: Float[Tensor, "row channel *space"]

    def forward(self, v: Float[Tensor, "row channel *space"]) -> Float[Tensor, "row obs"]:
        """H v, row by row."""
        if self.observations.is_linear:
            return self.observations.hx(v) - self._offset.to(v.dtype)
        # Tensors made in inference mode cannot be differentiated: clones made outside of it can.
        with torch.inference_mode(mode=False), torch.enable_grad():
            x = self.states.clone().requires_grad_()
            hx = self.observations.hx(x)
            w = torch.zeros_like(hx, requires_grad=True)
            (gathered,) = torch.autograd.grad(hx, x, w, create_graph=True)
            # H^T w is linear in w: its own transpose is H.
            (moved,) = torch.autograd.grad(gathered, w, v.clone())
        return moved

    @cached_property
    def _offset(self) -> Float[Tensor, "1 obs"]:
        return self.observations.hx(torch.zeros_like(self.states[:1]))

    def transpose(self, w: Float[Tensor, "row obs"]) -> Float[Tensor, "row channel *space"]:
        """H^T w, row by row."""
        if self.observations.is_linear:
            return self.observations.adjoint(w)
        with torch.inference_mode(mode=False), torch.enable_grad():
            x = self.states.clone().requires_grad_()
            (gathered,) = torch.autograd.grad(self.observations.hx(x), x, w.clone())
        return gathered
