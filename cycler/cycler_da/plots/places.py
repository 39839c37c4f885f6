"""Names of towns on maps, without the internet: a small table for the contiguous United States, where SEVIR lies.

Positions in degrees, to about a kilometre; the order is that in which names are given room: of towns whose labels would
lie over each other the first stays. Limit: no towns elsewhere; maps there have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

#: Most names on one map, and the room of one as a share of the map's width and height.
MOST, ROOM = 6, (0.3, 0.12)
#: Share of the map at each edge that is left free (names are written to the right of their town).
EDGES = (0.04, 0.3, 0.04, 0.06)  # west, east, south, north

TOWNS: tuple[tuple[str, float, float], ...] = (
    ("New York", 40.71, -74.01),
    ("Los Angeles", 34.05, -118.24),
    ("Chicago", 41.88, -87.63),
    ("Houston", 29.76, -95.37),
    ("Phoenix", 33.45, -112.07),
    ("Philadelphia", 39.95, -75.17),
    ("San Antonio", 29.42, -98.49),
    ("San Diego", 32.72, -117.16),
    ("Dallas", 32.78, -96.80),
    ("Atlanta", 33.75, -84.39),
    ("Miami", 25.76, -80.19),
    ("Washington", 38.91, -77.04),
    ("Boston", 42.36, -71.06),
    ("Detroit", 42.33, -83.05),
    ("Minneapolis", 44.98, -93.27),
    ("Seattle", 47.61, -122.33),
    ("Denver", 39.74, -104.99),
    ("St. Louis", 38.63, -90.20),
    ("Kansas City", 39.10, -94.58),
    ("San Francisco", 37.77, -122.42),
    ("Indianapolis", 39.77, -86.16),
    ("Columbus", 39.96, -83.00),
    ("Charlotte", 35.23, -80.84),
    ("Jacksonville", 30.33, -81.66),
    ("Austin", 30.27, -97.74),
    ("Nashville", 36.16, -86.78),
    ("Oklahoma City", 35.47, -97.52),
    ("Memphis", 35.15, -90.05),
    ("Louisville", 38.25, -85.76),
    ("Milwaukee", 43.04, -87.91),
    ("Omaha", 41.26, -95.94),
    ("New Orleans", 29.95, -90.07),
    ("Tampa", 27.95, -82.46),
    ("Cleveland", 41.50, -81.69),
    ("Pittsburgh", 40.44, -80.00),
    ("Cincinnati", 39.10, -84.51),
    ("El Paso", 31.76, -106.49),
    ("Portland", 45.52, -122.68),
    ("Las Vegas", 36.17, -115.14),
    ("Salt Lake City", 40.76, -111.89),
    ("Albuquerque", 35.08, -106.65),
    ("Tulsa", 36.15, -95.99),
    ("Wichita", 37.69, -97.34),
    ("Raleigh", 35.78, -78.64),
    ("Birmingham", 33.52, -86.80),
    ("Little Rock", 34.75, -92.29),
    ("Des Moines", 41.59, -93.62),
    ("Buffalo", 42.89, -78.88),
    ("Richmond", 37.54, -77.44),
    ("Norfolk", 36.85, -76.29),
    ("Orlando", 28.54, -81.38),
    ("Lincoln", 40.81, -96.70),
    ("Lubbock", 33.58, -101.86),
    ("Amarillo", 35.22, -101.83),
    ("Sioux Falls", 43.55, -96.70),
    ("Knoxville", 35.96, -83.92),
    ("Shreveport", 32.53, -93.75),
    ("Mobile", 30.69, -88.04),
    ("Springfield", 37.21, -93.29),
    ("Jackson", 32.30, -90.18),
    ("Rapid City", 44.08, -103.23),
    ("Billings", 45.78, -108.50),
    ("Bismarck", 46.81, -100.78),
    ("Fargo", 46.88, -96.79),
    ("Boise", 43.62, -116.20),
    ("Spokane", 47.66, -117.43),
    ("Albany", 42.65, -73.75),
    ("Charleston", 32.78, -79.93),
    ("Savannah", 32.08, -81.09),
    ("Madison", 43.07, -89.40),
    ("Duluth", 46.79, -92.10),
    ("Midland", 32.00, -102.08),
    ("Corpus Christi", 27.80, -97.40),
    ("Cheyenne", 41.14, -104.82),
    ("North Platte", 41.12, -100.77),
    ("Dodge City", 37.75, -100.02),
    ("Grand Rapids", 42.96, -85.67),
    ("Fort Wayne", 41.08, -85.14),
    ("Huntsville", 34.73, -86.59),
    ("Columbia", 34.00, -81.03),
    ("Montgomery", 32.37, -86.30),
    ("Tallahassee", 30.44, -84.28),
    ("Lexington", 38.04, -84.50),
    ("Evansville", 37.97, -87.57),
    ("Davenport", 41.52, -90.58),
    ("Topeka", 39.05, -95.68),
)


def places_on(
    extent: tuple[float, float, float, float],
    project: Callable[[Float[np.ndarray, "town lonlat"]], Float[np.ndarray, "town xy"]],
) -> list[tuple[str, float, float]]:
    """Names and map positions of the towns to write on a map (west, east, first row, last row).

    `project` turns degrees into positions on the map.
    """
    (west, east), (south, north) = sorted(extent[:2]), sorted(extent[2:])
    at = project(np.array([(longitude, latitude) for _, latitude, longitude in TOWNS]))
    part = (at - (west, south)) / (east - west, north - south)
    low, high = np.array([EDGES[0], EDGES[2]]), 1.0 - np.array([EDGES[1], EDGES[3]])
    chosen: list[int] = []
    for i in np.flatnonzero(((part >= low) & (part <= high)).all(axis=1)):
        if all((np.abs(part[i] - part[k]) > ROOM).any() for k in chosen):
            chosen.append(int(i))
    return [(TOWNS[i][0], float(at[i, 0]), float(at[i, 1])) for i in chosen[:MOST]]
