"""Physics of a system: its options without those of its grid and of its arithmetic.

Two blocks of the same physics have the same climate and the same step, however they are written and solved. Grid,
variables and model step are compared as layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

from cycler_da.errors import ConfigError
from cycler_da.times import format_duration, parse_duration

#: Options that layouts compare.
OF_LAYOUT = ("size", "step")
#: What one time unit of equations without units stands for: part of the steps, not of the climate.
UNIT = "unit"


@runtime_checkable
class PhysicalSpec(Protocol):
    """Settings of a system with options of its arithmetic; of others all but size and step are physics."""

    def physics(self) -> dict[str, Any]:
        """Options that decide climate and steps, by name."""
        ...


def options_without(spec: Any, *names: str) -> dict[str, Any]:
    """Options of a system, defaults filled in, without size, step and those named."""
    return {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in (*OF_LAYOUT, *names)}


def physics_of(spec: Any) -> dict[str, Any]:
    """Options that decide climate and steps; values that mean the same are written alike."""
    options = spec.physics() if isinstance(spec, PhysicalSpec) else options_without(spec)
    return {name: _plain(name, value) for name, value in options.items()}


def other_physics(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Options that differ, each with both values; None stands for one that is not there."""
    names = [*mine, *(name for name in theirs if name not in mine)]
    return {name: (mine.get(name), theirs.get(name)) for name in names if mine.get(name) != theirs.get(name)}


def _plain(name: str, value: Any) -> Any:
    if name == UNIT:
        try:
            return format_duration(parse_duration(value))
        except ConfigError:
            return value
    if isinstance(value, list | tuple):
        return tuple(_plain("", item) for item in value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
