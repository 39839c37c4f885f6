"""Observations on the map: where they are and what became of them.

Used observations are circles and withheld ones squares, both filled with the observed value; rejected ones
are crosses. Where observations fill more than `DENSE` of the cells, markers would hide each other: cells are
filled instead, and rejected and withheld observations become cells of one colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from cycler_da.layout import Grid
from cycler_da.plots import style
from cycler_da.plots.feedback import ObsPoints
from cycler_da.plots.frames import Frame
from cycler_da.plots.scales import ColourScale

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

#: Observations per cell above which cells are filled.
DENSE = 0.2
#: Share of the panel that markers may cover, and the area of a panel in square points.
_COVER, _PANEL_AREA = 0.25, 126.0**2
_REJECTED = "#b3201a"
_WITHHELD_EDGE = "#7b2fbe"


def draw_observations(
    axes: Axes, points: ObsPoints, *, frame: Frame, grid: Grid, scale: ColourScale
) -> list[ScalarMappable]:
    """Draw the observations of one variable on the frame's axes; returns what carries the value colours."""
    x, y = frame.positions(points)
    axes.set_facecolor(style.PANEL)
    if len(points) > max(1000, DENSE * grid.shape[0] * grid.shape[1]):
        return _draw_cells(axes, points, x=x, y=y, frame=frame, grid=grid, scale=scale)
    size = float(np.clip(_COVER * _PANEL_AREA / max(len(points), 1), 1.5, 26))
    edge = 0.35 if size > 5 else 0.0
    common = {"cmap": scale.cmap, "norm": scale.norm, "zorder": 4}
    used, withheld, rejected = points.is_used, points.is_withheld, points.is_rejected
    circles = axes.scatter(
        x[used], y[used], c=points.value[used], s=size, marker="o", edgecolors=style.INK, linewidths=edge, **common
    )
    squares = axes.scatter(
        x[withheld],
        y[withheld],
        c=points.value[withheld],
        s=1.2 * size,
        marker="s",
        edgecolors=_WITHHELD_EDGE,
        linewidths=0.9,
        **common,
    )
    axes.scatter(x[rejected], y[rejected], c=_REJECTED, s=1.3 * size, marker="x", linewidths=1.0, zorder=5)
    return [circles, squares]


def observation_legend(points: ObsPoints) -> list[Artist]:
    """Legend entries with counts: used, withheld, rejected."""
    counts = points.counts()
    look = {"linestyle": "none", "markersize": 5}
    face = "#cfd8e3"
    used = Line2D([], [], marker="o", markerfacecolor=face, markeredgecolor=style.INK, markeredgewidth=0.6, **look)
    withheld = Line2D([], [], marker="s", markerfacecolor=face, markeredgecolor=_WITHHELD_EDGE, **look)
    rejected = Line2D([], [], marker="x", color=_REJECTED, markeredgewidth=1.2, **look)
    for handle, kind in ((used, "used"), (withheld, "withheld"), (rejected, "rejected")):
        handle.set_label(f"{counts[kind]} {kind}")
    return [used, withheld, rejected]


def _draw_cells(
    axes: Axes, points: ObsPoints, *, x: np.ndarray, y: np.ndarray, frame: Frame, grid: Grid, scale: ColourScale
) -> list[ScalarMappable]:
    """Fill the nearest cell of each observation: its value, or the colour of what became of it."""
    x0, x1, y0, y1 = frame.extent
    n_y, n_x = grid.shape
    column = np.floor((x - x0) / (x1 - x0) * n_x)
    row = np.floor((y - y0) / (y1 - y0) * n_y)
    inside = (column >= 0) & (column < n_x) & (row >= 0) & (row < n_y)

    def cells(mask: np.ndarray, content: np.ndarray) -> np.ndarray:
        image = np.full(grid.shape, np.nan)
        keep = mask & inside
        image[row[keep].astype(int), column[keep].astype(int)] = content[keep]
        return image

    place = {"extent": frame.extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    values = axes.imshow(cells(points.is_used, points.value), cmap=scale.cmap, norm=scale.norm, **place)
    for mask, colour in ((points.is_withheld, _WITHHELD_EDGE), (points.is_rejected, _REJECTED)):
        if mask.any():
            axes.imshow(cells(mask, np.ones(len(points))), cmap=ListedColormap([colour]), **place)
    return [values]
