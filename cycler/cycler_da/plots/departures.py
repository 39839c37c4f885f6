"""Departures of one cycle: histograms of O-B and O-A, and observed against background values.

O-B = y - H(background mean) and O-A = y - H(analysis mean), of the observations that the analysis used. A
healthy cycle shows both centred on zero and O-A narrower than O-B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from cycler_da.layout import Variable
from cycler_da.plots import style
from cycler_da.plots.canvas import draw_header
from cycler_da.plots.feedback import ObsPoints
from cycler_da.plots.fields import CycleFields
from cycler_da.plots.limits import Limits, VariableLimits
from cycler_da.systems.sevir_codec import DECODE_TABLE, continuous_code, vil_of_code

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 4000
_N_BINS = 31
_VIL_TICKS = (0, 31, 74, 133, 181, 219)  # codes
_ROW, _HEADER, _FOOT = 2.15, 0.85, 0.12


def draw_departures(fields: CycleFields, limits: Limits) -> Figure | None:
    """One row for each observed variable; None without any used observation."""
    rows = [
        (variable, fields.observations[variable.name])
        for variable in fields.layout.variables
        if variable.name in fields.observations and np.isfinite(fields.observations[variable.name].ombg).any()
    ]
    rows = [(variable, points) for variable, points in rows if points.is_used.any()]
    if not rows:
        return None
    height = _HEADER + _FOOT + _ROW * len(rows)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), dpi=style.DPI)
    draw_header(figure, "Observations minus background and analysis", fields.facts)
    for index, (variable, points) in enumerate(rows):
        bottom = (height - _HEADER - (index + 1) * _ROW + 0.52) / height
        tall = (_ROW - 0.80) / height
        _draw_histogram(figure.add_axes((0.085, bottom, 0.50, tall)), variable, points, limits[variable.name])
        _draw_scatter(figure.add_axes((0.70, bottom, 0.27, tall)), variable, points, limits[variable.name])
    return figure


def departure_text(fields: CycleFields) -> str:
    """Mean and standard deviation of the departures of each variable, in words."""
    sentences = ["Histograms of observation minus background and observation minus analysis."]
    for name, points in fields.observations.items():
        used = points.is_used
        parts = [
            f"{label} mean {style.number_text(_mean(values))}, standard deviation {style.number_text(_std(values))}"
            for label, values in (("O-B", points.ombg[used]), ("O-A", points.oman[used]))
            if np.isfinite(values).any()
        ]
        sentences.append(f"{name}: {int(used.sum())} used; {'; '.join(parts)}.")
    return " ".join(sentences)


def _draw_histogram(axes: Axes, variable: Variable, points: ObsPoints, limits: VariableLimits) -> None:
    factor = 10.0**-limits.exponent
    used = points.is_used
    departures = {"O−B": points.ombg[used] * factor, "O−A": points.oman[used] * factor}
    present = np.concatenate([values[np.isfinite(values)] for values in departures.values()])
    span = float(np.quantile(np.abs(present), 0.995)) or 1.0
    bins = np.linspace(-span, span, _N_BINS + 1)
    for (label, values), colour, filled in zip(departures.items(), style.SERIES_COLOURS, (True, False), strict=False):
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        text = f"{label}: {_moments_text(values)}"
        axes.hist(
            np.clip(values, -span, span),
            bins=bins,
            histtype="stepfilled" if filled else "step",
            facecolor=(*_rgb(colour), 0.25) if filled else "none",
            edgecolor=colour,
            linewidth=1.3,
            label=text.replace("-", "−"),
        )
    axes.axvline(0.0, color=style.MUTED, linewidth=0.7)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.45)
    axes.legend(loc="upper left", frameon=False, borderaxespad=0.2, ncols=1, handlelength=1.4)
    axes.set_title(f"{variable.name}: {int(used.sum())} used observations", loc="left")
    axes.set_xlabel(f"departure ({style.unit_text(variable.units, limits.exponent)})", labelpad=1.5)
    axes.set_ylabel("count", labelpad=2)
    _open_frame(axes)


def _draw_scatter(axes: Axes, variable: Variable, points: ObsPoints, limits: VariableLimits) -> None:
    factor = 10.0**-limits.exponent
    used = np.flatnonzero(points.is_used & np.isfinite(points.hofx))
    used = used[:: max(1, len(used) // _MOST_POINTS)]  # evenly thinned: enough to see the cloud
    low, high = limits.low * factor, limits.high * factor
    axes.plot([low, high], [low, high], color=style.MUTED, linewidth=0.7)
    axes.scatter(
        points.hofx[used] * factor,
        points.value[used] * factor,
        s=6,
        color=style.SERIES_COLOURS[0],
        alpha=0.45,
        linewidths=0,
    )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    if style.is_vil(variable):
        _space_by_code(axes)
    axes.set_title("Observed against background", loc="left")
    units = style.unit_text(variable.units, limits.exponent)
    axes.set_xlabel(f"H(background) ({units})", labelpad=1.5)
    axes.set_ylabel("observed", labelpad=0)
    _open_frame(axes)


def _space_by_code(axes: Axes) -> None:
    """Space both axes by the code of VIL, near its logarithm: most values lie in the lowest twentieth of the range."""
    ticks = DECODE_TABLE[list(_VIL_TICKS)]
    for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        set_scale("function", functions=(continuous_code, vil_of_code))
        axis.set_ticks(ticks, labels=[style.number_text(tick) for tick in ticks])
        axis.set_ticks([], minor=True)


def _open_frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _moments_text(values: np.ndarray) -> str:
    """Mean and standard deviation with the same decimals: two digits of the latter."""
    std = _std(values)
    decimals = max(0, 1 - int(np.floor(np.log10(std)))) if std > 0 else 2
    return f"mean {_mean(values):.{decimals}f}, sd {std:.{decimals}f}"


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _std(values: np.ndarray) -> float:
    return float(np.nanstd(values)) if np.isfinite(values).any() else float("nan")


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
