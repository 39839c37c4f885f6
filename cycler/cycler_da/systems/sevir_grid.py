"""Where SEVIR patches lie: the Lambert azimuthal equal-area map of the archive and layouts made on it.

SEVIR cuts 384 km squares out of one map of the United States (proj string of its catalogue:
`+proj=laea +lat_0=38 +lon_0=-98 +units=m +a=6370997.0 +ellps=sphere`). On the sphere (Snyder 1987, USGS
Professional Paper 1395, eqs. 22-4, 22-5, 24-2, 20-14, 20-15, 24-16):

    k = sqrt(2 / (1 + sin p0 sin p + cos p0 cos p cos(l - l0)))
    X = R k cos p sin(l - l0),   Y = R k (cos p0 sin p - sin p0 cos p cos(l - l0))

The catalogue gives corners of patches; a layout's axes hold cell centres, half a cell inside. Row 0 is the
southern row. Origins are rounded to whole metres, so that a layout's digest does not hang on the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cycler_da.layout import Axis, Grid, Layout, Variable

if TYPE_CHECKING:
    from jaxtyping import Float

EARTH_RADIUS = 6370997.0  # m
LATITUDE_OF_ORIGIN = 38.0  # degrees north
LONGITUDE_OF_ORIGIN = -98.0  # degrees east
PATCH_LENGTH = 384000.0  # m, every patch of the archive
SIZES = (128, 384)  # cells of 3 km and 1 km


def map_position(
    latitude: Float[np.ndarray, "*shape"], longitude: Float[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Project degrees to map metres, returned as (Y, X): northward first, as array axes are ordered."""
    phi, lam = np.radians(latitude), np.radians(np.subtract(longitude, LONGITUDE_OF_ORIGIN))
    phi0 = np.radians(LATITUDE_OF_ORIGIN)
    cosine = np.sin(phi0) * np.sin(phi) + np.cos(phi0) * np.cos(phi) * np.cos(lam)
    scale = EARTH_RADIUS * np.sqrt(2.0 / (1.0 + cosine))
    northward = np.cos(phi0) * np.sin(phi) - np.sin(phi0) * np.cos(phi) * np.cos(lam)
    return scale * northward, scale * np.cos(phi) * np.sin(lam)


def degrees_of(
    y: Float[np.ndarray, "*shape"], x: Float[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Turn map metres (Y, X) into latitude and longitude in degrees; inverse of `map_position`."""
    phi0 = np.radians(LATITUDE_OF_ORIGIN)
    rho = np.hypot(x, y)
    angle = 2.0 * np.arcsin(rho / (2.0 * EARTH_RADIUS))
    safe = np.where(rho == 0.0, 1.0, rho)
    phi = np.arcsin(np.cos(angle) * np.sin(phi0) + y * np.sin(angle) * np.cos(phi0) / safe)
    lam = np.arctan2(x * np.sin(angle), safe * np.cos(phi0) * np.cos(angle) - y * np.sin(phi0) * np.sin(angle))
    return np.degrees(phi), np.degrees(lam) + LONGITUDE_OF_ORIGIN


def corner_at(lower_left: tuple[float, float]) -> tuple[float, float]:
    """Position (Y, X) in map metres of a corner given in degrees (latitude, longitude)."""
    y, x = map_position(np.asarray(lower_left[0], np.float64), np.asarray(lower_left[1], np.float64))
    return float(y), float(x)


def corner_of_centre(centre: tuple[float, float]) -> tuple[float, float]:
    """South-western corner (Y, X) in map metres of the patch around a centre (latitude, longitude)."""
    y, x = corner_at(centre)
    return y - 0.5 * PATCH_LENGTH, x - 0.5 * PATCH_LENGTH


def sevir_layout(size: int, step: np.timedelta64, *, corner: tuple[float, float], georeference: str) -> Layout:
    """Layout of VIL on a patch of 384 km.

    `corner` is the outer south-western corner (Y, X) in map metres; `georeference` says where it comes
    from ("catalogue", "config" or "assumed") and is written beside the projection in every product.
    """
    spacing = PATCH_LENGTH / size
    axes = tuple(
        Axis(name, size, spacing, float(round(edge + 0.5 * spacing)), "m")
        for name, edge in zip(("y", "x"), corner, strict=True)
    )
    mapping = {
        "grid_mapping_name": "lambert_azimuthal_equal_area",
        "latitude_of_projection_origin": LATITUDE_OF_ORIGIN,
        "longitude_of_projection_origin": LONGITUDE_OF_ORIGIN,
        "false_easting": 0.0,
        "false_northing": 0.0,
        "earth_radius": EARTH_RADIUS,
        "georeference": georeference,
    }
    vil = Variable("vil", "kg m-2", "radar-derived vertically integrated liquid", valid_min=0.0)
    return Layout("sevir", (vil,), Grid(axes, mapping), step)
