"""Systems in units of their own on the torus [0, 2 pi)^2: their layout, and that they know no years."""

from __future__ import annotations

import math

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.times import parse_duration


def torus_layout(system: str, variables: tuple[Variable, ...], *, size: int, step: str) -> Layout:
    """Layout of fields on `size` x `size` points, without units; `step` is the duration of one model step."""
    spacing = 2.0 * math.pi / size
    axes = tuple(Axis(name, size, spacing, units="1", periodic=True) for name in ("y", "x"))
    return Layout(system, variables, Grid(axes), parse_duration(step))


def refuse_years(years: float | None, *, system: str) -> None:
    """Raise ConfigError when a spin-up is given in years, for a system that has none."""
    if years is not None:
        raise ConfigError(f"system {system} has no years: got spin_up_years {years}, leave it out")
