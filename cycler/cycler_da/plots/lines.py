"""Figures of systems on one axis: for each variable mean and spread as curves over the axis.

Bands are one standard deviation of the ensemble to either side. The axis of a system without a grid is the
index of a single point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from cycler_da.plots import style
from cycler_da.plots.canvas import draw_header
from cycler_da.plots.captions import rms
from cycler_da.plots.feedback import ObsPoints
from cycler_da.plots.fields import CycleFields, VariableFields
from cycler_da.plots.limits import Limits, VariableLimits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _HEADER, _FOOT = 2.3, 1.02, 0.42


def draw_lines(fields: CycleFields, limits: Limits) -> Figure:
    """One panel for each variable, one above the other."""
    height = _HEADER + _FOOT + _ROW * len(fields.variables)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), dpi=style.DPI)
    draw_header(figure, f"{fields.layout.system}: background and analysis", fields.facts)
    for index, part in enumerate(fields.variables):
        bottom = (_FOOT + (len(fields.variables) - 1 - index) * _ROW) / height
        axes = figure.add_axes((0.09, bottom, 0.885, (_ROW - 0.34) / height))
        _draw_panel(axes, fields, part, limits=limits[part.variable.name])
        if index == 0:
            corner = (0.005, 1 - 0.92 / height)
            figure.legend(
                *axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=corner, ncols=6, frameon=False
            )
        if index == len(fields.variables) - 1 and fields.layout.grid.axes:
            axis = fields.layout.grid.axes[0]
            axes.set_xlabel(f"{axis.name} ({axis.units})" if axis.units not in ("", "1") else axis.name, labelpad=1.5)
    return figure


def line_text(fields: CycleFields) -> str:
    """Describe the figure in words."""
    parts = [f"Curves of {_names(fields)} with one standard deviation to either side."]
    parts.append(style.title_times(fields.facts.init, fields.facts.valid).replace("  |  ", ", ") + ".")
    for part in fields.variables:
        if part.analysis_error is not None:
            parts.append(f"Analysis RMSE of {part.variable.name} {style.number_text(rms(part.analysis_error))}.")
    return " ".join(parts)


def _names(fields: CycleFields) -> str:
    return ", ".join(part.variable.name for part in fields.variables)


def _draw_panel(axes: Axes, fields: CycleFields, part: VariableFields, *, limits: VariableLimits) -> None:
    axis = fields.layout.grid.axes[0] if fields.layout.grid.axes else None
    place = axis.centres() if axis else np.zeros(1)
    marker = "o" if len(place) < 5 else ""
    blue, orange = style.SERIES_COLOURS[:2]
    for label, mean, spread, colour, dash in (
        ("background", part.background, part.background_spread, blue, (4, 2)),
        ("analysis", part.analysis, part.analysis_spread, orange, ()),
    ):
        if mean is None:
            continue
        mean = np.atleast_1d(mean)
        if spread is not None:
            band = np.atleast_1d(spread)
            axes.fill_between(place, mean - band, mean + band, color=colour, alpha=0.18, linewidth=0)
        axes.plot(place, mean, color=colour, linewidth=1.3, label=label, marker=marker, dashes=dash)
    if part.truth is not None:
        axes.plot(place, np.atleast_1d(part.truth), color=style.INK, linewidth=0.9, marker=marker, label="truth")
    if part.variable.name in fields.observations:
        _draw_points(axes, fields.observations[part.variable.name])
    units = style.unit_text(part.variable.units)
    axes.set_title(f"{part.variable.long_name} ({part.variable.name}{', ' + units if units else ''})", loc="left")
    axes.set_ylim(limits.low, limits.high)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_points(axes: Axes, points: ObsPoints) -> None:
    for mask, marker, label in (
        (points.is_used, "o", "used"),
        (points.is_withheld, "s", "withheld"),
        (points.is_rejected, "x", "rejected"),
    ):
        if mask.any():
            is_cross = marker == "x"
            axes.scatter(
                points.x[mask],
                points.value[mask],
                s=16,
                marker=marker,
                facecolors="#b3201a" if is_cross else "white",
                edgecolors=None if is_cross else style.INK,
                linewidths=0.8,
                zorder=4,
                label=f"{int(mask.sum())} {label}",
            )
