"""SEVIR radar as a system and as a nature run: VIL frames of one event, in kg m-2.

A nature run here is not computed: it is what the radars of the United States saw (Veillette et al. 2020,
NeurIPS). Frames are every `frame_interval`; the system steps by `step`, so every n-th frame is used. Codes
are decoded by `sevir_codec`; what the radars did not cover is NaN, never zero.

An event without a catalogue row has no position and no date. It is then placed around `centre` at
`start_time`, and every product says `georeference = "assumed"`.
Limits: valid times are nominal (the archive's frames may be up to two minutes off); two windows of one
storm are one storm, whatever their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.layout import Layout
from cycler_da.registry import Spec, register
from cycler_da.systems.code_scale import decode_codes
from cycler_da.systems.sevir_codec import MISSING_CODE
from cycler_da.systems.sevir_files import (
    CatalogEntry,
    coarsen_centre,
    coarsen_max,
    read_catalog,
    read_event,
    read_event_id,
)
from cycler_da.systems.sevir_grid import SIZES, corner_at, corner_of_centre, sevir_layout
from cycler_da.times import iso_time, parse_duration, parse_time

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from torch import Tensor

_COARSEN = {"max": coarsen_max, "centre": coarsen_centre}
#: Where an event of unknown position is put: the plains, far from every coast (latitude, longitude).
DEFAULT_CENTRE = (39.0, -97.0)


@register("system", "sevir")
@dataclass(frozen=True, kw_only=True)
class SevirSystemSpec(Spec):
    """VIL on a patch of 384 km; the truth of its dynamics is not known, so there is no solver."""

    size: int = 128  # cells along each axis: 128 of 3 km or 384 of 1 km
    step: str = "10min"
    centre: tuple[float, float] = DEFAULT_CENTRE  # latitude, longitude in degrees
    lower_left: tuple[float, float] | None = None  # outer corner (latitude, longitude), as in the catalogue

    def __post_init__(self) -> None:
        _require_size(self.size)
        parse_duration(self.step)

    @property
    def has_position(self) -> bool:
        """True when the config says where the patch is."""
        return self.lower_left is not None or self.centre != DEFAULT_CENTRE

    def physics(self) -> dict[str, Any]:
        """None: where the patch is, is a matter of the grid."""
        return {}

    def layout(self) -> Layout:
        """Layout of the state: VIL in kg m-2."""
        corner, origin = _place(self.centre, self.lower_left, None)
        return sevir_layout(self.size, parse_duration(self.step), corner=corner, georeference=origin)

    def build(self) -> SevirSystem:
        """Build the system."""
        return SevirSystem(self.layout())


@dataclass(frozen=True)
class SevirSystem:
    """A system that is only observed."""

    layout: Layout


@register("nature", "sevir")
@dataclass(frozen=True, kw_only=True)
class SevirNatureSpec(Spec):
    """One event of a SEVIR file."""

    path: str  # HDF5 file
    event: int | str = 0  # row number or id
    size: int = 128
    step: str = "10min"
    frame_interval: str = "5min"  # of the file: 5min as published, 10min in SEVIR-LR
    coarsen: str = "max"  # from 384 to 128 cells: max, as SEVIR-LR, or centre
    start_time: str = "2019-06-01T00:00Z"  # of the first frame, where no catalogue tells it
    centre: tuple[float, float] = DEFAULT_CENTRE
    lower_left: tuple[float, float] | None = None
    catalog: str | None = None  # CATALOG.csv of the archive: position and time of the event

    def __post_init__(self) -> None:
        _require_size(self.size)
        if self.coarsen not in _COARSEN:
            raise ConfigError(f"nature sevir: coarsen {self.coarsen!r} is not one of {', '.join(sorted(_COARSEN))}")
        parse_time(self.start_time)
        if self.frames_per_step < 1 or parse_duration(self.step) % parse_duration(self.frame_interval):
            raise ConfigError(
                f"nature sevir: step {self.step} is not a whole number of frame intervals of {self.frame_interval}"
            )

    @property
    def identity(self) -> str:
        """Names the frames: file, event and how they are brought to the grid."""
        return f"{Path(self.path).name} event {self.event} size {self.size} coarsen {self.coarsen}"

    @property
    def frames_per_step(self) -> int:
        """Frames of the file in one step of the system."""
        return int(parse_duration(self.step) // parse_duration(self.frame_interval))

    def layout(self) -> Layout:
        """Layout of the frames; the file is read only where the position stands in the catalogue.

        Raises MissingInput or DataError as `build` does.
        """
        entry = None if self.catalog is None else self._entry(read_event_id(self.path, self.event))
        corner, origin = _place(self.centre, self.lower_left, entry)
        return sevir_layout(self.size, parse_duration(self.step), corner=corner, georeference=origin)

    def build(self) -> SevirNature:
        """Read the event; raises MissingInput or DataError with what a SEVIR file must look like."""
        codes, event_id = read_event(self.path, self.event)
        if (codes == MISSING_CODE).all():
            raise DataError(
                f"radar file {self.path}: every pixel of event {self.event} is missing; choose another event"
            )
        entry = self._entry(event_id)
        corner, origin = _place(self.centre, self.lower_left, entry)
        step = parse_duration(self.step)
        frames = at_size(codes[:: self.frames_per_step], self.size, coarsen=self.coarsen, path=self.path)
        return SevirNature(
            codes=frames,
            valid_times=self._first_time(entry) + step * np.arange(len(frames)),
            layout=sevir_layout(self.size, step, corner=corner, georeference=origin),
            attributes=self._attributes(event_id, codes, origin),
        )

    def _entry(self, event_id: str) -> CatalogEntry | None:
        if self.catalog is None:
            return None
        if not event_id:
            raise DataError(
                f"radar file {self.path} has no dataset `id`, so its events cannot be found in {self.catalog}; "
                "leave nature.catalog out and set nature.lower_left and nature.start_time"
            )
        return read_catalog(self.catalog, event_id)

    def place(self) -> tuple[tuple[float, float], str]:
        """South-western corner in map metres as the config gives it, and where it comes from."""
        return _place(self.centre, self.lower_left, None)

    def _first_time(self, entry: CatalogEntry | None) -> np.datetime64:
        if entry is None:
            return parse_time(self.start_time)
        # Nominal: the first frame's offset rounded to the frame interval.
        interval = int(parse_duration(self.frame_interval) / np.timedelta64(60, "s"))
        first = interval * round(entry.minute_offsets[0] / interval)
        return entry.middle_time + np.timedelta64(60 * first, "s")

    def _attributes(self, event_id: str, codes: np.ndarray, origin: str) -> dict[str, str]:
        resized = codes.shape[-1] != self.size
        return {
            "source": "SEVIR VIL (Veillette et al. 2020, NeurIPS)",
            "event": event_id or str(self.event),
            "georeference": origin,
            "time_reference": "catalogue" if self.catalog else "assumed",
            "coarsening": self.coarsen if resized else "none",
            "missing_fraction": f"{float((codes == MISSING_CODE).mean()):.4f}",
        }


@dataclass(frozen=True)
class SevirNature:
    """Frames of one event at the times of the system's steps."""

    codes: UInt8[np.ndarray, "time y x"]
    valid_times: np.ndarray  # datetime64[s], increasing
    layout: Layout
    attributes: Mapping[str, str]

    def states(self, times: np.ndarray) -> Float[Tensor, "time 1 y x"]:
        """VIL at the given valid times, kg m-2, float32; NaN where missing.

        Raises MissingInput when the event has no frame at one of the times.
        """
        return decode_codes(self._frames(times))

    def missing(self, times: np.ndarray) -> Bool[Tensor, "time 1 y x"]:
        """True where the radars saw nothing at all (not: where they saw no echo)."""
        return self._frames(times) == MISSING_CODE

    def _frames(self, times: np.ndarray) -> UInt8[Tensor, "time 1 y x"]:
        wanted = np.atleast_1d(times).astype("datetime64[s]")
        rows = np.searchsorted(self.valid_times, wanted).clip(0, len(self.valid_times) - 1)
        absent = wanted[self.valid_times[rows] != wanted]
        if len(absent):
            first, last = iso_time(self.valid_times[0]), iso_time(self.valid_times[-1])
            raise MissingInput(
                f"radar event {self.attributes['event']}: no frame at {iso_time(absent[0])}; it has "
                f"{len(self.valid_times)} frames from {first} to {last}; start the experiment later, end it "
                "earlier, or choose another event"
            )
        return torch.from_numpy(self.codes[rows][:, None])


def at_size(
    codes: UInt8[np.ndarray, "time y x"], size: int, *, coarsen: str, path: str
) -> UInt8[np.ndarray, "time y x"]:
    """Frames with `size` cells along each axis; raises DataError where the file has fewer."""
    stored = codes.shape[-1]
    if stored == size:
        return codes
    if stored < size:
        raise DataError(
            f"radar file {path} has {stored} x {stored} pixels, the config asks for {size}; "
            f"set system.size and nature.size to {stored}"
        )
    return _COARSEN[coarsen](codes)


def _require_size(size: int) -> None:
    if size not in SIZES:
        raise ConfigError(f"sevir size must be one of {SIZES} cells (3 km or 1 km), got {size}")


def _place(
    centre: tuple[float, float], lower_left: tuple[float, float] | None, entry: CatalogEntry | None
) -> tuple[tuple[float, float], str]:
    """South-western corner in map metres, and where it comes from."""
    if entry is not None:
        return entry.corner, "catalogue"
    if lower_left is not None:
        return corner_at(lower_left), "config"
    return corner_of_centre(centre), "assumed"
