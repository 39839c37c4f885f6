"""Increments of several schemes from one observation, side by side: a column for each scheme, a row for each variable.

All panels of a row share one colour scale, symmetric about zero; the cross marks the observation.
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

_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _BAR = 0.42, 0.62, 0.78, 0.14, 0.07, 0.10  # inches


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
    height = _TOP + _BOTTOM + n_rows * (panel + 0.2)
    units = style.unit_text(layout.variables[layout.channels.index(shown.variable)].units)
    title = f"{layout.system}: one observation of {shown.variable}"
    text = (
        f"innovation {style.number_text(shown.departure)} {units}, error {style.number_text(shown.error)} {units}; "
        f"increments of the mean, background valid {style.clock_text(shown.valid_time)}"
    )
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH_INCHES, height), dpi=style.DPI)
        figure.text(0.018, 1 - 0.2 / height, title, fontsize=11, fontweight="bold", va="center")
        figure.text(0.018, 1 - 0.42 / height, text, fontsize=8, color=style.MUTED, va="center")
        for row, variable in enumerate(layout.variables):
            limit = max(float(np.abs(increment.values[row]).max()) for increment in increments) or 1.0
            bottom = height - _TOP - (row + 1) * panel - row * 0.2
            for column, increment in enumerate(increments):
                left = _LEFT + column * (panel + _GAP)
                axes = figure.add_axes(
                    (left / style.WIDTH_INCHES, bottom / height, panel / style.WIDTH_INCHES, panel / height)
                )
                image = _draw_panel(axes, increment.values[row], shown, limit=limit)
                if row == 0:
                    axes.set_title(increment.chain, pad=3)
                if column == 0:
                    axes.set_ylabel(variable.name)
            left = _LEFT + n_columns * (panel + _GAP)
            bar = figure.add_axes(
                (left / style.WIDTH_INCHES, bottom / height, _BAR / style.WIDTH_INCHES, panel / height)
            )
            figure.colorbar(image, cax=bar)
            bar.set_title(style.unit_text(variable.units), fontsize=7, loc="left", pad=3)
            bar.tick_params(labelsize=6.5, length=2, pad=1.5)
            bar.yaxis.get_offset_text().set_fontsize(6.5)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(figure, out, title=title, text=f"{text}; schemes {', '.join(i.chain for i in increments)}")


def _draw_panel(axes: Axes, values: np.ndarray, shown: OneObservation, *, limit: float) -> AxesImage:
    image = axes.imshow(values, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.plot(shown.cell[1], shown.cell[0], marker="x", color=style.INK, markersize=4, markeredgewidth=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    text = f"max {style.number_text(float(np.abs(values).max()))}"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=6.5)
    return image
