"""The skeleton of a NetCDF file on a layout: dimensions, coordinates, grid mapping, storage.

Storage of every field variable: deflate level 1 with shuffle (exact) and a Fletcher-32 checksum for each
chunk, so that a damaged byte is an error at reading and never a value. A chunk is one frame of one member;
frames smaller than `SMALL_FRAME` are bundled by member. See docs/decisions/0005-netcdf-chunking-and-compression.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from cycler_da.errors import DataError, LayoutMismatch, MissingInput
from cycler_da.layout import Layout
from cycler_da.products import conventions
from cycler_da.times import EPOCH, iso_time

#: Bytes that HDF5 keeps of a variable being written. Its default is 16 to 64 MiB for every variable; chunks are filled
#: one after another, so one bundle of small frames is all that has to be kept.
WRITE_CACHE = 2**20
#: Bytes below which one frame alone makes a poor chunk: an HDF5 chunk costs about 100 bytes of index.
SMALL_FRAME = 16384

STORAGE: Mapping[str, Any] = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}

_RESERVED = ("realization", "time", "leadtime", "forecast_reference_time", "crs", "lat", "lon")


@contextmanager
def create_file(path: Path) -> Iterator[netCDF4.Dataset]:
    """A NetCDF-4 file opened for writing, closed at the end whatever happens."""
    dataset = netCDF4.Dataset(path, "w", format="NETCDF4", clobber=False)
    try:
        yield dataset
    except BaseException:
        # A close after a refused write fails again; the first error is the one that matters.
        with suppress(OSError, RuntimeError):
            dataset.close()
        raise
    dataset.close()


@contextmanager
def open_file(path: Path, *, what: str = "file") -> Iterator[netCDF4.Dataset]:
    """A NetCDF file opened for reading; values come as stored, unmasked.

    Raises MissingInput when it is absent, DataError when it is not a readable NetCDF file.
    """
    if not Path(path).is_file():
        raise MissingInput(f"{what} {path} does not exist; check the path, or make the file first")
    try:
        dataset = netCDF4.Dataset(path, "r")
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{what} {path} cannot be opened as NetCDF ({error}); it is damaged, cut short or of another format; "
            "restore it or make it again"
        ) from error
    try:
        dataset.set_auto_maskandscale(False)
        yield dataset
    finally:
        dataset.close()


def read_part(path: Path, variable: netCDF4.Variable, index: Any = ...) -> np.ndarray:
    """Read a part of a variable (masked where its file masks); raises DataError when its bytes are damaged."""
    try:
        return variable[index]
    except (OSError, RuntimeError, IndexError) as error:
        raise DataError(
            f"{path}: variable {variable.name} cannot be read ({error}); the file is damaged or cut short; "
            "restore it or make it again"
        ) from error


def dimension_names(layout: Layout) -> tuple[str, ...]:
    """Names of the grid dimensions; an axis that shares its name with a variable gets `_axis` appended.

    Raises LayoutMismatch when a variable has a name that the file needs for itself.
    """
    for name in layout.channels:
        if name in _RESERVED:
            raise LayoutMismatch(
                f"{layout.system}: a variable is called {name!r}, which is a coordinate of every file; rename it "
                f"(taken: {', '.join(_RESERVED)})"
            )
    taken = set(layout.channels) | {"realization", "time"}
    return tuple(f"{name}_axis" if name in taken else name for name in layout.grid.names)


def define_grid(dataset: netCDF4.Dataset, layout: Layout) -> None:
    """Write the grid dimensions and coordinates and, on a map, `crs`, `lat` and `lon`."""
    mapping = layout.grid.grid_mapping
    for axis, name in zip(layout.grid.axes, dimension_names(layout), strict=True):
        dataset.createDimension(name, axis.size)
        coordinate = dataset.createVariable(name, "f8", (name,), fletcher32=True)
        coordinate.setncatts(conventions.axis_attributes(axis, bool(mapping)))
        coordinate[:] = axis.centres()
    if mapping:
        _define_mapping(dataset, layout)


def define_times(dataset: netCDF4.Dataset, valid_times: np.ndarray, reference_time: np.datetime64) -> None:
    """Write `time`, the scalar `forecast_reference_time` and `leadtime`."""
    times = np.asarray(valid_times, dtype="datetime64[s]")
    dataset.createDimension("time", len(times))
    for name, dims, values, attributes in (
        ("time", ("time",), seconds_of(times), conventions.TIME_ATTRIBUTES),
        ("forecast_reference_time", (), seconds_of(reference_time), conventions.REFERENCE_ATTRIBUTES),
        ("leadtime", ("time",), seconds_of(times) - seconds_of(reference_time), conventions.LEAD_ATTRIBUTES),
    ):
        variable = dataset.createVariable(name, "i8", dims, fletcher32=bool(dims))
        variable.setncatts(attributes)
        variable[...] = values


def define_members(dataset: netCDF4.Dataset, n_members: int) -> netCDF4.Variable:
    """Write the `realization` dimension and return its coordinate, to be filled."""
    dataset.createDimension("realization", n_members)
    variable = dataset.createVariable("realization", "i4", ("realization",), fletcher32=True)
    variable.setncatts(conventions.MEMBER_ATTRIBUTES)
    return variable


def define_field(
    dataset: netCDF4.Dataset,
    name: str,
    leading: tuple[str, ...],
    *,
    dtype: np.dtype,
    layout: Layout,
    has_gaps: bool = False,
) -> netCDF4.Variable:
    """A field variable `(*leading, *space)`, to be filled; only one that has gaps ever holds its fill value."""
    dims = (*leading, *dimension_names(layout))
    fill = netCDF4.default_fillvals[np.dtype(dtype).str[1:]] if has_gaps else None
    chunks = _chunks(dataset, leading, dtype, layout)
    variable = dataset.createVariable(
        name, dtype, dims, chunksizes=chunks, fill_value=fill, chunk_cache=WRITE_CACHE, **STORAGE
    )
    variable.setncatts(_references(layout))
    return variable


def seconds_of(times: np.ndarray | np.datetime64) -> np.ndarray:
    """Seconds since 1970-01-01T00:00:00 as int64."""
    return ((np.asarray(times, dtype="datetime64[s]") - EPOCH) / np.timedelta64(1, "s")).astype(np.int64)


def times_of(dataset: netCDF4.Dataset, path: Path, *, name: str = "time") -> np.ndarray:
    """Valid times of a file as datetime64[s]; raises DataError when they cannot be understood."""
    variable = dataset.variables[name]
    units, calendar = getattr(variable, "units", ""), getattr(variable, "calendar", "standard")
    raw = np.atleast_1d(read_part(path, variable))
    if units == conventions.TIME_UNITS:
        return EPOCH + raw.astype(np.int64).astype("timedelta64[s]")
    if calendar not in ("standard", "gregorian", "proleptic_gregorian"):
        raise DataError(f"{path}: {name} has calendar {calendar!r}; expected standard; convert the file first")
    try:
        dates = netCDF4.num2date(raw, units, calendar, only_use_cftime_datetimes=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: {name} with units {units!r} is not a time ({error})") from error
    return np.asarray(dates, dtype="datetime64[s]")


def require_frames(path: Path, held: np.ndarray, wanted: np.ndarray, *, what: str) -> np.ndarray:
    """Positions of `wanted` times among the times a file holds; raises MissingInput naming the first absent."""
    position = {int(second): index for index, second in enumerate(seconds_of(held))}
    found = [position.get(int(second)) for second in seconds_of(wanted)]
    absent = [time for time, index in zip(wanted, found, strict=True) if index is None]
    if absent:
        span = f"{iso_time(held[0])} to {iso_time(held[-1])} in {len(held)} frames" if len(held) else "no frames"
        raise MissingInput(
            f"{what} {path} has no frame valid at {iso_time(absent[0])} ({len(absent)} of {len(wanted)} asked for are "
            f"absent); it holds {span}; make a longer one or change the cycle times"
        )
    return np.asarray(found, dtype=np.int64)


def _chunks(
    dataset: netCDF4.Dataset, leading: tuple[str, ...], dtype: np.dtype, layout: Layout
) -> tuple[int, ...] | None:
    space = layout.grid.shape
    sizes = [len(dataset.dimensions[name]) for name in leading]
    if min([1, *sizes]) == 0:
        return None
    frame = np.dtype(dtype).itemsize * math.prod(space)
    room = max(1, SMALL_FRAME // frame)
    if room == 1 or not sizes:
        return (*[1] * len(sizes), *space)
    return (min(room, sizes[0]), *[1] * (len(sizes) - 1), *space)


def _references(layout: Layout) -> dict[str, str]:
    coordinates = "forecast_reference_time leadtime"
    if not layout.grid.grid_mapping:
        return {"coordinates": coordinates}
    return {"coordinates": f"{coordinates} lat lon", "grid_mapping": "crs"}


def _define_mapping(dataset: netCDF4.Dataset, layout: Layout) -> None:
    variable = dataset.createVariable("crs", "i4", ())
    variable.setncatts(
        {
            "long_name": "grid mapping",
            **{name: conventions.as_attribute(value) for name, value in layout.grid.grid_mapping.items()},
            "crs_wkt": _projection(_mapping_text(layout)).to_wkt(),
        }
    )
    variable[...] = 0
    latitude, longitude = grid_latitude_longitude(layout)
    for name, values, units, standard_name in (
        ("lat", latitude, "degrees_north", "latitude"),
        ("lon", longitude, "degrees_east", "longitude"),
    ):
        coordinate = dataset.createVariable(name, "f8", dimension_names(layout), **STORAGE)
        coordinate.setncatts(
            {
                "standard_name": standard_name,
                "long_name": f"{standard_name} of cell centres",
                "units": units,
                "coverage_content_type": "coordinate",
            }
        )
        coordinate[...] = values
    dataset.setncatts(_bounds(latitude, longitude))


def grid_latitude_longitude(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (degrees) of the cell centres of a mapped grid with axes y, x in metres."""
    import pyproj

    projected = _projection(_mapping_text(layout))
    to_degrees = pyproj.Transformer.from_crs(projected, projected.geodetic_crs, always_xy=True)
    y, x = (axis.centres() for axis in layout.grid.axes)
    longitude, latitude = to_degrees.transform(*np.meshgrid(x, y))
    return latitude, longitude


def _mapping_text(layout: Layout) -> str:
    return json.dumps(dict(layout.grid.grid_mapping), sort_keys=True)


@lru_cache(maxsize=8)
def _projection(mapping_text: str) -> Any:
    """The projection of a grid mapping given as JSON; slow to build (most of a second), so it is kept."""
    import pyproj  # only maps need it

    return pyproj.CRS.from_cf(json.loads(mapping_text))


def _bounds(latitude: np.ndarray, longitude: np.ndarray) -> dict[str, Any]:
    return {
        "geospatial_lat_min": float(latitude.min()),
        "geospatial_lat_max": float(latitude.max()),
        "geospatial_lat_units": "degrees_north",
        "geospatial_lon_min": float(longitude.min()),
        "geospatial_lon_max": float(longitude.max()),
        "geospatial_lon_units": "degrees_east",
    }
