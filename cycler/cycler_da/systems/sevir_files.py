"""Reading SEVIR files: HDF5 as published, the low-resolution variant, and the catalogue.

A published file holds `vil` uint8 [event, 384, 384, 49] (1 km, 5 min) and `id` [event]; SEVIR-LR holds
`vil` uint8 [event, 128, 128, 25] (3 km, 10 min) and no `id`. The axes are (event, y, x, time), row 0 the
southern row. A NetCDF-4 file is an HDF5 file; where the axes carry dimension names these are obeyed, so
that (event, time, y, x) can be read too. Nothing is guessed from sizes.
Source: Veillette, Samsi and Mattioli (2020), NeurIPS, and the tutorial of the archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import DataError, MissingInput
from cycler_da.systems.sevir_catalog import catalog_rows, read_row
from cycler_da.systems.sevir_codec import MISSING_CODE
from cycler_da.systems.sevir_grid import SIZES, corner_at
from cycler_da.times import parse_time
from cycler_da.trial_read import require_harmless

if TYPE_CHECKING:
    from jaxtyping import UInt8

DATASET = "vil"
PUBLISHED_AXES = ("event", "y", "x", "time")
#: Names under which other writers store the event axis.
_EVENT_NAMES = ("event", "seq", "sequence", "demo", "sample")

WHERE_AND_WHAT = (
    "SEVIR is public: bucket s3://sevir, folder data/vil (Registry of Open Data on AWS, "
    "https://registry.opendata.aws/sevir; Veillette et al. 2020, NeurIPS). "
    "The file must be HDF5 with a dataset `vil`, uint8 codes (255 missing), axes (event, y, x, time): "
    "[N, 384, 384, 49] as published (1 km, 5 min), or [N, 128, 128, T] (3 km; SEVIR-LR has T = 25 every "
    "10 min, then also set nature.frame_interval=10min); row 0 is south; a dataset `id` [N] is optional. "
    "Give the path with `--set nature.path=FILE.h5` and the event with `--set nature.event=INDEX_OR_ID`."
)


def read_event(path: str | Path, event: int | str) -> tuple[UInt8[np.ndarray, "time y x"], str]:
    """Read all frames of one event, codes as stored, and the event's id ("" when the file has none).

    `event` is a row number (from 0) or an id. Raises MissingInput when the file is absent and DataError
    when it is not what a SEVIR file is; both say where SEVIR is to be had and what is expected.
    """
    require_harmless(Path(path), what="radar file", reader=_try_event, argument=event)
    return _read_event(path, event)


def _read_event(path: str | Path, event: int | str) -> tuple[UInt8[np.ndarray, "time y x"], str]:
    with _opened(path) as file:
        dataset, order = _vil_dataset(file, Path(path))
        ids = _event_ids(file)
        row = _event_row(event, ids, dataset.shape[order.index("event")], Path(path))
        codes = dataset[tuple(row if name == "event" else slice(None) for name in order)]
    kept = [name for name in order if name != "event"]
    codes = np.ascontiguousarray(codes.transpose([kept.index(name) for name in ("time", "y", "x")]))
    return codes, ids[row] if ids else ""


def read_event_id(path: str | Path, event: int | str) -> str:
    """The id of an event, "" when the file has none; reads no frames. Errors as in `read_event`."""
    require_harmless(Path(path), what="radar file", reader=_read_id, argument=event)
    return _read_id(path, event)


def _read_id(path: str | Path, event: int | str) -> str:
    with _opened(path) as file:
        dataset, order = _vil_dataset(file, Path(path))
        ids = _event_ids(file)
        row = _event_row(event, ids, dataset.shape[order.index("event")], Path(path))
    return ids[row] if ids else ""


def _try_event(path: Path, event: int | str) -> None:
    _read_event(path, event)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    import h5py

    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"radar file {path} does not exist. {WHERE_AND_WHAT}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:  # h5py raises either for a damaged file
        raise DataError(f"radar file {path} cannot be read as HDF5 ({error}). {WHERE_AND_WHAT}") from error


def _vil_dataset(file: Any, path: Path) -> tuple[Any, tuple[str, ...]]:
    import h5py

    dataset = file.get(DATASET)
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"radar file {path} has no dataset {DATASET!r}, only {sorted(file)}. {WHERE_AND_WHAT}")
    if dataset.dtype != np.uint8 or dataset.ndim != 4:
        raise DataError(
            f"radar file {path}: dataset {DATASET!r} is {dataset.dtype} of shape {dataset.shape}. {WHERE_AND_WHAT}"
        )
    order = _axis_order(dataset, path)
    size = dict(zip(order, dataset.shape, strict=True))
    if size["y"] != size["x"] or size["y"] not in SIZES or size["time"] < 2:
        raise DataError(
            f"radar file {path}: dataset {DATASET!r} has shape {dataset.shape}, read as {order}. {WHERE_AND_WHAT}"
        )
    return dataset, order


def _axis_order(dataset: Any, path: Path) -> tuple[str, ...]:
    names = [axis[0].name.rsplit("/", 1)[-1] if len(axis) else axis.label for axis in dataset.dims]
    if not all(names):
        return PUBLISHED_AXES
    order = tuple("event" if name in _EVENT_NAMES else name for name in names)
    if sorted(order) != sorted(PUBLISHED_AXES):
        raise DataError(f"radar file {path}: dataset {DATASET!r} has axes {tuple(names)}. {WHERE_AND_WHAT}")
    return order


def _event_ids(file: Any) -> list[str]:
    if "id" not in file:
        return []
    return [value.decode() if isinstance(value, bytes) else str(value) for value in file["id"][:]]


def _event_row(event: int | str, ids: list[str], n_events: int, path: Path) -> int:
    if isinstance(event, str):
        if ids.count(event) == 1:
            return ids.index(event)
        known = f"ids of the file: {', '.join(ids[:8])}{', ...' if len(ids) > 8 else ''}" if ids else "it has no ids"
        raise DataError(
            f"radar file {path}: event id {event!r} occurs {ids.count(event)} times ({known}); "
            f"set nature.event to a row number from 0 to {n_events - 1}"
        )
    if not 0 <= event < n_events:
        raise DataError(f"radar file {path}: event {event} is not one of its {n_events} events (counted from 0)")
    return event


def coarsen_max(codes: UInt8[np.ndarray, "time 384 384"]) -> UInt8[np.ndarray, "time 128 128"]:
    """Take the largest code of each block of 3 x 3 pixels, as SEVIR-LR does.

    A block with a missing pixel is missing: its largest echo is not known (255 also wins the maximum of
    the published low-resolution files).
    """
    blocks = _blocks(codes)
    is_missing = (blocks == MISSING_CODE).any(axis=(2, 4))
    return np.where(is_missing, np.uint8(MISSING_CODE), blocks.max(axis=(2, 4)))


def coarsen_centre(codes: UInt8[np.ndarray, "time 384 384"]) -> UInt8[np.ndarray, "time 128 128"]:
    """Take the centre pixel of each block of 3 x 3 pixels: a sample of the 1 km field, without smoothing."""
    return np.ascontiguousarray(_blocks(codes)[:, :, 1, :, 1])


def _blocks(codes: np.ndarray) -> np.ndarray:
    n_time, n_y, n_x = codes.shape
    return codes.reshape(n_time, n_y // 3, 3, n_x // 3, 3)


@dataclass(frozen=True)
class CatalogEntry:
    """What the catalogue says of the VIL frames of one event."""

    event: str
    corner: tuple[float, float]  # outer south-western corner (Y, X), map metres
    middle_time: np.datetime64  # of the frame at minute offset 0
    minute_offsets: tuple[int, ...]  # of every frame; nominally every 5 minutes, shifted by up to 2 in some events


def read_catalog(path: str | Path, event: str) -> CatalogEntry:
    """Find the VIL row of an event in CATALOG.csv (plain or .gz).

    Raises MissingInput when there is no such file and DataError when it is damaged, or the event is not in it, or in it
    twice with different positions or times.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"SEVIR catalogue {path} does not exist; it is s3://sevir/CATALOG.csv. {WHERE_AND_WHAT}")
    rows = [(line, row) for line, row in catalog_rows(path) if row.get("id") == event]
    found = {read_row(_entry, path, line, row) for line, row in rows}
    if not found:
        raise DataError(f"SEVIR catalogue {path} has no row with id {event!r} and img_type {DATASET!r}")
    if len(found) > 1:
        raise DataError(
            f"SEVIR catalogue {path} describes event {event!r} {len(rows)} times, with different positions or times "
            f"({', '.join(sorted(str(one.middle_time) for one in found))}); remove the wrong rows"
        )
    return found.pop()


def _entry(row: dict[str, str]) -> CatalogEntry:
    return CatalogEntry(
        event=row["id"],
        corner=corner_at((float(row["llcrnrlat"]), float(row["llcrnrlon"]))),
        middle_time=parse_time(row["time_utc"]),
        minute_offsets=tuple(int(part) for part in row["minute_offsets"].split(":")),
    )
