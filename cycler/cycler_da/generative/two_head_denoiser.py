"""A network with two heads on top of the Gaussian heads of the climate.

    E[z | u] = E_G + s F(inputs),    E_G and s: mean and deviation of z given u for the climate's Gaussian (`two_heads`)
    inputs: E_G of x and of h, (u - L E_G) whitened, the mask, and log of a / (sigma sqrt(1 - a^2))

With F = 0, as it starts, the heads are those of the Gaussian: optimal interpolation with E[h], Cov(x, h) and Cov(h) in
the place of a linear H. The target of F has unit variance at every level. A draw of z given u has the Gaussian's
covariance times the share of the variance that F was measured to leave at that level (`Unexplained`). The published
networks see u and the time alone, and predict x and h themselves.
Limits: states of some hundred values, for the Gaussian is dense; one sigma, that of the training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.generative.bridge_denoiser import RATIOS, signal_ratio
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.two_heads import GaussianHeads, GaussianPair, PairProcess

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Least deviation of an entry given u, scaled units: what is known to that is known.
LEAST_STD = 1e-4


class TwoHeadDenoiser(nn.Module):
    """F with its Gaussian; `shape` is that of a state, `(channel, *space)`."""

    def __init__(self, network: nn.Module, pair: GaussianPair, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.pair, self.shape = network, pair, shape

    def forward(
        self, u: Float[Tensor, "batch d"], a: Float[Tensor, "batch 1"], process: PairProcess
    ) -> Float[Tensor, "batch nm"]:
        """E[z | u]; every pair may have its own a and its own mask."""
        base, std, answer = self._parts(u, a, process)
        return base + std * answer

    def with_state(self, state: Mapping[str, Tensor]) -> TwoHeadDenoiser:
        """A copy with other weights."""
        copied = copy.deepcopy(self)
        copied.load_state_dict(dict(state))
        return copied

    def misses(self, z: Tensor, u: Tensor, a: Tensor, process: PairProcess) -> Float[Tensor, "batch nm"]:
        """What F misses of its target, of unit variance where F knows nothing."""
        base, std, answer = self._parts(u, a, process)
        return (z - base) / std - answer

    def _parts(self, u: Tensor, a: Tensor, process: PairProcess) -> tuple[Tensor, Tensor, Tensor]:
        base, std = GaussianHeads(self.pair, process).moments(u, a)
        std = std.clamp(min=LEAST_STD).expand(base.shape)
        rest = process.whiten(u - process.fold(base, a, process.mask), std, a)
        level = torch.log(signal_ratio(a, mean_error(process)).clamp(*RATIOS)) / math.log(RATIOS[1])
        parts = [base, rest, process.mask.expand(len(base), -1)]
        fields = torch.cat([part.reshape(len(base), -1, *self.shape[1:]) for part in parts], dim=1)
        constant = level.reshape(-1, 1, *(1,) * (len(self.shape) - 1)).expand(len(base), 1, *self.shape[1:])
        answer = self.network(torch.cat([fields, constant], dim=1).to(torch.float32)).flatten(1)
        return base, std, answer.to(base.dtype)


def mean_error(process: PairProcess) -> float:
    """sigma by which levels are counted: the root mean square of all entries."""
    return float(process.noise.mean().sqrt())


@dataclass(frozen=True)
class Unexplained:
    """Mean square of what F misses, measured on held-out pairs at levels log a / (sigma sqrt(1 - a^2))."""

    level: Float[Tensor, "level"]
    share: Float[Tensor, "level"]

    def at(self, a: float, error: float) -> float:
        """Share of the Gaussian's variance that is left; linear between levels, at most 1."""
        level = math.log(min(max(float(signal_ratio(torch.tensor(a), error)), RATIOS[0]), RATIOS[1]))
        place = int(torch.searchsorted(self.level, level).clamp(1, len(self.level) - 1))
        low, high = float(self.level[place - 1]), float(self.level[place])
        part = min(max((level - low) / (high - low), 0.0), 1.0)
        return min(1.0, float((1.0 - part) * self.share[place - 1] + part * self.share[place]))


@dataclass(frozen=True)
class NetworkHeads:
    """Both heads of a network, for one mask."""

    model: TwoHeadDenoiser
    process: PairProcess
    unexplained: Unexplained

    def mean(self, u: Float[Tensor, "batch d"], a: float) -> Float[Tensor, "batch nm"]:
        """E[z | u]."""
        answer: Tensor = self.model(u, torch.full((1, 1), a, dtype=torch.float64), self.process)
        return answer

    def draw(self, u: Float[Tensor, "batch d"], a: float, *, noise: MemberNoise, step: int) -> Tensor:
        """E[z | u], and noise with the Gaussian's covariance, smaller by what F explains."""
        with torch.no_grad():
            scatter = GaussianHeads(self.model.pair, self.process).scatter(a, noise=noise, step=step)
            return self.mean(u, a) + self.unexplained.at(a, mean_error(self.process)) ** 0.5 * scatter


def select_masks(process: PairProcess, mask: Float[Tensor, "batch m"]) -> PairProcess:
    """The same process with other masks, one for each pair."""
    return replace(process, mask=mask)
