"""The network protocol and the recipe from which a card builds a network again.

A network maps scaled fields `(batch, history * channel [+ extra], *space)` to scaled increments
`(batch, channel, *space)`. Its recipe (kind and arguments) is plain data that stands in the weight card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cycler_da.errors import ConfigError

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


@dataclass(frozen=True)
class NetworkSpec:
    """Kind of a network and its arguments."""

    kind: str
    arguments: Mapping[str, Any]


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
