"""Latitude and longitude to grid coordinates and back, through the layout's CF grid mapping.

The projection is built from the CF attributes alone (no database, no network). Latitude and longitude are
those of the mapping's own sphere or ellipsoid; nothing is shifted between datums.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import ObsFileError
from cycler_da.layout import Grid

if TYPE_CHECKING:
    from jaxtyping import Float


def project(
    latitude: Float[np.ndarray, "obs"], longitude: Float[np.ndarray, "obs"], grid: Grid
) -> Float[np.ndarray, "obs axis"]:
    """Positions along (y, x) in m of points in degrees; not finite where the map does not show a point.

    Raises ObsFileError when the grid has no mapping.
    """
    x, y = _transformer(grid).transform(longitude, latitude)
    return np.stack([np.asarray(y, np.float64), np.asarray(x, np.float64)], axis=-1)


def unproject(position: Float[np.ndarray, "obs axis"], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude in degrees of positions along (y, x) in m; inverse of `project`."""
    longitude, latitude = _transformer(grid).transform(position[:, 1], position[:, 0], direction="INVERSE")
    return np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)


def _transformer(grid: Grid) -> Any:
    if not grid.grid_mapping:
        raise ObsFileError(
            "it places observations by latitude and longitude, but the grid has no grid mapping; "
            f"give positions along the grid axes instead: {', '.join(grid.names)}"
        )
    return _transformer_of(tuple(sorted((key, _hashable(value)) for key, value in grid.grid_mapping.items())))


@lru_cache(maxsize=8)
def _transformer_of(items: tuple[tuple[str, Any], ...]) -> Any:
    # Imported here: only mapped grids need it, and it is slow to load.
    import pyproj

    crs = pyproj.CRS.from_cf({key: list(value) if isinstance(value, tuple) else value for key, value in items})
    return pyproj.Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
