"""Write observation files: the layout that `obs.files` reads, whole or not at all.

A file has one row (Location) for each station, time and position; what a station measures at one time stands
in one row, and a second copy of the same observation gets a row of its own. Every numeric column carries a
Fletcher checksum, so that a flipped bit is found when the file is read. Equal observations give equal
content: nothing of the clock or the machine is written.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from cycler_da.errors import CannotWrite
from cycler_da.layout import Layout
from cycler_da.obs.base import ObsBatch
from cycler_da.obs.file_columns import TIME_UNITS
from cycler_da.obs.identity import names_in, stations_of, units_of
from cycler_da.obs.mapping import unproject
from cycler_da.times import epoch_seconds

FILL = 9.969209968386869e36  # the NetCDF default for doubles
FILL_INT = -2147483647  # the NetCDF default for 32-bit integers
FILL_INT64 = -9223372036854775806  # the NetCDF default for 64-bit integers


def write_obs_file(
    path: Path | str,
    layout: Layout,
    *,
    batches: Sequence[ObsBatch],
    variables: Sequence[str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Write the observations of one stream and window; `path` appears complete or not at all.

    `variables` are columns to write even when nothing reports them (default: the variables of the layout),
    so that a file without observations has the full schema. Values that are not finite become the fill
    value; a flag other than zero becomes the PreQC mark. Raises CannotWrite.
    """
    path = Path(path)
    private = path.with_name(f".{path.stem}.private-{os.getpid()}-{secrets.token_hex(4)}.nc")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with netCDF4.Dataset(private, "w", format="NETCDF4") as file:
            _fill(file, layout, batches, variables=variables or layout.channels, attributes=attributes or {})
        with private.open("rb") as handle:
            os.fsync(handle.fileno())
        private.replace(path)
    except (OSError, RuntimeError) as error:
        raise CannotWrite(
            f"cannot write observation file {path}: {error}; check space, permission and path of the folder"
        ) from error
    finally:
        private.unlink(missing_ok=True)


def _fill(
    file: Any, layout: Layout, batches: Sequence[ObsBatch], *, variables: Sequence[str], attributes: Mapping[str, str]
) -> None:
    file.setncatts(
        {
            "Conventions": "CF-1.11",
            "title": f"Observations of {layout.system}",
            "cycler_layout_digest": layout.digest,
            **attributes,
        }
    )
    rows, columns = _arrange(batches, layout)
    file.createDimension("Location", len(rows) or None)
    _write_metadata(file.createGroup("MetaData"), rows, layout)
    units = {n: units_of(b.operator, n, layout) for b in batches for n in set(names_in(b, layout).tolist())}
    units = {variable.name: variable.units for variable in layout.variables} | units
    for name in dict.fromkeys([*variables, *columns]):
        column = columns.get(name, np.full((3, len(rows)), np.nan))
        for group, values in zip(("ObsValue", "ObsError"), column[:2], strict=True):
            _write(_group(file, group), name, values, fill=FILL, units=units[name])
        marks = np.where(np.isnan(column[2]), FILL_INT, column[2]).astype(np.int32)
        _write(_group(file, "PreQC"), name, marks, fill=FILL_INT)


def _arrange(
    batches: Sequence[ObsBatch], layout: Layout
) -> tuple[list[tuple[str, int | None, tuple[float, ...]]], dict[str, np.ndarray]]:
    """Rows (station, seconds, position), and for each variable (value, error, mark) along them."""
    index: dict[tuple[Any, ...], int] = {}
    entries: dict[str, dict[int, tuple[float, float, float]]] = {}
    for batch in batches:
        seconds = [None if np.isnat(time) else epoch_seconds(time) for time in batch.times]
        keys = zip(stations_of(batch.ids).tolist(), seconds, map(tuple, batch.where.position.tolist()), strict=True)
        content = zip(batch.values.tolist(), batch.error.tolist(), batch.flags.tolist(), strict=True)
        for name, key, entry in zip(names_in(batch, layout).tolist(), keys, content, strict=True):
            column, copy = entries.setdefault(name, {}), 0
            row = index.setdefault((*key, copy), len(index))
            while row in column:
                copy += 1
                row = index.setdefault((*key, copy), len(index))
            column[row] = entry
    columns = {name: np.full((3, len(index)), np.nan) for name in entries}
    for name, column in entries.items():
        columns[name][:, list(column)] = np.asarray(list(column.values())).T
    return [key[:3] for key in index], columns


def _write_metadata(group: Any, rows: list[tuple[str, int | None, tuple[float, ...]]], layout: Layout) -> None:
    seconds = np.asarray([FILL_INT64 if row[1] is None else row[1] for row in rows], dtype=np.int64)
    _write(group, "dateTime", seconds, fill=FILL_INT64, units=TIME_UNITS)
    position = np.asarray([row[2] for row in rows], dtype=np.float64).reshape(len(rows), len(layout.grid.axes))
    for i_axis, axis in enumerate(layout.grid.axes):
        _write(group, axis.name, position[:, i_axis], fill=FILL, units=axis.units)
    if layout.grid.grid_mapping:
        latitude, longitude = unproject(position, layout.grid)
        _write(group, "latitude", latitude, fill=FILL, units="degrees_north")
        _write(group, "longitude", longitude, fill=FILL, units="degrees_east")
    _write_text(group, "stationIdentification", [row[0] for row in rows])


def _write(group: Any, name: str, values: np.ndarray, *, fill: float, units: str | None = None) -> None:
    variable = group.createVariable(
        name, values.dtype, ("Location",), fill_value=fill, zlib=True, complevel=1, shuffle=True, fletcher32=True
    )
    if units is not None:
        variable.units = units
    if len(values):
        variable[:] = np.where(np.isfinite(values), values, fill).astype(values.dtype)


def _write_text(group: Any, name: str, texts: Sequence[str]) -> None:
    """Write text of fixed length: HDF5 cannot put a checksum on strings of variable length."""
    content = np.asarray([text.encode() for text in texts], dtype=np.bytes_)
    length = max(1, content.dtype.itemsize)
    group.createDimension("StationLength", length)
    variable = group.createVariable(name, "S1", ("Location", "StationLength"), zlib=True, complevel=1, fletcher32=True)
    if len(texts):
        variable[:] = content.astype(f"S{length}").view("S1").reshape(len(texts), length)
    # Set last: from here on the library gives and takes text instead of single characters.
    variable.setncattr("_Encoding", "utf-8")


def _group(file: Any, name: str) -> Any:
    return file.groups[name] if name in file.groups else file.createGroup(name)
