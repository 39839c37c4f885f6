"""Network on a ring for starts that are known with an error, whose size (the level) is one more constant channel.

    c   = l D(x, log(1 + l / SMALL))              a tower of filters and SiLU: what the error is expected to be
    mu  = c + Q(x + c)                            Q the stages of `quadratic_ring`, at the corrected state

At level 0 c is 0, and the network is `quadratic_ring`. The root of the residual's covariance is, with p(x, l) a second
tower of filters and SiLU,

    L(x, l) = chol(C(l)) diag(exp(-p(x, l))),     C(l) linear in l^2 between the levels at which it was measured

for C grows as C(0) + l^2 A A^T where l is small. Both towers start at zero. Limits: those of `quadratic_ring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.networks.base import ConditionedNetwork, network
from cycler_da.generative.networks.quadratic_ring import QuadraticStages, RingFilter

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Level below which towers see levels as they are, and above which by their logarithm; an analysis error of Lorenz-96.
SMALL = 0.05


class CorrectedStages(nn.Module):
    """The tower of the mean: states and levels to an increment."""

    def __init__(self, channels: int, products: int, stages: int, width: int, correction_width: int) -> None:
        super().__init__()
        self.clean = QuadraticStages(channels, products, stages, width)
        self.correction = _tower(channels, correction_width, width, layers=3)

    def forward(self, x: Float[Tensor, "batch inputs x"]) -> Float[Tensor, "batch channel x"]:
        """The increment; the last channel of the input is the level."""
        change = x[:, -1:] * self.correction(_seen(x))
        increment: Tensor = change + self.clean(x[:, :-1] + change)
        return increment


@network("conditioned_ring")
class ConditionedRingNet(ConditionedNetwork):
    """The network; input is `(batch, channel + 1, x)`, scaled states and their level, output `(batch, channel, x)`."""

    def __init__(
        self,
        *,
        size: int,
        levels: Sequence[float],
        channels: int = 1,
        products: int = 4,
        stages: int = 4,
        width: int = 5,
        correction_width: int = 32,
        spread_width: int = 16,
    ) -> None:
        super().__init__(levels)
        if width % 2 == 0 or not 1 <= width <= size:
            raise ConfigError(f"network conditioned_ring: width is {width}; expected an odd number up to size {size}")
        self.size = size
        self.mean = CorrectedStages(channels, products, stages, width, correction_width)
        self.root = _tower(channels, spread_width, width, layers=2)
        self.register_buffer("increment_std", torch.ones(size * channels))
        self.register_buffer("base_root", torch.eye(size * channels).repeat(len(self.levels), 1, 1))

    def forward(self, x: Float[Tensor, "batch inputs x"]) -> Float[Tensor, "batch channel x"]:
        """Predict the scaled increment over one model step."""
        increment: Tensor = self.mean(x)
        return increment

    def whitener(self, x: Float[Tensor, "batch inputs x"]) -> Float[Tensor, "batch n n"]:
        """P = diag(exp(p)) of every state."""
        return torch.diag_embed(torch.exp(self._log_precision(x)))

    def covariance_root(self, x: Float[Tensor, "batch inputs x"]) -> Float[Tensor, "batch n n"]:
        """chol(C(l)) diag(exp(-p)) of every state, float64."""
        deviation = torch.exp(-self._log_precision(x)).to(torch.float64)
        return self.roots_at(x[:, -1].flatten(1)[:, 0]) * deviation[:, None, :]

    def _log_precision(self, x: Tensor) -> Float[Tensor, "batch n"]:
        return self.root(_seen(x)).flatten(1)


def _seen(x: Float[Tensor, "batch inputs x"]) -> Tensor:
    """The state, and the level as towers see it."""
    return torch.cat([x[:, :-1], torch.log1p(x[:, -1:] / SMALL)], dim=1)


def _tower(channels: int, hidden: int, width: int, *, layers: int) -> nn.Sequential:
    """Filters and SiLU from state and level to fields of the state; zero at the start."""
    inner = [module for _ in range(layers - 1) for module in (RingFilter(hidden, hidden, width), nn.SiLU())]
    return nn.Sequential(
        RingFilter(channels + 1, hidden, width), nn.SiLU(), *inner, RingFilter(hidden, channels, width, zero=True)
    )
