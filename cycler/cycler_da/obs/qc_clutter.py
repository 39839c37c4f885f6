"""Echo that is no weather: speckle, and the range rings and spikes of a radar.

Observations of a stream that have one value in each cell (a composite, or a part of one) are looked at as a picture:

    echo       a value of `echo` or more; clear: observed, and less
    speckle    echo with fewer than `neighbours` echoes among the eight cells around it, four of which were observed
    thin       echo with clear cells `thickness` cells away on both sides: along the range (ring) or across it (spike)
    ring       cells at one distance from a site, `share` of which are thin in range
    spike      cells along one ray from a site, `share` of which are thin across

Of rings and spikes only the thin cells are rejected, so a storm that crosses one stays. What is not observed is never
taken for clear: a tenth of the pixels shows neither thin echo nor speckle, and nothing is rejected.
Flag: BUDDY. Source of the idea: texture and thinness as signs of clutter, Steiner and Smith (2002), J. Atmos. Oceanic
Technol. 19, 673-686. Limits: two horizontal axes with equal spacing; a real line of echo that runs straight away from a
radar and is thinner than `thickness` looks like a spike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.registry import Spec

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from cycler_da.layout import Grid

#: Neighbours (of eight) that must be observed before an echo can be called alone.
NEIGHBOURS_SEEN = 4
#: Cells of a ring or ray that must be observed, and cells around a site that no ray is looked for in.
LEAST_SEEN, NEAR = 8, 4.0
#: Half the width of a ray, cells.
RAY_HALF_WIDTH = 0.6

SPECKLE, RING, SPIKE = "speckle", "ring", "spike"


@dataclass(frozen=True, kw_only=True)
class ClutterSettings(Spec):
    """What is taken for clutter."""

    echo: float  # smallest value that is echo, units of the observed variable
    neighbours: int = 1  # echoes around one that is no speckle; 0: no check of speckle
    sites: tuple[tuple[float, float], ...] = ()  # radars, (y, x) in the units of the axes
    thickness: float = 3.0  # cells
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.neighbours <= 8:
            raise ConfigError(f"quality control: clutter.neighbours is {self.neighbours}, expected 0 to 8")
        if not self.thickness >= 2:
            raise ConfigError(f"quality control: clutter.thickness is {self.thickness}, expected 2 cells or more")
        if not 0 < self.share <= 1:
            raise ConfigError(f"quality control: clutter.share is {self.share}, expected 0 < share <= 1")


@dataclass(frozen=True)
class Picture:
    """Cells that were observed, and those with echo."""

    seen: Bool[np.ndarray, "y x"]
    echo: Bool[np.ndarray, "y x"]

    def is_clear(self, y: Float[np.ndarray, "cell"], x: Float[np.ndarray, "cell"]) -> Bool[np.ndarray, "cell"]:
        """Observed without echo in the cell nearest to a place; false outside the picture."""
        row, column = np.floor(y + 0.5).astype(np.int64), np.floor(x + 0.5).astype(np.int64)
        n_y, n_x = self.seen.shape
        inside = (row >= 0) & (row < n_y) & (column >= 0) & (column < n_x)
        row, column = row.clip(0, n_y - 1), column.clip(0, n_x - 1)
        return inside & self.seen[row, column] & ~self.echo[row, column]


def clutter(
    value: Float[np.ndarray, "obs"], index: Float[np.ndarray, "obs 2"], grid: Grid, settings: ClutterSettings
) -> np.ndarray:
    """What each observation is taken for, a text ("" for weather); `index` is the position in cells.

    Raises ConfigError for a grid without two axes.
    """
    if len(grid.shape) != 2:
        raise ConfigError(f"quality control: clutter needs a grid with two axes, this one has {len(grid.shape)}")
    row, column = (np.floor(index[:, k] + 0.5).astype(np.int64).clip(0, n - 1) for k, n in enumerate(grid.shape))
    seen, echo = np.zeros(grid.shape, dtype=bool), np.zeros(grid.shape, dtype=bool)
    seen[row, column] = True
    echo[row[value >= settings.echo], column[value >= settings.echo]] = True
    picture, found = Picture(seen, echo), np.full(grid.shape, "", dtype="U8")
    for site in settings.sites:
        centre = [(place - axis.origin) / axis.spacing for place, axis in zip(site, grid.axes, strict=True)]
        found[rings(picture, centre, settings)] = RING
        found[spikes(picture, centre, settings)] = SPIKE
    found[speckle(picture, settings.neighbours) & (found == "")] = SPECKLE
    return np.where(value >= settings.echo, found[row, column], "")


def speckle(picture: Picture, neighbours: int) -> Bool[np.ndarray, "y x"]:
    """Echo with too few echoes around it."""
    seen, echoes = (_around(part) for part in (picture.seen, picture.echo))
    return picture.echo & (seen >= NEIGHBOURS_SEEN) & (echoes < neighbours)


def rings(picture: Picture, centre: list[float], settings: ClutterSettings) -> Bool[np.ndarray, "y x"]:
    """Thin echo of the distances that are full of it."""
    y, x, distance = _from(picture, centre)
    thin = _thin(picture, y / distance, x / distance, settings.thickness)
    bins = np.floor(distance + 0.5).astype(np.int64)
    n_seen = np.bincount(bins.ravel(), weights=picture.seen.ravel())
    n_thin = np.bincount(bins.ravel(), weights=thin.ravel())
    is_ring = (n_seen >= LEAST_SEEN) & (n_thin >= settings.share * n_seen)
    return thin & is_ring[bins]


def spikes(picture: Picture, centre: list[float], settings: ClutterSettings) -> Bool[np.ndarray, "y x"]:
    """Thin echo of the rays that are full of it; rays are a degree apart."""
    y, x, distance = _from(picture, centre)
    thin = _thin(picture, -x / distance, y / distance, settings.thickness)
    found = np.zeros_like(thin)
    for angle in np.deg2rad(np.arange(360)):
        along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
        ray = (along > NEAR) & (np.abs(across) <= RAY_HALF_WIDTH)
        n_seen = int((ray & picture.seen).sum())
        if n_seen >= LEAST_SEEN and (ray & thin).sum() >= settings.share * n_seen:
            found |= ray & thin
    return found


def _from(picture: Picture, centre: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of all cells from a site and their distance, cells; the site's own cell is kept from zero."""
    n_y, n_x = picture.seen.shape
    y, x = np.meshgrid(np.arange(n_y) - centre[0], np.arange(n_x) - centre[1], indexing="ij")
    return y, x, np.maximum(np.hypot(y, x), 1e-9)


def _thin(picture: Picture, dy: np.ndarray, dx: np.ndarray, thickness: float) -> Bool[np.ndarray, "y x"]:
    """Echo that is clear on both sides along the unit vectors (dy, dx)."""
    row, column = np.nonzero(picture.echo)
    step_y, step_x = thickness * dy[row, column], thickness * dx[row, column]
    is_thin = picture.is_clear(row + step_y, column + step_x) & picture.is_clear(row - step_y, column - step_x)
    thin = np.zeros_like(picture.echo)
    thin[row[is_thin], column[is_thin]] = True
    return thin


def _around(part: Bool[np.ndarray, "y x"]) -> np.ndarray:
    """Number of true cells among the eight around each."""
    n_y, n_x = part.shape
    wide = np.pad(part.astype(np.int64), 1)
    total = sum(wide[i : i + n_y, j : j + n_x] for i in range(3) for j in range(3))
    return np.asarray(total) - part
