"""The network protocol and the recipe from which a card builds a network again.

A network maps scaled fields `(batch, history * channel [+ extra], *space)` to scaled increments
`(batch, channel, *space)`. Its recipe (kind and arguments) is plain data that stands in the weight card.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
