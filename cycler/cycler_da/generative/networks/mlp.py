"""Multilayer perceptron for states of few variables: an increment and the root of its covariance.

Two towers that share nothing, so that the second can be fitted when the first is done:

    mean   x  ->  increment, in units of its own standard deviation
    root   x  ->  n (n + 1) / 2 entries of a lower triangle P: exp on the diagonal, free below it

P whitens: the root of the covariance is base_root P^-1. A likelihood then needs products alone, no solve.

Both are n -> width -> ... with SiLU between. The last layers start at zero: persistence, and P = I. The standard
deviation of the increment and the root of the residual's mean covariance are buffers, measured in training.
Limits: the state is flattened; for fields use a U-Net or a spectral network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.networks.base import MeanAndRoot, network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@network("mlp")
class Mlp(MeanAndRoot):
    """The network; `size` is the number of values of a state, `depth` the number of hidden layers of each tower."""

    def __init__(self, *, size: int, width: int = 96, depth: int = 3) -> None:
        super().__init__()
        self.size = size
        self.mean = tower(size, size, width=width, depth=depth)
        self.root = tower(size, size * (size + 1) // 2, width=width, depth=depth)
        self.register_buffer("increment_std", torch.ones(size))
        self.register_buffer("base_root", torch.eye(size))

    def forward(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Predict the scaled increment over one model step."""
        flat: Tensor = self.mean(x.flatten(1)) * self.increment_std
        return flat.reshape(x.shape)

    def whitener(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch n n"]:
        """P of every state, lower triangular with a positive diagonal."""
        flat = self.root(x.flatten(1))
        below = torch.zeros((len(flat), self.size, self.size), dtype=flat.dtype, device=flat.device)
        rows, columns = torch.tril_indices(self.size, self.size, offset=-1, device=flat.device)
        below[:, rows, columns] = flat[:, self.size :]
        return below + torch.diag_embed(torch.exp(flat[:, : self.size]))

    def covariance_root(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch n n"]:
        """L0 P^-1 of every state, float64."""
        whitener, base = self.whitener(x).to(torch.float64), self.base_root.to(torch.float64)
        root: Tensor = torch.linalg.solve_triangular(whitener, base, upper=False, left=False)
        return root


def tower(n_inputs: int, n_outputs: int, *, width: int, depth: int) -> nn.Sequential:
    """Hidden layers with SiLU between, and a last layer that starts at zero."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(n_inputs if i == 0 else width, width), nn.SiLU()]
    last = nn.Linear(width, n_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
