"""Frames: how a grid becomes axes on paper. A plain frame in kilometres, a map frame in the file's projection.

Both give axes whose data coordinates are the grid's own (km, or m of the projection), so fields are drawn
cell by cell without resampling, and observations and lines are brought to the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import cartopy.crs as ccrs
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

from cycler_da.errors import DataError
from cycler_da.layout import Axis, Grid
from cycler_da.plots import style
from cycler_da.plots.borders import Box, lines_in_box
from cycler_da.plots.feedback import ObsPoints
from cycler_da.plots.places import places_on
from cycler_da.plots.projections import projection_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Frame(Protocol):
    """What a map needs to know about the ground it is drawn on."""

    @property
    def warning(self) -> str:
        """What a reader must know about the ground, if anything."""
        ...

    @property
    def tick_room(self) -> float:
        """Inches that tick labels need below the lowest panel."""
        ...

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges of the grid in axes units: x of the first and last column, y of the first and last row."""
        ...

    def add_axes(self, figure: Figure, rectangle: tuple[float, float, float, float]) -> Axes:
        """Axes at a rectangle (figure fractions) that show the whole grid."""
        ...

    def decorate(self, axes: Axes, *, is_left: bool, is_bottom: bool) -> None:
        """Lines and, on the outer panels, ticks."""
        ...

    def positions(self, points: ObsPoints) -> tuple[np.ndarray, np.ndarray]:
        """Positions of observations, x and y in axes units."""
        ...


def frame_of(grid: Grid) -> Frame:
    """Choose the frame of a two-dimensional grid: a map where the grid has a mapping."""
    if grid.grid_mapping:
        return MapFrame(grid)
    return PlainFrame(grid)


def height_over_width(grid: Grid) -> float:
    """Height over width of the ground the grid covers, held between 0.4 and 1.6."""
    y, x = grid.axes
    return float(np.clip(abs(y.length) / abs(x.length), 0.4, 1.6))


def _edges(axis: Axis, scale: float) -> tuple[float, float]:
    first = axis.origin - axis.spacing / 2
    return first * scale, (first + axis.length) * scale


@dataclass(frozen=True)
class PlainFrame:
    """A grid without a place on Earth; metres are shown as kilometres."""

    grid: Grid
    tick_room: float = 0.46
    warning: str = ""

    @property
    def _scale(self) -> float:
        return 1e-3 if self.grid.axes[1].units == "m" else 1.0

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges of the grid: west, east, first row, last row."""
        y, x = self.grid.axes
        return (*_edges(x, self._scale), *_edges(y, self._scale))

    def add_axes(self, figure: Figure, rectangle: tuple[float, float, float, float]) -> Axes:
        """Plain axes that show the whole grid."""
        axes = figure.add_axes(rectangle)
        axes.set_xlim(*sorted(self.extent[:2]))
        axes.set_ylim(*sorted(self.extent[2:]))
        return axes

    def decorate(self, axes: Axes, *, is_left: bool, is_bottom: bool) -> None:
        """Ticks at three round distances."""
        units = "km" if self._scale == 1e-3 else self.grid.axes[1].units
        for axis, limits, is_labelled, name in (
            (axes.xaxis, axes.get_xlim(), is_bottom, self.grid.axes[1].name),
            (axes.yaxis, axes.get_ylim(), is_left, self.grid.axes[0].name),
        ):
            axis.set_ticks(_round_ticks(*limits) if is_labelled else [])  # ticks are most of the cost of a panel
            if is_labelled:
                axis.labelpad = 1.5
                axis.set_label_text(f"{name} ({units})")

    def positions(self, points: ObsPoints) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the axes' kilometres."""
        if points.is_geographic:
            raise DataError("observation maps: latitude and longitude are given, but the grid has no mapping")
        return points.x * self._scale, points.y * self._scale


@dataclass(frozen=True)
class MapFrame:
    """A grid in a map projection, with coast, country and state lines and a graticule.

    Data without a position are put somewhere by their reader, which says so by `georeference` = "assumed" in
    the grid mapping: then lines are dotted and the sheet warns.
    """

    grid: Grid
    tick_room: float = 0.30

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges of the grid in metres of the projection."""
        y, x = self.grid.axes
        return (*_edges(x, 1.0), *_edges(y, 1.0))

    @property
    def warning(self) -> str:
        """Says when the position on the map is not known."""
        return "position assumed" if self.grid.grid_mapping.get("georeference") == "assumed" else ""

    @cached_property
    def projection(self) -> ccrs.Projection:
        """The projection named by the CF grid mapping."""
        return projection_of(dict(self.grid.grid_mapping))

    @cached_property
    def geographic(self) -> ccrs.CRS:
        """Latitude and longitude on the projection's own globe."""
        return ccrs.Geodetic(globe=self.projection.globe)

    def add_axes(self, figure: Figure, rectangle: tuple[float, float, float, float]) -> Axes:
        """Cartopy axes that show the whole grid."""
        axes = figure.add_axes(rectangle, projection=self.projection)
        axes.set_xlim(*sorted(self.extent[:2]))
        axes.set_ylim(*sorted(self.extent[2:]))
        axes.set_aspect("auto")
        return axes

    def decorate(self, axes: Axes, *, is_left: bool, is_bottom: bool) -> None:
        """Borders over the field, graticule ticks at the frame."""
        for name, width in _LINE_WIDTHS.items():
            for colour, extra in (("white", 1.0), ("black", 0.0)):  # a white edge keeps lines visible on any colour
                lines = LineCollection(
                    self.borders[name], colors=colour, linewidths=width + extra, alpha=0.75, zorder=3
                )
                lines.set_linestyle((0, (1.0, 2.0)) if self.warning else "solid")
                axes.add_collection(lines, autolim=False)
        meridians, parallels = self.graticule
        for axis, ticks, is_labelled in ((axes.xaxis, meridians, is_bottom), (axes.yaxis, parallels, is_left)):
            axis.set_visible(True)
            shown = ticks if is_labelled else []
            axis.set_ticks([at for at, _ in shown], [text for _, text in shown])
        if is_left and not self.warning:  # on an assumed position a name would be wrong
            self._draw_places(axes)
        if is_left and is_bottom:
            self._draw_scale_bar(axes)

    def positions(self, points: ObsPoints) -> tuple[np.ndarray, np.ndarray]:
        """Positions in metres of the projection; latitude and longitude are projected."""
        if not points.is_geographic:
            return points.x, points.y
        projected = self.projection.transform_points(self.geographic, points.x, points.y)
        return projected[:, 0], projected[:, 1]

    def _draw_scale_bar(self, axes: Axes) -> None:
        west, east = axes.get_xlim()
        south, north = axes.get_ylim()
        length = max(step for step in _BAR_LENGTHS if step <= max(0.3 * (east - west), _BAR_LENGTHS[0]))
        x, y = west + 0.05 * (east - west), south + 0.05 * (north - south)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axes.plot([x, x + length], [y, y], color=style.INK, linewidth=1.4, path_effects=halo, zorder=6)
        name = f"{length / 1000:g} km"
        axes.text(x + length / 2, y, name, ha="center", va="bottom", fontsize=8, path_effects=halo, zorder=6)

    def _draw_places(self, axes: Axes) -> None:
        halo = [withStroke(linewidth=2.0, foreground="white")]
        for name, x, y in self.places:
            axes.plot(x, y, "o", color=style.INK, markersize=2.0, path_effects=halo, zorder=5)
            offset = {"xytext": (2.5, 0), "textcoords": "offset points"}
            axes.annotate(name, (x, y), **offset, va="center", fontsize=8, path_effects=halo, zorder=5)

    @cached_property
    def places(self) -> list[tuple[str, float, float]]:
        """Names and positions (metres of the projection) of the towns that are written."""
        return places_on(self.extent, self._project)

    @cached_property
    def borders(self) -> dict[str, list[np.ndarray]]:
        """Lines of each set in metres of the projection."""
        return {name: [self._project(line) for line in lines_in_box(name, self._box)] for name in _LINE_WIDTHS}

    @cached_property
    def graticule(self) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
        """Where meridians meet the bottom of the frame and parallels its left side, with their names."""
        box = self._box
        east_step, north_step = _degree_step(box.east - box.west), _degree_step(box.north - box.south)
        west, east = sorted(self.extent[:2])
        south, north = sorted(self.extent[2:])
        along = np.linspace(box.south - 1, box.north + 1, 60)
        meridians = [
            (_crossing(self._project(np.column_stack([np.full(60, lon), along])), 1, south), _east_text(lon))
            for lon in np.arange(np.ceil(box.west / east_step) * east_step, box.east, east_step)
        ]
        along = np.linspace(box.west - 1, box.east + 1, 60)
        parallels = [
            (_crossing(self._project(np.column_stack([along, np.full(60, lat)])), 0, west), _north_text(lat))
            for lat in np.arange(np.ceil(box.south / north_step) * north_step, box.north, north_step)
        ]
        return (
            [one for one in meridians if west < one[0] < east],
            [one for one in parallels if south < one[0] < north],
        )

    @cached_property
    def _box(self) -> Box:
        x0, x1, y0, y1 = self.extent
        x, y = (side.ravel() for side in np.meshgrid(np.linspace(x0, x1, 25), np.linspace(y0, y1, 25)))
        lonlat = ccrs.PlateCarree(globe=self.projection.globe).transform_points(self.projection, x, y)
        west, south = lonlat[:, :2].min(axis=0)
        east, north = lonlat[:, :2].max(axis=0)
        return Box(float(west), float(east), float(south), float(north))

    def _project(self, lonlat: np.ndarray) -> np.ndarray:
        return self.projection.transform_points(self.geographic, lonlat[:, 0], lonlat[:, 1])[:, :2]


_BAR_LENGTHS = (1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6)  # m
_LINE_WIDTHS = {"states": 0.5, "countries": 0.8, "gshhs": 0.8}


def _round_ticks(low: float, high: float) -> np.ndarray:
    """Up to five round numbers from `low` to `high`."""
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(digit * power for digit in (1.0, 2.0, 2.5, 5.0, 10.0) if digit * power >= rough * (1 - 1e-9))
    ticks = np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9 * step, step)
    return ticks[:-1] if len(ticks) > 4 and np.isclose(ticks[-1], high) else ticks


def _degree_step(span: float) -> float:
    return next((step for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if span / step <= 4.5), 30.0)


def _crossing(line: np.ndarray, axis: int, level: float) -> float:
    """Where a line crosses `level` of the given coordinate: the other coordinate there, NaN if nowhere."""
    at, other = line[:, axis], line[:, 1 - axis]
    order = np.argsort(at)
    if not at.min() <= level <= at.max():
        return float("nan")
    return float(np.interp(level, at[order], other[order]))


def _east_text(longitude: float) -> str:
    return f"{abs(longitude):g}°{'E' if longitude >= 0 else 'W'}"


def _north_text(latitude: float) -> str:
    return f"{abs(latitude):g}°{'N' if latitude >= 0 else 'S'}"
