"""Multilayer perceptron of a residual denoiser, for states of few variables.

    F(z0, w, tau) = tau / (1 + tau) * tower(z0, w, log(tau) / 5, tau / (1 + tau))

z0 the scaled state, w the noisy residual at unit variance, n values each. The gate makes F zero at tau = 0, where a
residual that was whitened by its own mean and root has no more to say, and lets it grow as tau, as the third cumulant
does. The last layer starts at zero: the Gaussian. log(tau) is held within e^-5 to e^6, about where taus are trained.
Limits: the state is flattened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.networks.base import network
from cycler_da.generative.networks.mlp import tower

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_LOG_TAU = (-5.0, 6.0)


@network("residual_mlp")
class ResidualMlp(nn.Module):
    """The network; `size` is the number of values of a state, `depth` the number of hidden layers."""

    def __init__(self, *, size: int, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.size = size
        self.tower = tower(2 * size + 2, size, width=width, depth=depth)

    def forward(
        self, x: Float[Tensor, "batch 2*channel *space"], tau: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch channel *space"]:
        """F of states and noisy residuals, joined along the channel."""
        gate = (tau / (1.0 + tau))[:, None]
        level = torch.log(tau.clamp(min=1e-12)).clamp(*_LOG_TAU)[:, None] / 5.0
        flat: Tensor = gate * self.tower(torch.cat([x.flatten(1), level, gate], dim=1))
        return flat.reshape(len(x), x.shape[1] // 2, *x.shape[2:])
