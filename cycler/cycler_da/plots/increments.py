"""Increments of several schemes from one observation, side by side: a column for each scheme, a row for each variable.

Panels show the surroundings of the observation, as far as nearly all of the increments reach; axes are distances from
it. All panels of a row share one colour scale, symmetric about zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cycler_da.layout import Layout
from cycler_da.plots import style
from cycler_da.plots.png import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _BAR = 0.62, 0.52, 0.78, 0.42, 0.07, 0.10  # inches
_ROW_GAP = 0.22
#: Share of the squared increments that the shown surroundings hold, and their least half-width in cells.
_SHOWN_SHARE, _LEAST_CELLS = 0.995, 6


@dataclass(frozen=True)
class Increment:
    """Increment of the ensemble mean by one scheme."""

    chain: str
    scheme: str
    values: np.ndarray  # (channel, y, x)


@dataclass(frozen=True)
class OneObservation:
    """The observation that all schemes were given."""

    variable: str
    cell: tuple[int, ...]
    departure: float
    error: float
    valid_time: np.datetime64


def draw_increments(increments: list[Increment], layout: Layout, shown: OneObservation, out: Path) -> None:
    """Write the picture to the PNG file `out`."""
    n_rows, n_columns = len(layout.channels), len(increments)
    panel = min(1.9, (style.WIDTH_INCHES - _LEFT - _RIGHT - _GAP * (n_columns - 1)) / n_columns)
    height = _TOP + _BOTTOM + n_rows * panel + (n_rows - 1) * _ROW_GAP
    units = style.unit_text(layout.variables[layout.channels.index(shown.variable)].units)
    units = f" {units}" if units else ""
    title = f"{layout.system}: one observation of {shown.variable}"
    text = (
        f"innovation {style.number_text(shown.departure)}{units}, error {style.number_text(shown.error)}{units}; "
        f"increments of the mean, background valid {style.clock_text(shown.valid_time)}"
    )
    around = [_centred(increment.values, layout, shown.cell) for increment in increments]
    half = _reach(around)
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH_INCHES, height), dpi=style.DPI)
        figure.text(0.018, 1 - 0.2 / height, title, fontsize=11, fontweight="bold", va="center")
        figure.text(0.018, 1 - 0.42 / height, text, fontsize=8, color=style.MUTED, va="center")
        for row, variable in enumerate(layout.variables):
            limit = max(float(np.nanmax(np.abs(values[row]))) for values in around) or 1.0
            exponent = int(np.floor(np.log10(limit)))
            bottom = height - _TOP - (row + 1) * panel - row * _ROW_GAP
            for column, (increment, values) in enumerate(zip(increments, around, strict=True)):
                place = (_LEFT + column * (panel + _GAP), bottom, panel, panel)
                axes = figure.add_axes(_fractions(place, height))
                image = _draw_panel(axes, values[row] / 10.0**exponent, layout, half=half, limit=limit / 10.0**exponent)
                axes.tick_params(labelleft=column == 0, labelbottom=row == n_rows - 1)
                if row == 0:
                    axes.set_title(increment.chain, pad=3)
                if column == 0:
                    axes.set_ylabel(f"{variable.name}, {style.unit_text(variable.units, exponent)}")
                if row == n_rows - 1:
                    axes.set_xlabel(f"distance ({_unit(layout)[0]})", labelpad=1.5)
            bar = figure.add_axes(_fractions((_LEFT + n_columns * (panel + _GAP), bottom, _BAR, panel), height))
            figure.colorbar(image, cax=bar)
            bar.tick_params(length=2, pad=1.5)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(figure, out, title=title, text=f"{text}; schemes {', '.join(i.chain for i in increments)}")


def _centred(values: np.ndarray, layout: Layout, cell: tuple[int, ...]) -> np.ndarray:
    """The field with the observed cell in the middle of an odd square; NaN beyond a rim that is not periodic."""
    half = min(values.shape[1:]) // 2 - 1
    for axis, index in enumerate(cell, start=1):
        wanted = index + np.arange(-half, half + 1)
        n = values.shape[axis]
        taken = np.take(values, wanted % n, axis=axis)
        if not layout.grid.axes[axis - 1].periodic:
            outside = np.expand_dims((wanted < 0) | (wanted >= n), tuple(i for i in range(taken.ndim) if i != axis))
            taken = np.where(outside, np.nan, taken)
        values = taken
    return values


def _reach(around: list[np.ndarray]) -> int:
    """Half-width in cells that holds nearly all of the squared increments of every scheme and variable."""
    middle = around[0].shape[-1] // 2
    index = np.abs(np.arange(around[0].shape[-1]) - middle)
    ring = np.maximum(index[:, None], index[None, :])
    widest = _LEAST_CELLS
    for values in around:
        for field in np.nan_to_num(values):
            held = np.cumsum(np.bincount(ring.ravel(), weights=field.ravel() ** 2))
            widest = max(widest, int(np.searchsorted(held, _SHOWN_SHARE * held[-1])))
    return min(widest, middle)


def _draw_panel(axes: Axes, values: np.ndarray, layout: Layout, *, half: int, limit: float) -> AxesImage:
    middle = values.shape[-1] // 2
    part = values[middle - half : middle + half + 1, middle - half : middle + half + 1]
    edge = (half + 0.5) * layout.grid.axes[1].spacing * _unit(layout)[1]
    axes.set_facecolor(style.MISSING_FACE)
    image = axes.imshow(
        part,
        origin="lower",
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        extent=(-edge, edge, -edge, edge),
        interpolation="nearest",
    )
    axes.plot(0.0, 0.0, marker="+", color=style.INK, markersize=4, markeredgewidth=0.7)
    return image


def _unit(layout: Layout) -> tuple[str, float]:
    units = layout.grid.axes[1].units
    return ("km", 1e-3) if units == "m" else (units, 1.0)


def _fractions(place: tuple[float, float, float, float], height: float) -> tuple[float, float, float, float]:
    x, y, width, tall = place
    return x / style.WIDTH_INCHES, y / height, width / style.WIDTH_INCHES, tall / height
