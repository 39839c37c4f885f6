"""Figures of one cycle: for each variable one sheet that shows what the cycle did.

    background mean    | analysis mean    | increment    | truth           (nature run only)
    background spread  | analysis spread  | observations | analysis error  (nature run only)

Columns keep their place in all cycles of a chain; a layer that is not there leaves its place empty. Beside
each departure and spread stands its root mean square over the grid. Two-dimensional grids are drawn here,
those with a grid mapping as maps; one-dimensional ones by `lines`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

from cycler_da.errors import DataError
from cycler_da.plots import canvas, style
from cycler_da.plots.captions import Caption, map_text, rms, write_captions
from cycler_da.plots.departures import departure_text, draw_departures
from cycler_da.plots.fields import CycleFields, VariableFields, read_cycle
from cycler_da.plots.forecasts import plot_forecasts
from cycler_da.plots.frames import Frame, frame_of, height_over_width
from cycler_da.plots.layers import draw_values, exchange_colours
from cycler_da.plots.limits import Limits, VariableLimits, experiment_folder, limits_for
from cycler_da.plots.lines import draw_lines, line_text
from cycler_da.plots.obs import draw_observations, observation_legend
from cycler_da.plots.png import write_png
from cycler_da.plots.scales import ColourScale, departure_scale, spread_scale, value_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure


def plot_cycle(cycle_folder: Path, out: Path, *, limits: Limits | None = None) -> list[Path]:
    """Draw all figures of a cycle into the folder `out`; returns what was written, `captions.json` last.

    `limits` default to those of the experiment (`limits.limits_for`). Layers that the cycle lacks are left
    out. Raises MissingProduct without an analysis, DataError for files that break the contract.
    """
    fields = read_cycle(Path(cycle_folder))
    limits = limits_for(fields) if limits is None else limits
    out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(style.RC):
        captions = [_save(drawing, out) for drawing in _drawings(fields, limits)]
        captions += plot_forecasts(fields.folder, out, limits=limits)
    written = [out / name for one in captions for name in (one.file, one.safe_file) if name]
    return [*written, write_captions(out, captions, fields)]


@dataclass(frozen=True)
class Drawing:
    """A figure, its caption, and the artists whose colours have a colour-blind-safe twin."""

    figure: Figure
    caption: Caption
    value_artists: list[ScalarMappable] = field(default_factory=list)
    value_bar: Colorbar | None = None
    value_scale: ColourScale | None = None


def _drawings(fields: CycleFields, limits: Limits) -> Iterator[Drawing]:
    n_axes = len(fields.layout.grid.axes)
    if n_axes > 2:
        raise DataError(f"maps of {fields.folder}: the grid has {n_axes} axes; figures exist for one and two")
    if n_axes == 2:
        frame = frame_of(fields.layout.grid)
        for part in fields.variables:
            yield draw_map(fields, part, frame=frame, limits=limits[part.variable.name])
    else:
        title = f"{fields.layout.system}: background and analysis"
        yield Drawing(draw_lines(fields, limits), _caption("lines.png", "lines", title, line_text(fields)))
    departures = draw_departures(fields, limits)
    if departures is not None:
        title = "Observations minus background and analysis"
        yield Drawing(departures, _caption("departures.png", "departures", title, departure_text(fields)))


def draw_map(fields: CycleFields, part: VariableFields, *, frame: Frame, limits: VariableLimits) -> Drawing:
    """Draw the sheet of one variable."""
    variable = part.variable
    scales = {
        "value": value_scale(variable, limits),
        "departure": departure_scale(variable, limits),
        "spread": spread_scale(variable, limits),
    }
    columns = _columns(fields, part)
    is_wide = bool(scales["value"].top_labels)
    aspect = height_over_width(fields.layout.grid)
    sheet = canvas.Sheet(len(columns), aspect, tick_room=frame.tick_room, has_top_labels=is_wide)
    figure = sheet.figure()
    title = f"{variable.long_name[:1].upper()}{variable.long_name[1:]} ({variable.name})"
    canvas.draw_header(figure, title, fields.facts, warning=frame.warning)
    artists: list[ScalarMappable] = []
    for i_column, slots in enumerate(columns):
        for i_row, slot in enumerate(slots):
            axes = frame.add_axes(figure, sheet.panel(i_row, i_column))
            if slot.layer == "observations":
                artists += _draw_observation_panel(axes, fields, part, frame=frame, scale=scales["value"])
            else:
                artists += _draw_field_panel(axes, slot, part, frame=frame, scale=scales[slot.scale], limits=limits)
            frame.decorate(axes, is_left=i_column == 0, is_bottom=i_row == 1)
    bars = sheet.bars([1.9, 1.1, 1.0] if is_wide else [1.0, 1.0, 1.0])
    drawn = [canvas.draw_bar(figure, where, scale) for where, scale in zip(bars, scales.values(), strict=True)]
    caption = _caption(f"map.{variable.name}.png", "map", title, map_text(fields, part), variable=variable.name)
    return Drawing(figure, caption, artists, drawn[0], scales["value"])


@dataclass(frozen=True)
class _Slot:
    layer: str
    title: str
    scale: str = ""


_COLUMNS = (
    (_Slot("background", "Background mean", "value"), _Slot("background_spread", "Background spread", "spread")),
    (_Slot("analysis", "Analysis mean", "value"), _Slot("analysis_spread", "Analysis spread", "spread")),
    (_Slot("increment", "Increment", "departure"), _Slot("observations", "Observations")),
    (_Slot("truth", "Truth", "value"), _Slot("analysis_error", "Analysis error", "departure")),
)


def _columns(fields: CycleFields, part: VariableFields) -> list[tuple[_Slot, _Slot]]:
    """The columns to draw: in an experiment always the first three, so that a loop does not jump."""

    def holds(slot: _Slot) -> bool:
        if slot.layer == "observations":
            return part.variable.name in fields.observations
        return getattr(part, slot.layer) is not None

    n_fixed = 3 if experiment_folder(fields.folder) else 0
    return [slots for i, slots in enumerate(_COLUMNS) if i < n_fixed or any(map(holds, slots))]


def _draw_field_panel(
    axes: Axes, slot: _Slot, part: VariableFields, *, frame: Frame, scale: ColourScale, limits: VariableLimits
) -> list[ScalarMappable]:
    values = getattr(part, slot.layer)
    axes.set_title(slot.title, loc="left", pad=3)
    if values is None:
        _draw_empty(axes, "not in this cycle")
        return []
    is_value = slot.scale == "value"
    image = draw_values(axes, values, frame, scale, is_vil=is_value and style.is_vil(part.variable))
    if is_value:
        return [image]
    size = style.number_text(rms(values) / 10.0**limits.exponent)
    axes.set_title(f"rms {size}", loc="right", pad=3, fontsize=8, color=style.MUTED)
    return []


def _draw_observation_panel(
    axes: Axes, fields: CycleFields, part: VariableFields, *, frame: Frame, scale: ColourScale
) -> list[ScalarMappable]:
    points = fields.observations.get(part.variable.name)
    axes.set_title("Observations", loc="left", pad=3)
    if points is None:
        _draw_empty(axes, "none in this cycle")
        return []
    figure = axes.get_figure()
    figure.legend(
        handles=observation_legend(points),
        loc="center right",
        bbox_to_anchor=(1 - 0.08 / style.WIDTH_INCHES, 1 - 0.62 / float(figure.get_size_inches()[1])),
        ncols=3,
        frameon=False,
        handletextpad=0.2,
        columnspacing=1.0,
    )
    return draw_observations(axes, points, frame=frame, grid=fields.layout.grid, scale=scale)


def _draw_empty(axes: Axes, text: str) -> None:
    axes.set_facecolor(style.PANEL)
    box = {"facecolor": style.PANEL, "edgecolor": "none", "pad": 2}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=style.MUTED, bbox=box, zorder=7)


def _caption(file: str, kind: str, title: str, alt: str, *, variable: str = "") -> Caption:
    return Caption(file=file, kind=kind, title=title, alt=alt, width=0, height=0, variable=variable)


def _save(drawing: Drawing, out: Path) -> Caption:
    """Write the PNG files of a drawing, each in one step, and return the caption with file names and size."""
    caption = drawing.caption
    width, height = write_png(drawing.figure, out / caption.file, title=caption.title, text=caption.alt)
    caption = replace(caption, width=width, height=height)
    if drawing.value_bar is None or drawing.value_scale is None or drawing.value_scale.safe_cmap is None:
        return caption
    exchange_colours(drawing.value_artists, drawing.value_bar, drawing.value_scale)
    safe_file = caption.file.replace(".png", ".safe.png")
    write_png(drawing.figure, out / safe_file, title=caption.title, text=caption.alt)
    return replace(caption, safe_file=safe_file)
