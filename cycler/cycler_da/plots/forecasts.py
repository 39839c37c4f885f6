"""Figures of the forecast from an analysis, from `forecast.nc` and `forecast_products.nc` of a cycle.

    forecast.<name>.png     probability-matched mean by lead, and the probability of an event nearby
    stamps.<name>.png       every member at one lead, small
    objects.<name>.png      paintball and spaghetti: where members have an event, all in one map
    meteogram.<name>.png    members and percentiles by lead, at the config's points or the strongest cells
    loop.<name>.png         animated: analyses, then the forecast (`plots.loop`)

Those that show values of VIL have a twin in colour-blind-safe colours, `<kind>.<name>.safe.png`.
For variables with thresholds alone (probabilities need an event). The event of maps is the third threshold where there
is one, heavy precipitation for VIL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from cycler_da.plots import style
from cycler_da.plots.canvas import draw_bar
from cycler_da.plots.captions import Caption
from cycler_da.plots.forecast_fields import Forecast, earlier_analyses, read_forecasts
from cycler_da.plots.frames import Frame, frame_of, height_over_width
from cycler_da.plots.layers import draw_values, exchange_colours
from cycler_da.plots.limits import Limits
from cycler_da.plots.loop import draw_loop
from cycler_da.plots.png import write_png
from cycler_da.plots.scales import ColourScale, value_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Bounds of probabilities and their colours, light is unlikely; below the first nothing is drawn.
PROBABILITY_BOUNDS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0001)
PROBABILITY_COLOURS = ("#d9e6f2", "#a6c8e4", "#6aa5d1", "#3a7cb8", "#1c5590", "#0a2f5c")
SHOWN_LEADS = 4


def plot_forecasts(folder: Path, out: Path, *, limits: Limits) -> list[Caption]:
    """Draw the figures of a cycle's forecast into `out`; [] where it has none, or no variable has thresholds."""
    captions: list[Caption] = []
    for forecast in read_forecasts(folder):
        frame = frame_of(forecast.layout.grid)
        scale = value_scale(forecast.variable, limits[forecast.variable.name])
        captions += [_saved(out, drawing, forecast, scale) for drawing in _figures(forecast, frame, scale)]
        captions.append(draw_loop(out, forecast, frame, scale, earlier=earlier_analyses(folder, forecast)))
    return captions


@dataclass(frozen=True)
class Drawing:
    """A figure of a forecast; artists and bar where its values have colour-blind-safe colours, too."""

    kind: str
    title: str
    figure: Figure
    artists: tuple[ScalarMappable, ...] = ()
    bar: Colorbar | None = None


def _figures(forecast: Forecast, frame: Frame, scale: ColourScale) -> Iterator[Drawing]:
    name = forecast.variable.long_name[:1].upper() + forecast.variable.long_name[1:]
    yield Drawing("forecast", f"{name}: forecast", *_sheet(forecast, frame, scale))
    yield Drawing("stamps", f"{name}: members at {_lead(forecast, _middle(forecast))}", *_stamps(forecast, scale))
    yield Drawing("objects", f"{name}: where members exceed {_event(forecast)}", _objects(forecast, frame))
    yield Drawing("meteogram", f"{name}: at points", _meteogram(forecast))


def _sheet(forecast: Forecast, frame: Frame, scale: ColourScale) -> tuple[Figure, tuple[ScalarMappable, ...], Colorbar]:
    """Probability-matched mean above, probability of the event below, at a few leads."""
    rows = np.unique(np.linspace(1, len(forecast.leads) - 1, SHOWN_LEADS).round().astype(int))
    figure, panel = _grid(forecast, len(rows), 2 if forecast.within is not None else 1)
    _header(figure, forecast, "probability-matched mean and probability nearby", frame)
    chances, is_vil = _probability_scale(), style.is_vil(forecast.variable)
    artists = []
    for column, row in enumerate(rows):
        axes = frame.add_axes(figure, panel(0, column))
        artists.append(draw_values(axes, forecast.matched[row], frame, scale, is_vil=is_vil))
        axes.set_title(f"Matched mean {_lead(forecast, row)}", loc="left", pad=3)
        frame.decorate(axes, is_left=column == 0, is_bottom=False)
        if forecast.within is not None:
            middle = len(forecast.radii) // 2
            axes = frame.add_axes(figure, panel(1, column))
            _image(axes, forecast.within[middle, forecast.event, row], frame, chances.cmap, chances.norm)
            axes.set_title(f"P(≥ {_event(forecast)}) in {forecast.radii[middle]:g} km", loc="left", pad=3)
            frame.decorate(axes, is_left=column == 0, is_bottom=True)
    bar = _bar(figure, 0.05, 0.42, scale)
    if forecast.within is not None:
        _bar(figure, 0.56, 0.38, chances)
    return figure, tuple(artists), bar


def _stamps(forecast: Forecast, scale: ColourScale) -> tuple[Figure, tuple[ScalarMappable, ...], Colorbar]:
    """Every member at the middle lead."""
    row, artists = _middle(forecast), []
    n_members = len(forecast.members)
    n_columns = 6
    n_rows = -(-n_members // n_columns)
    size = style.WIDTH_INCHES / n_columns
    below = 0.85  # inches of the colour bar
    height = 0.8 + n_rows * size * height_over_width(forecast.layout.grid) + below
    figure = Figure(figsize=(style.WIDTH_INCHES, height), dpi=style.DPI)
    _header(figure, forecast, f"members at {_lead(forecast, row)}")
    for i in range(n_members):
        tall = (height - 0.8 - below) / n_rows
        up = 1 - (0.8 + (i // n_columns + 1) * tall) / height
        box = ((i % n_columns) / n_columns + 0.004, up + 0.004, 1 / n_columns - 0.008, tall / height - 0.008)
        axes = figure.add_axes(box)
        member = forecast.members[i, row - 1]
        artists.append(axes.imshow(member, origin="lower", cmap=scale.cmap, norm=scale.norm, aspect="auto"))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.03, 0.96, f"{i}", transform=axes.transAxes, va="top", color="white", fontweight="bold")
    return figure, tuple(artists), _bar(figure, 0.05, 0.42, scale)


def _objects(forecast: Forecast, frame: Frame) -> Figure:
    """Paintball (areas, one colour for each member) and spaghetti (contours) at the middle and the last lead."""
    rows = [_middle(forecast), len(forecast.leads) - 1]
    limit = forecast.thresholds[forecast.event]
    figure, panel = _grid(forecast, 4, 1, bar_room=0.35)
    _header(figure, forecast, f"members at or above {_event(forecast)}", frame)
    x, y = _centres(frame, forecast.members.shape[-2:])
    for i, row in enumerate(rows):
        paint, lines = (frame.add_axes(figure, panel(0, 2 * i + k)) for k in range(2))
        for k, member in enumerate(forecast.members[:, row - 1]):
            colour = style.SERIES_COLOURS[k % len(style.SERIES_COLOURS)]
            if (member >= limit).any():
                area = np.where(member >= limit, 1.0, np.nan)
                _image(paint, area, frame, ListedColormap([colour]), alpha=0.35)
                if member.min() < limit:
                    lines.contour(x, y, member, levels=[limit], colors=colour, linewidths=0.5)
        for k, (axes, name) in enumerate(((paint, "Paintball"), (lines, "Spaghetti"))):
            axes.set_title(f"{name} {_lead(forecast, row)}", loc="left", pad=3)
            frame.decorate(axes, is_left=i + k == 0, is_bottom=True)
    return figure


def _meteogram(forecast: Forecast) -> Figure:
    """Members and percentiles by lead."""
    figure = Figure(figsize=(style.WIDTH_INCHES, 3.4), dpi=style.DPI)
    _header(figure, forecast, "at points")
    for k, (name, (i, j)) in enumerate(forecast.places.items()):
        axes = figure.add_axes((0.07 + k * 0.31, 0.16, 0.26, 0.52))
        if len(forecast.levels) > 1:
            low, high = forecast.percentiles[0, :, i, j], forecast.percentiles[-1, :, i, j]
            text = f"{forecast.levels[0]:g} to {forecast.levels[-1]:g} %"
            axes.fill_between(forecast.leads, low, high, color="#b5a5db", alpha=0.5, linewidth=0, label=text)
        axes.plot(forecast.leads[1:], forecast.members[:, :, i, j].T, color="#63439e", linewidth=0.4, alpha=0.5)
        middle = forecast.percentiles[len(forecast.levels) // 2, :, i, j]
        axes.plot(
            forecast.leads,
            middle,
            color=style.INK,
            linewidth=1.4,
            label=f"{forecast.levels[len(forecast.levels) // 2]:g} %",
        )
        axes.axvline(0.0, color=style.ALERT, linewidth=0.8)
        axes.set_title(name, loc="left", pad=3)
        axes.set_xlabel("lead (min); 0 is the analysis")
        axes.set_ylabel(style.unit_text(forecast.variable.units))
        axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", frameon=False)
    return figure


def _saved(out: Path, drawing: Drawing, forecast: Forecast, scale: ColourScale) -> Caption:
    """Write a figure and, where its colours have one, its twin."""
    last = _lead(forecast, len(forecast.leads) - 1)
    title, figure = drawing.title, drawing.figure
    text = f"{title}. Forecast from {style.clock_text(forecast.reference)} to {last}."
    file = f"{drawing.kind}.{forecast.variable.name}.png"
    width, height = write_png(figure, out / file, title=title, text=text)
    caption = Caption(file, drawing.kind, title, text, width, height, forecast.variable.name)
    if drawing.bar is None or scale.safe_cmap is None:
        return caption
    exchange_colours(drawing.artists, drawing.bar, scale)
    safe_file = file.replace(".png", ".safe.png")
    write_png(figure, out / safe_file, title=title, text=text)
    return replace(caption, safe_file=safe_file)


def _grid(
    forecast: Forecast, n_columns: int, n_rows: int, *, bar_room: float = 1.0
) -> tuple[Figure, Callable[[int, int], tuple[float, float, float, float]]]:
    """A figure with room for a header and colour bars, and the rectangle of each panel in figure fractions."""
    width = (style.WIDTH_INCHES - 0.7) / n_columns - 0.1
    tall = width * height_over_width(forecast.layout.grid)
    height = 0.75 + n_rows * (tall + 0.28) + bar_room

    def panel(row: int, column: int) -> tuple[float, float, float, float]:
        left, bottom = 0.55 + column * (width + 0.1), height - 0.75 - (row + 1) * (tall + 0.28) + 0.02
        return left / style.WIDTH_INCHES, bottom / height, width / style.WIDTH_INCHES, tall / height

    return Figure(figsize=(style.WIDTH_INCHES, height), dpi=style.DPI), panel


def _header(figure: Figure, forecast: Forecast, what: str, frame: Frame | None = None) -> None:
    height = float(figure.get_size_inches()[1])
    name = forecast.variable.long_name[:1].upper() + forecast.variable.long_name[1:]
    figure.text(0.015, 1 - 0.19 / height, f"{name}: {what}", fontsize=10, fontweight="bold", va="center")
    line = f"Forecast from {style.clock_text(forecast.reference)}  |  {len(forecast.members)} members  |  EXPERIMENTAL"
    warning = "" if frame is None or not frame.warning else f"  |  {frame.warning.upper()}"
    figure.text(0.015, 1 - 0.45 / height, line + warning, color=style.MUTED, va="center")


def _bar(figure: Figure, left: float, width: float, scale: ColourScale) -> Colorbar:
    height = float(figure.get_size_inches()[1])
    return draw_bar(figure, (left, 0.42 / height, width, 0.12 / height), scale)


def _probability_scale() -> ColourScale:
    cmap = ListedColormap(list(PROBABILITY_COLOURS)).with_extremes(under="white")
    labels = tuple(f"{100 * bound:.0f}" for bound in PROBABILITY_BOUNDS)
    norm = BoundaryNorm(PROBABILITY_BOUNDS, cmap.N)
    return ColourScale(cmap, norm, "min", PROBABILITY_BOUNDS, labels, "share of members (%)")


def _image(
    axes: Axes, values: np.ndarray, frame: Frame, cmap: Colormap, norm: Normalize | None = None, *, alpha: float = 1.0
) -> None:
    place = {"extent": frame.extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    axes.imshow(values, cmap=cmap, norm=norm, alpha=alpha, **place)


def _centres(frame: Frame, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    x0, x1, y0, y1 = frame.extent
    n_y, n_x = shape
    return x0 + (np.arange(n_x) + 0.5) * (x1 - x0) / n_x, y0 + (np.arange(n_y) + 0.5) * (y1 - y0) / n_y


def _middle(forecast: Forecast) -> int:
    """Row of the middle lead, 1 or more."""
    return max(1, (len(forecast.leads) - 1) // 2)


def _lead(forecast: Forecast, row: int) -> str:
    return forecast.lead_text(row)


def _event(forecast: Forecast) -> str:
    limit, units = forecast.thresholds[forecast.event], style.unit_text(forecast.variable.units)
    return f"{style.number_text(float(limit))} {units}".strip()
