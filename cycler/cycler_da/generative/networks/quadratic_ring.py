"""Quadratic network on a ring: translation-equivariant, made of short filters and products.

    a_i, b_i = A_i z_{i-1}, B_i z_{i-1}            learned filters of `width` points, C -> K fields each
    n_i      = a_i * b_i                           products at every point
    z_i      = x + L_i x + sum_{j <= i} R_ij n_j   learned filters of one point (L_i of `width`), K -> C

for i = 1 ... S; the mean increment is z_S - x. A Runge-Kutta step of an equation that is quadratic and local, such as
Lorenz-96, lies in this family with one product and one stage for each of its stages. It is `quadratic_spectral` in one
dimension, with local filters.

A second tower of filters and SiLU gives the logarithm of the local precision p, so that the root of the residual's
covariance is base_root diag(exp(-p(x))): the spread depends on the state. It starts at zero, as the increment does.
Limits: one periodic axis; outside the range of the training states products grow without bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.networks.base import MeanAndRoot, network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class RingFilter(nn.Module):
    """A filter of `width` points around the ring, `(batch, n_in, x)` to `(batch, n_out, x)`.

    One product of matrices: on short rings that is several times faster than a convolution.
    """

    def __init__(self, n_in: int, n_out: int, width: int, *, zero: bool = False) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(n_in * width, n_out)
        if zero:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "batch inn x"]) -> Float[Tensor, "batch out x"]:
        """Apply the filter."""
        reach = self.width // 2
        around = torch.cat([x[..., x.shape[-1] - reach :], x, x[..., :reach]], dim=-1)
        near = around.unfold(-1, self.width, 1).transpose(1, 2).flatten(2)
        filtered: Tensor = self.linear(near)
        return filtered.transpose(1, 2)


class QuadraticStages(nn.Module):
    """The tower of the mean: `(batch, channel, x)` to an increment of the same shape."""

    def __init__(self, channels: int, products: int, stages: int, width: int) -> None:
        super().__init__()
        self.factors = nn.ModuleList(RingFilter(channels, 2 * products, width) for _ in range(stages))
        self.linear = nn.ModuleList(RingFilter(channels, channels, width, zero=True) for _ in range(stages))
        self.returns = nn.ModuleList(RingFilter((i + 1) * products, channels, 1, zero=True) for i in range(stages))

    def forward(self, x: Float[Tensor, "batch channel x"]) -> Float[Tensor, "batch channel x"]:
        """The increment."""
        state, change, products = x, torch.zeros_like(x), []
        for factors, linear, returns in zip(self.factors, self.linear, self.returns, strict=True):
            left, right = factors(state).chunk(2, dim=1)
            products.append(left * right)
            change = linear(x) + returns(torch.cat(products, dim=1))
            state = x + change
        return change


@network("quadratic_ring")
class QuadraticRingNet(MeanAndRoot):
    """The network; input and output are `(batch, channel, x)` in scaled units, `size` the number of points."""

    def __init__(
        self,
        *,
        size: int,
        channels: int = 1,
        products: int = 4,
        stages: int = 4,
        width: int = 5,
        spread_width: int = 16,
    ) -> None:
        super().__init__()
        self.size = size
        self.mean = QuadraticStages(channels, products, stages, width)
        self.root = nn.Sequential(
            RingFilter(channels, spread_width, width),
            nn.SiLU(),
            RingFilter(spread_width, spread_width, width),
            nn.SiLU(),
            RingFilter(spread_width, channels, width, zero=True),
        )
        self.register_buffer("increment_std", torch.ones(size * channels))
        self.register_buffer("base_root", torch.eye(size * channels))

    def forward(self, x: Float[Tensor, "batch channel x"]) -> Float[Tensor, "batch channel x"]:
        """Predict the scaled increment over one model step."""
        increment: Tensor = self.mean(x)
        return increment

    def whitener(self, x: Float[Tensor, "batch channel x"]) -> Float[Tensor, "batch n n"]:
        """P = diag(exp(p)) of every state."""
        return torch.diag_embed(torch.exp(self._log_precision(x)))

    def covariance_root(self, x: Float[Tensor, "batch channel x"]) -> Float[Tensor, "batch n n"]:
        """base_root diag(exp(-p)) of every state, float64."""
        deviation = torch.exp(-self._log_precision(x)).to(torch.float64)
        return self.base_root.to(torch.float64) * deviation[:, None, :]

    def _log_precision(self, x: Tensor) -> Float[Tensor, "batch n"]:
        return self.root(x).flatten(1)
