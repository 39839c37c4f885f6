"""Layout: what every axis of a field means.

A field has shape `(channel, *space)`; a layout names its variables with their units, its grid axes in
metres (or index space) and the model step. Its digest stands in every product and weight card, so that
fields that differ in any of these are never mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cycler_da.errors import ConfigError, LayoutMismatch

#: What to do where weights do not fit.
TRAIN_FOR_THIS = (
    "Weights serve the grid, the variables and the step that they were trained for: set `system` (and the systems of "
    "nature, start and forecast) back to these, or train weights for this one (`cycler train`, data.system)"
)


@dataclass(frozen=True)
class Variable:
    """One channel of the state."""

    name: str
    units: str
    long_name: str
    valid_min: float | None = None
    valid_max: float | None = None


@dataclass(frozen=True)
class Axis:
    """One grid axis: cell centres at `origin + spacing * index`."""

    name: str
    size: int
    spacing: float = 1.0
    origin: float = 0.0
    units: str = "m"
    periodic: bool = False

    @property
    def length(self) -> float:
        """Extent of the axis in its units (size times spacing)."""
        return self.size * self.spacing

    def centres(self) -> np.ndarray:
        """Coordinates of the cell centres, float64, in `units`."""
        return self.origin + self.spacing * np.arange(self.size, dtype=np.float64)


@dataclass(frozen=True)
class Grid:
    """Grid axes in array order (y before x) and, for maps, the CF grid mapping attributes."""

    axes: tuple[Axis, ...]
    grid_mapping: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Plain values, so that a mapping read back from a file or JSON equals the one that was written.
        object.__setattr__(self, "grid_mapping", {key: _plain(value) for key, value in self.grid_mapping.items()})

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return tuple(axis.name for axis in self.axes)


@dataclass(frozen=True)
class Layout:
    """Variables, grid and model step of a system's state.

    Raises ConfigError when names repeat, or when the step is not a positive whole number of seconds.
    """

    system: str
    variables: tuple[Variable, ...]
    grid: Grid
    step: np.timedelta64

    def __post_init__(self) -> None:
        for what, names in (("variables", self.channels), ("axes", self.grid.names)):
            if len(set(names)) != len(names):
                raise ConfigError(f"layout of {self.system}: names of {what} repeat: got {', '.join(names)}")
        step = self.step.astype("timedelta64[s]")
        if step != self.step or step <= np.timedelta64(0, "s"):
            raise ConfigError(
                f"layout of {self.system}: got step {self.step!r}, expected a positive whole number of seconds"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the variables, in channel order."""
        return tuple(variable.name for variable in self.variables)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state, `(channel, *space)`."""
        return (len(self.variables), *self.grid.shape)

    def describe(self) -> dict[str, Any]:
        """Plain, JSON-ready description; equal layouts give equal text."""
        return {
            "system": self.system,
            "variables": [_with_floats(asdict(variable), "valid_min", "valid_max") for variable in self.variables],
            "axes": [_with_floats(asdict(axis), "spacing", "origin") for axis in self.grid.axes],
            "grid_mapping": dict(self.grid.grid_mapping),
            "step_seconds": int(self.step / np.timedelta64(1, "s")),
        }

    @cached_property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the sha256 of `describe()`."""
        text = json.dumps(self.describe(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require_same(self, other: Layout, *, what: str, advice: str = "") -> None:
        """Raise LayoutMismatch, naming the first difference and what to do, unless `other` is this layout."""
        _require_equal(self.describe(), other.describe(), what=what, advice=advice)

    def require_same_kind(self, other: Layout, *, what: str, advice: str = "") -> None:
        """Raise LayoutMismatch unless `other` has the same variables (names, units), spacing and step.

        Size, origin, map and texts may differ: what holds for one patch of a map holds for another. For
        models that do not depend on the size of the grid.
        """
        _require_equal(self._kind(), other._kind(), what=what, advice=advice)

    def _kind(self) -> dict[str, Any]:
        full = self.describe()
        kept = {"variables": ("name", "units"), "axes": ("name", "spacing", "units", "periodic")}
        parts = {part: [{name: item[name] for name in names} for item in full[part]] for part, names in kept.items()}
        return {"system": full["system"], "step_seconds": full["step_seconds"], **parts}


def layout_from_description(description: Mapping[str, Any]) -> Layout:
    """Rebuild a layout from what `describe` wrote."""
    return Layout(
        system=description["system"],
        variables=tuple(Variable(**variable) for variable in description["variables"]),
        grid=Grid(
            axes=tuple(Axis(**axis) for axis in description["axes"]),
            grid_mapping=dict(description["grid_mapping"]),
        ),
        step=np.timedelta64(int(description["step_seconds"]), "s"),
    )


def _require_equal(mine: Mapping[str, Any], theirs: Mapping[str, Any], *, what: str, advice: str) -> None:
    expected, got = _flatten(mine), _flatten(theirs)
    for key in sorted(expected.keys() | got.keys()):
        if expected.get(key) != got.get(key):
            text = f"layout of {what} differs at {key}: got {got.get(key)!r}, expected {expected.get(key)!r}"
            raise LayoutMismatch(f"{text}. {advice}" if advice else text)


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: numpy scalars and arrays, and tuples, become Python numbers and lists."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _with_floats(description: dict[str, Any], *names: str) -> dict[str, Any]:
    """The description with real numbers as floats, so that 3000 and 3000.0 have one digest."""
    floats = {name: float(description[name]) for name in names if description[name] is not None}
    return {key: _plain(value) for key, value in description.items()} | floats


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = [(f"{prefix}.{key}" if prefix else str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list):
        items = [(f"{prefix}[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat.update(_flatten(inner, key))
    return flat
