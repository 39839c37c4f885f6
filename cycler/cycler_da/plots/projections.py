"""Cartopy projections of CF grid mappings (CF Conventions 1.11, appendix F)."""

from __future__ import annotations

from typing import Any

import cartopy.crs as ccrs
import numpy as np

from cycler_da.errors import DataError


def projection_of(mapping: dict[str, Any]) -> ccrs.Projection:
    """Cartopy's projection of a CF grid mapping. Raises DataError for one that is not known here."""
    radius = mapping.get("earth_radius", mapping.get("semi_major_axis", 6370997.0))
    globe = ccrs.Globe(ellipse=None, semimajor_axis=radius, semiminor_axis=mapping.get("semi_minor_axis", radius))
    offsets = {"false_easting": mapping.get("false_easting", 0.0), "false_northing": mapping.get("false_northing", 0.0)}
    name = mapping.get("grid_mapping_name")
    if name == "lambert_azimuthal_equal_area":
        return ccrs.LambertAzimuthalEqualArea(
            central_longitude=mapping["longitude_of_projection_origin"],
            central_latitude=mapping["latitude_of_projection_origin"],
            globe=globe,
            **offsets,
        )
    if name == "lambert_conformal_conic":
        return ccrs.LambertConformal(
            central_longitude=mapping["longitude_of_central_meridian"],
            central_latitude=mapping["latitude_of_projection_origin"],
            standard_parallels=tuple(np.atleast_1d(mapping["standard_parallel"])),
            globe=globe,
            **offsets,
        )
    if name == "polar_stereographic":
        return ccrs.Stereographic(
            central_latitude=mapping["latitude_of_projection_origin"],
            central_longitude=mapping["straight_vertical_longitude_from_pole"],
            true_scale_latitude=mapping.get("standard_parallel"),
            globe=globe,
            **offsets,
        )
    known = "lambert_azimuthal_equal_area, lambert_conformal_conic, polar_stereographic"
    raise DataError(f"maps: the grid mapping {name!r} is not known; valid names are {known}")
