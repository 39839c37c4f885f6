"""What lies on a map of values: hatching where nothing is known, contours of VIL, and the exchange of colours.

A colour-blind-safe twin is the same figure with other colours: the artists that show values, and their bar, get the
safe colour map of the scale, and the figure is drawn again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle

from cycler_da.plots import canvas, style
from cycler_da.plots.frames import Frame
from cycler_da.plots.scales import ColourScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar


def draw_values(axes: Axes, values: np.ndarray, frame: Frame, scale: ColourScale, *, is_vil: bool) -> ScalarMappable:
    """A field of values with what is missing hatched and, for VIL, contours; returns what carries the colours."""
    if np.isnan(values).any():
        draw_missing(axes)
    place = {"extent": frame.extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = axes.imshow(values, cmap=scale.cmap, norm=scale.norm, **place)
    if is_vil:
        draw_vil_contours(axes, values, frame)
    return image


def draw_missing(axes: Axes) -> None:
    """Hatch the ground: where the field is missing it shows through, which zero never does."""
    axes.add_patch(
        Rectangle(
            (0, 0),
            1,
            1,
            transform=axes.transAxes,
            facecolor=style.MISSING_FACE,
            edgecolor=style.MISSING_HATCH,
            hatch="/////",
            linewidth=0,
            zorder=-1,
        )
    )


def draw_vil_contours(axes: Axes, values: np.ndarray, frame: Frame) -> None:
    """Contours at heavy precipitation (thin) and severe convection."""
    x0, x1, y0, y1 = frame.extent
    n_y, n_x = values.shape
    x = x0 + (np.arange(n_x) + 0.5) * (x1 - x0) / n_x
    y = y0 + (np.arange(n_y) + 0.5) * (y1 - y0) / n_y
    present = [level for level in style.VIL_CONTOURS if np.nanmin(values) < level < np.nanmax(values)]
    if present:
        widths = [0.5 if level == style.VIL_CONTOURS[0] else 1.0 for level in present]
        axes.contour(x, y, values, levels=present, colors="black", linewidths=widths, zorder=2)


def exchange_colours(artists: Iterable[ScalarMappable], bar: Colorbar, scale: ColourScale) -> None:
    """Give artists and bar the safe colours of the scale, which must have them."""
    for artist in (*artists, bar.mappable):
        artist.set_cmap(scale.safe_cmap)
    canvas.label_bar(bar, scale)
