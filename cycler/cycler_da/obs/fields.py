"""Observed fields: what an operator would see at the centre of every grid cell, as one more channel of the state.

    h(x)_c = H(x; position of cell c, variable)

A config names them as a list of `{variable, operator}`. Schemes that diffuse observations beside states (SOAD) learn
them, and recognise by `is_of` whether a batch of observations is of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations, ObsBatch, ObservationOperator
from cycler_da.registry import spec_of_block

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class ObservedField:
    """One operator and variable at all cells."""

    kind: str
    channel: int  # of the observed variable
    operator: ObservationOperator
    where: Locations
    layout: Layout

    def of(self, states: Float[Tensor, "... channel y x"]) -> Float[Tensor, "... 1 y x"]:
        """The field of every state."""
        lead, grid = states.shape[: -len(self.layout.state_shape)], self.layout.grid.shape
        flat = states.reshape(-1, *self.layout.state_shape)
        parts = [self.operator(part, self.where, self.layout) for part in flat.split(64)]
        return torch.cat(parts).reshape(*lead, 1, *grid).to(states.dtype)

    def sees(self, batch: ObsBatch) -> Bool[Tensor, "obs"]:
        """True for the observations of a batch that are values of this field."""
        if not same_operator(self.operator, batch.operator):
            return torch.zeros(len(batch), dtype=torch.bool)
        return batch.where.channel == self.channel


def observed_fields(blocks: Sequence[Mapping[str, Any]], layout: Layout) -> tuple[ObservedField, ...]:
    """Build the fields of a config; raises ConfigError for an unknown variable, key or operator."""
    built = []
    for i, block in enumerate(blocks):
        unknown = set(block) - {"variable", "operator"}
        if unknown or "variable" not in block or "operator" not in block:
            strange = f"unknown key {', '.join(sorted(unknown))}" if unknown else f"has {', '.join(sorted(block))}"
            raise ConfigError(f"observed.{i}: {strange}; expected variable and operator")
        if block["variable"] not in layout.channels:
            raise ConfigError(
                f"observed.{i}: unknown variable {block['variable']!r}; valid: {', '.join(layout.channels)}"
            )
        spec = spec_of_block("operator", block["operator"], where=f"observed.{i}.operator")
        channel = layout.channels.index(block["variable"])
        where = all_cells(layout, channel)
        built.append(ObservedField(str(block["operator"]["kind"]), channel, spec.build(layout), where, layout))
    return tuple(built)


def distinct_fields(described: Sequence[Mapping[str, Any]], layout: Layout) -> tuple[ObservedField, ...]:
    """Observed fields of as many variables, as the data of a training names them.

    Raises ConfigError as `observed_fields` does, without any, and for two of one variable.
    """
    if not described:
        raise ConfigError("data.observed is empty; expected a variable and an operator")
    built = observed_fields(described, layout)
    if len({field.channel for field in built}) < len(built):
        raise ConfigError("data.observed names a variable twice; expected one operator for each variable")
    return built


def seen_everywhere(
    fields: Sequence[ObservedField], states: Float[Tensor, "... channel y x"]
) -> Float[Tensor, "... channel y x"]:
    """What the fields see of every channel; 0 where none does."""
    seen = torch.zeros_like(states)
    for field in fields:
        seen[..., field.channel, :, :] = field.of(states)[..., 0, :, :]
    return seen


def scaled_fields(
    fields: Sequence[ObservedField],
    to_physical: Callable[[Tensor], Tensor],
    mean: Sequence[float],
    std: Sequence[float],
) -> Callable[[Tensor], Tensor]:
    """The map from scaled states `(batch, channel, y, x)` to these fields in units of their own deviation."""

    def maps(states: Tensor) -> Tensor:
        physical = to_physical(states)
        parts = [(one.of(physical) - m) / s for one, m, s in zip(fields, mean, std, strict=True)]
        return torch.cat(parts, dim=1)

    return maps


def all_cells(layout: Layout, channel: int) -> Locations:
    """The centres of all cells in array order, for one variable."""
    mesh = np.meshgrid(*(axis.centres() for axis in layout.grid.axes), indexing="ij")
    position = torch.from_numpy(np.stack([part.ravel() for part in mesh], axis=-1).astype(np.float64))
    return Locations(position, torch.full((len(position),), channel, dtype=torch.int64))


def same_operator(one: object, other: object) -> bool:
    """True when two operators are built alike: the same class, the same settings."""
    if type(one) is not type(other):
        return False
    if not is_dataclass(one) or isinstance(one, type):
        return one is other
    return all(_same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


def operator_words(operator: ObservationOperator) -> str:
    """Name and the numbers of an operator's settings, as `arctan (scale 2.7333e-06)`."""
    settings = [f"{name} {value:g}" for name, value in _numbers(operator)]
    return f"{operator.name} ({', '.join(settings)})" if settings else operator.name


def _numbers(part: Any) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for f in fields(part) if is_dataclass(part) and not isinstance(part, type) else ():
        value = getattr(part, f.name)
        found += [(f.name, value)] if isinstance(value, float) else _numbers(value)
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if is_dataclass(one) and not isinstance(one, type):
        return same_operator(one, other)
    return bool(one == other)
