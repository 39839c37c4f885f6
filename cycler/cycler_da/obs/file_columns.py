"""Columns of an observation file: times, positions, stations and numbers, each checked as it is read.

Every function raises ObsFileError with a text that continues "observation file F: ...".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np

from cycler_da.errors import ObsFileError
from cycler_da.layout import Grid
from cycler_da.obs.mapping import project

if TYPE_CHECKING:
    from jaxtyping import Float

TIME_UNITS = "seconds since 1970-01-01T00:00:00Z"
_TIME_UNITS = re.compile(r"seconds since 1970-0?1-0?1([T ]0?0:00(:00(\.0+)?)?)?\s*(Z|UTC|\+00:?00)?")

#: No observation of this system is older or younger; also keeps arithmetic on times from overflowing.
_MOST_SECONDS = 253402300799  # 9999-12-31T23:59:59


def require_units(variable: Any, expected: str, *, what: str) -> None:
    """Raise unless the units attribute, where there is one, is the expected text (spaces, ^ and ** aside)."""
    units = getattr(variable, "units", None)
    if units is not None and _plain(str(units)) != _plain(expected):
        raise ObsFileError(f"{what} has units {str(units)!r}; expected {expected!r}; convert the values")


def read_numbers(file: Any, name: str, *, n_locations: int) -> Float[np.ndarray, "location"]:
    """Read a numeric column as float64; fill values become NaN, NaN and infinity stay."""
    variable = _column(file, name, n_locations=n_locations)
    if getattr(variable.dtype, "kind", "O") not in "fiu":
        raise ObsFileError(f"{name} holds {variable.dtype}; expected numbers")
    return np.ma.filled(np.ma.asarray(variable[:]).astype(np.float64), np.nan)


def read_times(metadata: Any) -> np.ndarray:
    """Read MetaData/dateTime as datetime64[s]; fill values become NaT."""
    variable = _column(metadata, "dateTime", n_locations=None)
    if getattr(variable.dtype, "kind", "O") not in "fiu":
        raise ObsFileError(f"MetaData/dateTime holds {variable.dtype}; expected int64 {TIME_UNITS!r}")
    units = str(getattr(variable, "units", TIME_UNITS))
    if not _TIME_UNITS.fullmatch(units.strip()):
        raise ObsFileError(f"MetaData/dateTime has units {units!r}; expected {TIME_UNITS!r}")
    seconds = np.ma.asarray(variable[:])
    missing = np.ma.getmaskarray(seconds) | ~np.isfinite(np.ma.filled(seconds, 0))
    plain = np.where(missing, 0, np.ma.filled(seconds, 0))
    missing |= np.abs(plain.astype(np.float64)) > _MOST_SECONDS
    times = np.where(missing, 0, plain).astype(np.int64).astype("datetime64[s]")
    times[missing] = np.datetime64("NaT")
    return times


def read_positions(metadata: Any, grid: Grid, *, n_locations: int) -> Float[np.ndarray, "location axis"]:
    """Read positions along the grid axes, or project latitude and longitude; missing ones are NaN."""
    if all(name in metadata.variables for name in grid.names):
        for axis in grid.axes:
            require_units(metadata.variables[axis.name], axis.units, what=f"MetaData/{axis.name}")
        columns = [read_numbers(metadata, name, n_locations=n_locations) for name in grid.names]
        return np.stack(columns, axis=-1)
    if {"latitude", "longitude"} <= set(metadata.variables):
        latitude, longitude = (
            read_numbers(metadata, name, n_locations=n_locations) for name in ("latitude", "longitude")
        )
        return project(latitude, longitude, grid)
    mapped = " (or latitude and longitude)" if grid.grid_mapping else ""
    raise ObsFileError(
        f"MetaData has no positions: got {', '.join(metadata.variables)}; expected {', '.join(grid.names)}{mapped}"
    )


def read_stations(metadata: Any, *, n_locations: int) -> np.ndarray:
    """Read MetaData/stationIdentification as text; "" for all locations when the file has none."""
    if "stationIdentification" not in metadata.variables:
        return np.full(n_locations, "", dtype=np.str_)
    variable = metadata.variables["stationIdentification"]
    values = np.ma.filled(variable[:], "") if variable.dtype == str else np.ma.getdata(variable[:])
    if values.ndim == 2 and values.dtype.kind == "S":
        values = netCDF4.chartostring(values)
    if values.shape != (n_locations,):
        raise ObsFileError(
            f"MetaData/stationIdentification has shape {values.shape}; expected one name for each of "
            f"{n_locations} locations"
        )
    return np.asarray([_text(value) for value in values], dtype=np.str_)


def _column(group: Any, name: str, *, n_locations: int | None) -> Any:
    what = name if "/" in name else f"{group.name}/{name}"
    holder, _, short = name.rpartition("/")
    variables = (group.groups[holder] if holder else group).variables
    if short not in variables:
        raise ObsFileError(f"it has no {what}; got {', '.join(variables) or 'nothing'} there")
    variable = variables[short]
    if variable.ndim != 1 or n_locations not in (None, variable.shape[0]):
        expected = "one dimension" if n_locations is None else f"({n_locations},), one for each MetaData/dateTime"
        raise ObsFileError(f"{what} has shape {variable.shape}; expected {expected}")
    return variable


def _plain(units: str) -> str:
    return " ".join(units.replace("**", "").replace("^", "").split()) or "1"


def _text(value: Any) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip("\x00 ")
