"""Checks of settings that several schemes share, and the localization radius on a layout's axes."""

from __future__ import annotations

from dataclasses import fields

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.registry import Spec


def require(is_valid: bool, name: str, got: object, *, expected: str, scheme: str) -> None:
    """Raise ConfigError, naming scheme and setting, unless valid."""
    if not is_valid:
        raise ConfigError(f"scheme {scheme}: {name} is {got}; expected {expected}")


def require_used(is_used: bool, spec: Spec, name: str, *, where: str, scheme: str) -> None:
    """Raise ConfigError for an option that nothing uses, unless it is at its default: it would be believed.

    `where`: what it is used with.
    """
    default = {field.name: field.default for field in fields(spec)}[name]  # type: ignore[arg-type]
    value, expected = getattr(spec, name), f"nothing, for it is used with {where} alone; leave it out"
    require(is_used or value == default, name, value, expected=expected, scheme=scheme)


def require_inflation(inflation: float, *, scheme: str, name: str = "inflation") -> None:
    """Raise ConfigError unless the factor on the anomalies is positive."""
    require(inflation > 0, name, inflation, expected="a positive factor, 1 for none", scheme=scheme)


def require_share(name: str, got: float, *, scheme: str) -> None:
    """Raise ConfigError unless 0 <= got <= 1."""
    require(0 <= got <= 1, name, got, expected="a number from 0 to 1", scheme=scheme)


def axis_radius(layout: Layout, *, km: float | None, cells: float | None, scheme: str) -> float | None:
    """Localization half-width in the units of the grid axes, None without localization.

    Raises ConfigError when both units are given, or the unit does not fit the grid.
    """
    axes = layout.grid.axes
    require(km is None or cells is None, "localization radius", "both km and cells", expected="one", scheme=scheme)
    for name, radius in (("localization_radius_km", km), ("localization_radius_cells", cells)):
        expected = "a positive number or null"
        require(radius is None or radius > 0, name, radius, expected=expected, scheme=scheme)
    if km is not None:
        units = sorted({axis.units for axis in axes})
        expected = f"axes in m, not {', '.join(units)}; use localization_radius_cells"
        require(units == ["m"], "localization_radius_km", km, expected=expected, scheme=scheme)
        return 1000.0 * km
    if cells is not None:
        spacings = sorted({axis.spacing for axis in axes})
        expected = f"equal spacings on all axes, not {spacings}; use localization_radius_km"
        require(len(spacings) == 1, "localization_radius_cells", cells, expected=expected, scheme=scheme)
        return spacings[0] * cells
    return None
