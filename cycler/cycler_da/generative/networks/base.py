"""The network protocol and the recipe from which a card builds a network again.

A network maps scaled fields `(batch, history * channel [+ extra], *space)` to scaled increments
`(batch, channel, *space)`. Its recipe (kind and arguments) is plain data that stands in the weight card.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


@dataclass(frozen=True)
class NetworkSpec:
    """Kind of a network and its arguments."""

    kind: str
    arguments: Mapping[str, Any]


class MeanAndRoot(nn.Module, ABC):
    """A network with an increment and the root of its covariance, for states of few values (n in all).

    Two towers that share nothing, `mean` and `root`, so that the second can be fitted when the first is done. Buffers
    hold what training measures: the standard deviation of the increment of every value, and the root L0 of the
    residual's mean covariance. Both towers start at zero: persistence, and P = I.
    """

    mean: nn.Module
    root: nn.Module
    increment_std: Tensor
    base_root: Tensor

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Predict the scaled increment over one model step."""

    @abstractmethod
    def whitener(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch n n"]:
        """P of every state, lower triangular with a positive diagonal."""

    @abstractmethod
    def covariance_root(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch n n"]:
        """L0 P^-1 of every state, float64."""


class ConditionedNetwork(MeanAndRoot, ABC):
    """A network for starts x0 + l e that are known with an error; the level l is the last channel of its input.

    `base_root` is a table `(level, n, n)`: the root of the residual's mean covariance C at each of `levels`.
    Raises ConfigError for levels that `require_levels` refuses.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        self.levels = require_levels(levels, where="network, levels")

    def roots_at(self, level: Float[Tensor, "batch"]) -> Float[Tensor, "batch n n"]:
        """Lower triangular roots of C(l), float64; C is linear in l^2 between levels, and constant beyond the last."""
        known = torch.tensor(self.levels, dtype=torch.float64, device=level.device).square()
        table = self.base_root.to(torch.float64)
        distinct, of_row = torch.unique(level.to(torch.float64), return_inverse=True)
        squares = distinct.square().clamp(max=float(known[-1]))
        upper = torch.searchsorted(known, squares).clamp(1, len(known) - 1)
        share = ((squares - known[upper - 1]) / (known[upper] - known[upper - 1]))[:, None, None]
        below, above = table[upper - 1], table[upper]
        covariance = (1.0 - share) * (below @ below.mT) + share * (above @ above.mT)
        roots: Tensor = torch.linalg.cholesky(covariance)
        return roots[of_row]


def require_levels(levels: Sequence[float], *, where: str) -> tuple[float, ...]:
    """The levels as numbers; raises ConfigError unless they begin at 0, rise and are finite."""
    try:
        known = tuple(float(level) for level in levels)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: got {levels!r}; expected a list of numbers") from error
    rises = all(low < high < math.inf for low, high in itertools.pairwise(known))
    if len(known) < 2 or known[0] != 0.0 or not rises:
        raise ConfigError(
            f"{where}: got {list(known)}; expected two or more rising numbers that begin at 0, the clean transition, "
            "in climatological standard deviations"
        )
    return known


def network(kind: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator: make a network buildable by its kind."""

    def enter(cls: type[nn.Module]) -> type[nn.Module]:
        _BUILDERS[kind] = cls
        return cls

    return enter


def build_network(spec: NetworkSpec, *, seed: int = 0) -> nn.Module:
    """Build a network with weights drawn from `seed`; raises ConfigError for an unknown kind or argument."""
    if spec.kind not in _BUILDERS:
        raise ConfigError(f"unknown network kind {spec.kind!r}; valid: {', '.join(sorted(_BUILDERS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            built = _BUILDERS[spec.kind](**spec.arguments)
        except TypeError as error:
            raise ConfigError(f"network {spec.kind!r} cannot be built from {dict(spec.arguments)}: {error}") from error
        initialise = getattr(built, "initialise", None)
        if callable(initialise):
            initialise()
    return built
