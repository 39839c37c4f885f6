"""Feedback files: every observation comes back with its model equivalents, its flag and its reason.

One NetCDF-4 file for each stream, laid out as IODA observation spaces are, so that tools for those files read
ours: dimension Location; groups MetaData, ObsValue, ObsError, PreQC, EffectiveQC, EffectiveError, hofx
(mean over members of H(background)), hofx_spread, hofxa (mean of H(analysis)), ombg = y - hofx, oman =
y - hofxa, and ours: Reason (text) and ObsId. Flags are UFO's (obs/base.py). Observed values are
written as they came; NaN and infinity become the fill value. EffectiveError is the error the analysis used;
where an observation was rejected it is the fill value. docs/products.md lists every variable.

A station that measures several variables at one time stands in one Location; a second copy of the same
observation gets a Location of its own. Limit: PreQC tells only that the provider's mark led to a rejection (11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
import torch

from cycler_da.errors import DataError, LayoutMismatch
from cycler_da.layout import Layout
from cycler_da.obs.base import QC, ObsBatch, Observations
from cycler_da.obs.identity import names_in, stations_of, units_of
from cycler_da.obs.mapping import unproject
from cycler_da.products.atomic import write_atomically
from cycler_da.products.conventions import TIME_UNITS, FileFacts, global_attributes
from cycler_da.products.gridfile import STORAGE, create_file, open_file, read_part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_FLOAT = "f8"
_FILL = {"f8": netCDF4.default_fillvals["f8"], "i4": netCDF4.default_fillvals["i4"]}
_FILL_TIME = netCDF4.default_fillvals["i8"]

#: Integer columns read back: this stands for "nothing reported here".
NOT_REPORTED = -1

_MEANING = {
    "ObsValue": "observed {}, as it came",
    "ObsError": "error standard deviation of observed {}",
    "PreQC": "mark of the provider on observed {}: 0 none, 11 rejected for its mark",
    "EffectiveQC": "quality-control flag of observed {}",
    "EffectiveError": "error standard deviation of {} used by the analysis",
    "hofx": "background mean of the model equivalent of {}",
    "hofx_spread": "background spread of the model equivalent of {}",
    "hofxa": "analysis mean of the model equivalent of {}",
    "hofxa_spread": "analysis spread of the model equivalent of {}",
    "ombg": "observed {} minus background mean",
    "oman": "observed {} minus analysis mean",
    "Reason": "why observed {} was not used; empty when it was",
    "ObsId": "identity of the observation of {}",
}


@dataclass(frozen=True)
class _Rows:
    """Locations of a stream, and for each batch the row of every observation."""

    stations: np.ndarray
    times: np.ndarray
    position: np.ndarray  # (location, axis)
    row_of: tuple[np.ndarray, ...]


def write_feedback(
    path: Path,
    observations: Observations,
    *,
    background_hx: Float[Tensor, "member obs"],
    analysis_hx: Float[Tensor, "member obs"] | None,
    facts: FileFacts,
    reported: Observations | None = None,
) -> list[Path]:
    """Write `<path>/<stream>.nc` for every stream of `observations`; returns the files.

    `reported` are the same observations with the errors of the provider, where the cycle uses others.

    H(x) columns run over the batches in order. A stream without observations gives a valid file with zero
    Locations. Raises LayoutMismatch when H(x) and observations differ in number, CannotWrite.
    """
    for name, hx in (("background_hx", background_hx), ("analysis_hx", analysis_hx)):
        if hx is not None and hx.shape[-1] != len(observations):
            raise LayoutMismatch(
                f"feedback below {path}: {name} has {hx.shape[-1]} columns, expected {len(observations)} "
                "(one for each observation, in the order of the batches)"
            )
    starts = np.cumsum([0, *(len(batch) for batch in observations.batches)])
    columns = [
        {**_columns(batch, background_hx[:, a:b], None if analysis_hx is None else analysis_hx[:, a:b]), **given}
        for batch, a, b, given in zip(
            observations.batches, starts[:-1], starts[1:], _errors(reported or observations), strict=True
        )
    ]
    written = []
    for stream in dict.fromkeys(batch.stream for batch in observations.batches):
        chosen = [i for i, batch in enumerate(observations.batches) if batch.stream == stream]
        batches = [observations.batches[i] for i in chosen]
        target = Path(path) / f"{stream}.nc"
        _write_stream(target, observations.layout, batches, [columns[i] for i in chosen], facts)
        written.append(target)
    return written


def read_feedback(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read a feedback file as `{group: {variable: array}}`, every array along Location.

    Fill values come back as NaN in numbers, NaT in dateTime and `NOT_REPORTED` in flags. Raises MissingInput,
    DataError.
    """
    path = Path(path)
    with open_file(path, what="feedback file") as dataset:
        if "EffectiveQC" not in dataset.groups:
            raise DataError(
                f"{path} is no feedback file: groups {', '.join(dataset.groups) or 'none'}, expected EffectiveQC"
            )
        return {
            name: {key: _plain(path, variable) for key, variable in group.variables.items()}
            for name, group in dataset.groups.items()
        }


def _errors(observations: Observations) -> list[dict[str, np.ndarray]]:
    """The column ObsError of every batch."""
    return [{"ObsError": batch.error.detach().cpu().to(torch.float64).numpy()} for batch in observations.batches]


def _columns(batch: ObsBatch, background_hx: Tensor, analysis_hx: Tensor | None) -> dict[str, np.ndarray]:
    """All columns of a batch, one entry for each observation."""
    values = batch.values.detach().cpu().to(torch.float64).numpy()
    error = batch.error.detach().cpu().to(torch.float64).numpy()
    flags = batch.flags.cpu().numpy().astype(np.int32)
    columns: dict[str, np.ndarray] = {
        "ObsValue": values,
        "ObsError": error,
        "PreQC": np.where(flags == QC.PRE_QC, int(QC.PRE_QC), 0).astype(np.int32),
        "EffectiveQC": flags,
        "EffectiveError": np.where(flags < QC.MISSING, error, np.nan),
    }
    for name, departure, hx in (("hofx", "ombg", background_hx), ("hofxa", "oman", analysis_hx)):
        if hx is not None:
            members = hx.detach().cpu().to(torch.float64).numpy()
            columns[name] = members.mean(axis=0)
            columns[f"{name}_spread"] = members.std(axis=0, ddof=1) if len(members) > 1 else np.full(len(batch), np.nan)
            columns[departure] = values - columns[name]
    columns["Reason"] = np.asarray(batch.reasons or [""] * len(batch), dtype=object)
    columns["ObsId"] = np.asarray(batch.ids, dtype=object)
    return columns


def _write_stream(
    target: Path, layout: Layout, batches: list[ObsBatch], columns: list[dict[str, np.ndarray]], facts: FileFacts
) -> None:
    rows = _arrange(batches, layout)
    known = rows.times[~np.isnat(rows.times)]
    span = np.asarray([known.min(), known.max()]) if len(known) else known

    def write(private: Path) -> None:
        with create_file(private) as dataset:
            attributes = global_attributes(replace(facts, kind="feedback"), layout, span)
            dataset.setncatts(attributes | {"cdm_data_type": "Point", "cycler_stream": batches[0].stream})
            dataset.createDimension("Location", len(rows.stations) or None)
            _write_locations(dataset, rows, layout)
            for name, units, group, values in _merged(batches, columns, rows, layout):
                _write_column(dataset, f"{group}/{name}", values, _attributes(group, name, units))

    write_atomically(target, write)


def _arrange(batches: list[ObsBatch], layout: Layout) -> _Rows:
    index: dict[tuple[Any, ...], int] = {}
    taken: set[tuple[str, int]] = set()
    row_of = []
    for batch in batches:
        seconds = batch.times.astype("datetime64[s]").astype(np.int64).tolist()  # NaT stays the smallest integer
        positions = map(tuple, batch.where.position.tolist())
        keys = zip(stations_of(batch.ids).tolist(), seconds, positions, strict=True)
        rows = []
        for name, key in zip(names_in(batch, layout).tolist(), keys, strict=True):
            copy = 0
            row = index.setdefault((key, copy), len(index))
            while (name, row) in taken:
                copy += 1
                row = index.setdefault((key, copy), len(index))
            taken.add((name, row))
            rows.append(row)
        row_of.append(np.asarray(rows, dtype=np.int64))
    heads = [key for key, _ in index]
    return _Rows(
        stations=np.asarray([head[0] for head in heads], dtype=object),
        times=np.asarray([head[1] for head in heads], dtype=np.int64).astype("datetime64[s]"),
        position=np.asarray([head[2] for head in heads], np.float64).reshape(len(heads), len(layout.grid.axes)),
        row_of=tuple(row_of),
    )


def _merged(
    batches: list[ObsBatch], columns: list[dict[str, np.ndarray]], rows: _Rows, layout: Layout
) -> list[tuple[str, str, str, np.ndarray]]:
    """(variable, units, group, values along Location) of a stream; every layout variable has its columns."""
    names: dict[str, str] = {variable.name: variable.units for variable in layout.variables}
    parts = []
    for batch, own in zip(batches, columns, strict=True):
        seen = names_in(batch, layout)
        parts.append((seen, own))
        names |= {name: units_of(batch.operator, name, layout) for name in dict.fromkeys(seen.tolist())}
    merged = []
    for group in dict.fromkeys(key for own in columns for key in own):
        for name, units in names.items():
            values = _empty(columns[0][group].dtype, len(rows.stations))
            for (seen, own), row in zip(parts, rows.row_of, strict=True):
                mask = seen == name
                values[row[mask]] = own[group][mask]
            merged.append((name, units, group, values))
    return merged


def _empty(dtype: np.dtype, size: int) -> np.ndarray:
    if dtype.kind == "O":
        return np.full(size, "", dtype=object)
    return np.full(size, _FILL["i4"] if dtype.kind == "i" else np.nan, dtype=dtype)


def _write_locations(dataset: netCDF4.Dataset, rows: _Rows, layout: Layout) -> None:
    index = dataset.createVariable("Location", "i4", ("Location",))
    index.setncatts({"long_name": "index of the location", "units": "1"})
    index[:] = np.arange(len(rows.stations), dtype=np.int32)
    seconds = np.where(np.isnat(rows.times), _FILL_TIME, rows.times.astype(np.int64))
    _write_column(
        dataset,
        "MetaData/dateTime",
        seconds,
        {"units": f"{TIME_UNITS}Z", "calendar": "standard", "long_name": "time of observation"},
    )
    for i_axis, axis in enumerate(layout.grid.axes):
        attributes = {"units": axis.units or "1", "long_name": f"position along the grid axis {axis.name}"}
        _write_column(dataset, f"MetaData/{axis.name}", rows.position[:, i_axis], attributes)
    if layout.grid.grid_mapping and len(layout.grid.axes) == 2:
        named = zip(("latitude", "longitude"), unproject(rows.position, layout.grid), strict=True)
        for (name, degrees), units in zip(named, ("degrees_north", "degrees_east"), strict=True):
            _write_column(dataset, f"MetaData/{name}", degrees, {"standard_name": name, "units": units})
    _write_column(
        dataset, "MetaData/stationIdentification", rows.stations, {"long_name": "name of the station or platform"}
    )


def _attributes(group: str, name: str, units: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"long_name": _MEANING[group].format(name)}
    if group == "EffectiveQC":
        flags = list(QC)
        return attributes | {
            "flag_values": np.asarray([int(flag) for flag in flags], dtype=np.int32),
            "flag_meanings": " ".join(flag.name.lower() for flag in flags),
        }
    return attributes if group in ("PreQC", "Reason", "ObsId") else attributes | {"units": units or "1"}


def _write_column(dataset: netCDF4.Dataset, name: str, values: np.ndarray, attributes: Mapping[str, Any]) -> None:
    if values.dtype.kind == "O":
        variable = dataset.createVariable(name, str, ("Location",))
    else:
        fill = _FILL_TIME if values.dtype == np.int64 else _FILL[values.dtype.str[1:]]
        variable = dataset.createVariable(name, values.dtype, ("Location",), fill_value=fill, **STORAGE)
        if values.dtype.kind == "f":
            values = np.where(np.isfinite(values), values, fill)
    variable.setncatts(dict(attributes))
    if len(values):
        variable[:] = values


def _plain(path: Path, variable: netCDF4.Variable) -> np.ndarray:
    values = np.asarray(read_part(path, variable))
    if variable.dtype is str:
        return values
    fill = getattr(variable, "_FillValue", None)
    absent = np.zeros(values.shape, dtype=bool) if fill is None else values == fill
    if values.dtype == np.int64:
        times = np.where(absent, 0, values).astype("datetime64[s]")
        times[absent] = np.datetime64("NaT")
        return times
    return np.where(absent, NOT_REPORTED if values.dtype.kind == "i" else np.nan, values)
