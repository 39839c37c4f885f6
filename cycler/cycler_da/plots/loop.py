"""The loop of a forecast, an animated PNG: earlier analyses, the analysis, then the forecast.

The banner says which of the two is seen, in words and colour, so that nobody takes a forecast for what radars saw.
APNG is played by every browser. Values of VIL have a twin in colour-blind-safe colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from cycler_da.plots import style
from cycler_da.plots.canvas import draw_bar
from cycler_da.plots.captions import Caption
from cycler_da.plots.forecast_fields import Forecast
from cycler_da.plots.frames import Frame, height_over_width
from cycler_da.plots.layers import draw_values, exchange_colours
from cycler_da.plots.scales import ColourScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECONDS, SIZE, BELOW = 0.6, 4.6, 0.75  # of a frame; inches of the map; inches of the colour bar


def draw_loop(
    out: Path,
    forecast: Forecast,
    frame: Frame,
    scale: ColourScale,
    *,
    earlier: Sequence[tuple[np.datetime64, np.ndarray]] = (),
) -> Caption:
    """Write the loop, and its twin where the scale has safe colours; `earlier` are analyses with their times."""
    frames = [(time, values, "ANALYSIS") for time, values in earlier]
    for row, minutes in enumerate(forecast.leads):
        valid = forecast.reference + np.timedelta64(round(60 * float(minutes)), "s")
        words = "ANALYSIS" if minutes == 0 else f"FORECAST {forecast.lead_text(row)}"
        frames.append((valid, forecast.matched[row], words))
    pictures: list[Image.Image] = []
    twins: list[Image.Image] = []
    for valid, values, words in frames:
        figure, axes = _figure(forecast, frame, valid, words)
        artist = draw_values(axes, values, frame, scale, is_vil=style.is_vil(forecast.variable))
        bar = draw_bar(figure, (0.09, 0.42 / _height(forecast), 0.8, 0.12 / _height(forecast)), scale)
        frame.decorate(axes, is_left=True, is_bottom=True)
        pictures.append(_picture(figure))
        if scale.safe_cmap is not None:
            exchange_colours([artist], bar, scale)
            twins.append(_picture(figure))
    file = f"loop.{forecast.variable.name}.png"
    safe_file = file.replace(".png", ".safe.png") if twins else ""
    for name, made in ((file, pictures), (safe_file, twins)):
        if made:
            made[0].save(out / name, save_all=True, append_images=made[1:], duration=round(1000 * SECONDS), loop=0)
    title = "Loop: analyses, then forecast"
    text = f"{title}, probability-matched mean."
    return Caption(file, "loop", title, text, *pictures[0].size, forecast.variable.name, safe_file=safe_file)


def _height(forecast: Forecast) -> float:
    return SIZE * height_over_width(forecast.layout.grid) + 0.55 + BELOW


def _figure(forecast: Forecast, frame: Frame, valid: np.datetime64, words: str) -> tuple[Figure, Axes]:
    height = _height(forecast)
    figure = Figure(figsize=(SIZE, height), dpi=style.DPI)
    axes = frame.add_axes(figure, (0.09, (BELOW + 0.2) / height, 0.88, 1 - (BELOW + 0.65) / height))
    colour = style.INK if words == "ANALYSIS" else style.ALERT
    figure.text(0.09, 1 - 0.25 / height, words, fontsize=10, fontweight="bold", color=colour, va="center")
    clock = style.clock_text(valid)
    figure.text(0.97, 1 - 0.25 / height, clock, fontsize=9, ha="right", va="center")
    return figure, axes


def _picture(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    size = canvas.get_width_height()
    return Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
