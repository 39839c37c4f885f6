"""Observation files: read and check what a window brings.

One NetCDF-4 file for each stream and window, `<stream>_<stamp>.nc` (stamp = end of the window), laid out as
in IODA: dimension Location; groups MetaData (dateTime, positions, stationIdentification), ObsValue and
ObsError (standard deviation) with one variable for each observed quantity, and PreQC. A pair of location
and variable is reported when its ObsError is set, or when its ObsValue is; docs/observations.md has
the whole contract. Files are written by `obs.file_writer`.

What breaks the contract as a whole (damage, wrong units, wrong grid, unknown names, errors <= 0) raises
ObsFileError; a single bad value does not, it goes to quality control. Observations come back in an order
of their own (by time, identity and value), so that nothing downstream depends on the order in the file.

Limit: HDF5 has no checksum for strings of variable length; a damaged station name in a file that uses them
may go unnoticed, stall the library or end the process, so files from outside are tried first (trial_read.py).
Files written here store text of fixed length, with checksums.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
import torch

from cycler_da.errors import MissingInput, ObsFileError
from cycler_da.layout import Layout
from cycler_da.obs.base import QC, Locations, ObsBatch, ObservationOperator
from cycler_da.obs.file_columns import read_numbers, read_positions, read_stations, read_times, require_units
from cycler_da.obs.identity import observation_ids, units_of
from cycler_da.times import EPOCH

if TYPE_CHECKING:
    from jaxtyping import Float

GROUPS = ("MetaData", "ObsValue", "ObsError")
NO_ERROR = "the file gives a value without an ObsError"

#: What the NetCDF library, numpy and Python raise on files that are not what they seem.
_DAMAGE = (OSError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True)
class _Rows:
    """The location part of a file."""

    position: Float[np.ndarray, "location axis"]
    times: np.ndarray  # datetime64[s]
    stations: np.ndarray  # str


@dataclass(frozen=True)
class _Pairs:
    """Reported pairs of location and variable."""

    row: np.ndarray  # int64, location of the pair
    variable: np.ndarray  # str
    value: np.ndarray
    error: np.ndarray
    preqc: np.ndarray  # int64


def find_obs_file(folder: Path | str, stream: str, stamp: str) -> Path | None:
    """Path of the file of a stream and window, or None when there is none.

    A pipe or a device counts as none: reading it may never end. Raises MissingInput when the folder itself is
    absent: that is a wrong path, not a window without data.
    """
    require_folder(folder, stream)
    path = Path(folder) / f"{stream}_{stamp}.nc"
    return path if path.is_file() or path.is_dir() else None


def stream_of_file(path: Path | str) -> str:
    """Stream of a file by its name: `STREAM_YYYYMMDDTHHMMZ.nc`, `in.STREAM.nc` in a store, or STREAM.nc."""
    stem = Path(path).stem
    return re.sub(r"_\d{8}T\d{4,6}Z$", "", stem).removeprefix("in.")


def require_folder(folder: Path | str, stream: str) -> None:
    """Raise MissingInput unless the folder of a stream's files exists."""
    if not Path(folder).is_dir():
        raise MissingInput(
            f"observations of stream {stream!r}: folder {folder} does not exist; "
            "correct its path in the config, or make observations with `cycler observe`"
        )


def read_obs_file(
    path: Path | str, layout: Layout, *, stream: str, operators: Mapping[str, ObservationOperator]
) -> list[ObsBatch]:
    """Read a file into one batch for each distinct operator, in the order of `operators`.

    `operators` names what the file may hold: variable -> operator. Values that are missing or not finite
    stay so; PreQC marks and values without an error come back flagged PRE_QC. Raises ObsFileError.
    """
    path = Path(path)
    content = _read_bytes(path)
    try:
        with netCDF4.Dataset(path.name, memory=content) as file:
            _require_layout(file, layout)
            rows, pairs = _read(file, layout, operators)
    except ObsFileError as error:
        raise ObsFileError(f"observation file {path}: {error}") from None
    except _DAMAGE as error:
        raise ObsFileError(
            f"observation file {path} ({len(content)} bytes) is not a whole NetCDF-4 file: {error}. It is truncated, "
            "damaged or of another format; send it again or remove it"
        ) from error
    return _batches(rows, pairs, layout, stream=stream, operators=operators)


def _read_bytes(path: Path) -> bytes:
    """Read the file at once: what is checked is what is used, though the file may change meanwhile."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ObsFileError(f"observation file {path} cannot be opened: {error}") from error
    if not content:
        raise ObsFileError(
            f"observation file {path} is empty (0 bytes); a window without observations is a file with the "
            "full schema and zero Locations. Send it again or remove it"
        )
    return content


def _read(file: Any, layout: Layout, operators: Mapping[str, ObservationOperator]) -> tuple[_Rows, _Pairs]:
    absent = [name for name in GROUPS if name not in file.groups]
    if absent:
        raise ObsFileError(
            f"it lacks the groups {', '.join(absent)}; got groups: {', '.join(file.groups) or 'none'}; "
            f"expected {', '.join(GROUPS)} and, if wanted, PreQC"
        )
    metadata = file.groups["MetaData"]
    times = read_times(metadata)
    rows = _Rows(
        read_positions(metadata, layout.grid, n_locations=len(times)),
        times,
        read_stations(metadata, n_locations=len(times)),
    )
    parts = [
        _read_variable(file, name, layout, operators=operators, n_locations=len(times))
        for name in _variable_names(file, operators)
    ]
    return rows, _join(parts)


def _variable_names(file: Any, operators: Mapping[str, ObservationOperator]) -> list[str]:
    found = list(file.groups["ObsValue"].variables)
    groups = [file.groups[name] for name in ("ObsValue", "ObsError", "PreQC") if name in file.groups]
    unknown = sorted({name for group in groups for name in group.variables} - set(operators))
    if unknown:
        raise ObsFileError(f"unknown variable {', '.join(unknown)}; valid: {', '.join(operators)}")
    if set(file.groups["ObsError"].variables) != set(found):
        raise ObsFileError(
            f"ObsValue holds {', '.join(found) or 'nothing'}, "
            f"ObsError holds {', '.join(file.groups['ObsError'].variables) or 'nothing'}; "
            "expected the same variables in both"
        )
    return found


def _read_variable(
    file: Any, name: str, layout: Layout, *, operators: Mapping[str, ObservationOperator], n_locations: int
) -> _Pairs:
    units = units_of(operators[name], name, layout)
    for group in ("ObsValue", "ObsError"):
        require_units(file.groups[group].variables[name], units, what=f"{group}/{name}")
    value = read_numbers(file, f"ObsValue/{name}", n_locations=n_locations)
    error = read_numbers(file, f"ObsError/{name}", n_locations=n_locations)
    preqc = np.zeros(n_locations)
    if "PreQC" in file.groups and name in file.groups["PreQC"].variables:
        preqc = np.nan_to_num(read_numbers(file, f"PreQC/{name}", n_locations=n_locations))
    wrong = np.flatnonzero((error <= 0.0) | np.isinf(error))
    if len(wrong):
        raise ObsFileError(
            f"ObsError/{name} holds {len(wrong)} values that are no standard deviation, the first at location "
            f"{wrong[0]}: got {error[wrong[0]]:g} {units}, expected a finite number > 0 (or the fill value where "
            "nothing is reported)"
        )
    row = np.flatnonzero(~np.isnan(error) | np.isfinite(value))
    return _Pairs(row, np.full(len(row), name), value[row], error[row], preqc[row].astype(np.int64))


def _join(parts: list[_Pairs]) -> _Pairs:
    none = np.zeros(0)
    empty = _Pairs(none.astype(np.int64), none.astype(np.str_), none, none, none.astype(np.int64))
    parts = [empty, *parts]
    return _Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Pairs.__annotations__))


def _require_layout(file: Any, layout: Layout) -> None:
    digest = getattr(file, "cycler_layout_digest", None)
    if digest is not None and str(digest) != layout.digest:
        raise ObsFileError(
            f"it was made for another grid or other variables: cycler_layout_digest is {digest}, the layout of "
            f"{layout.system} has {layout.digest}; make it again for this layout"
        )


def _batches(
    rows: _Rows, pairs: _Pairs, layout: Layout, *, stream: str, operators: Mapping[str, ObservationOperator]
) -> list[ObsBatch]:
    batches = []
    for operator in {id(operator): operator for operator in operators.values()}.values():
        names = [name for name in operators if operators[name] is operator]
        chosen = np.flatnonzero(np.isin(pairs.variable, names))
        batches.append(_batch(rows, pairs, chosen, layout, stream=stream, operator=operator))
    return batches


def _batch(
    rows: _Rows, pairs: _Pairs, chosen: np.ndarray, layout: Layout, *, stream: str, operator: ObservationOperator
) -> ObsBatch:
    row = pairs.row[chosen]
    ids = observation_ids(
        rows.stations[row], variables=pairs.variable[chosen], times=rows.times[row], position=rows.position[row]
    )
    # Copies of one observation share their id; value, error and mark then settle the order.
    keys = (pairs.preqc[chosen], pairs.error[chosen], pairs.value[chosen], ids, (rows.times[row] - EPOCH).astype(int))
    order = np.lexsort(keys)
    chosen, row, ids = chosen[order], row[order], ids[order]
    position, preqc, error = rows.position[row], pairs.preqc[chosen], pairs.error[chosen]
    is_marked = (preqc != 0) | np.isnan(error)
    reasons = [
        NO_ERROR if no_error else f"PreQC is {mark} in the file" if mark else ""
        for no_error, mark in zip(np.isnan(error), preqc, strict=True)
    ]
    channel = [layout.channels.index(name) if name in layout.channels else 0 for name in pairs.variable[chosen]]
    return ObsBatch(
        stream=stream,
        operator=operator,
        where=Locations(torch.from_numpy(position), torch.tensor(channel, dtype=torch.int64)),
        values=torch.from_numpy(pairs.value[chosen]),
        error=torch.from_numpy(error),
        times=rows.times[row],
        ids=ids,
        flags=torch.from_numpy(np.where(is_marked, int(QC.PRE_QC), int(QC.USED)).astype(np.int32)),
        reasons=tuple(reasons),
    )
