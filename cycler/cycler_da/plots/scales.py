"""Colour scales: which colour a value has, and how the colour bar says so.

Four kinds. `value` of a signed variable is symmetric about zero; of any other variable it runs from low to
high; VIL has SEVIR's classes. `departure` (increment, error) has classes symmetric about a white zero, their
bounds in steps of 1-2-5: the analysis increments of a settled cycle are fifty times smaller than those of
the first one, and both are read off the same fixed bounds, so a loop does not flicker. `spread` has the
same bounds, one-sided. Every bar says its bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, Normalize

from cycler_da.layout import Variable
from cycler_da.plots import style
from cycler_da.plots.limits import VariableLimits
from cycler_da.systems.sevir_codec import COLOUR_CODES, DECODE_TABLE, LOG_OFFSET, LOG_SLOPE

#: SEVIR's class bounds as codes, without the zero below the first.
VIL_CODES = COLOUR_CODES[1:]


@dataclass(frozen=True)
class ColourScale:
    """A colour map, its norm, and the text of its bar. `ticks` are in the variable's units."""

    cmap: Colormap
    norm: Normalize
    extend: str
    ticks: tuple[float, ...]
    tick_labels: tuple[str, ...]
    label: str
    top_labels: tuple[str, ...] = ()  # a second row of tick labels, above the bar
    safe_cmap: Colormap | None = None  # the same classes for red-green deficiency


def vil_bounds() -> np.ndarray:
    """Bounds of SEVIR's VIL classes in kg m-2, one more than there are colours."""
    top = np.exp((VIL_CODES[-1] - LOG_OFFSET) / LOG_SLOPE)  # code 255 is "missing"; as a bound it follows the law
    return np.append(DECODE_TABLE[list(VIL_CODES[:-1])], top)


def value_scale(variable: Variable, limits: VariableLimits) -> ColourScale:
    """Colours of means, truth and observed values."""
    if style.is_vil(variable):
        return _vil_scale()
    exponent = limits.exponent
    ticks = np.linspace(limits.low, limits.high, 5)
    return ColourScale(
        cmap=style.SIGNED if limits.is_signed else colormaps["viridis"],
        norm=Normalize(limits.low, limits.high),
        extend="both" if limits.is_signed or limits.low != 0 else "max",
        ticks=tuple(float(tick) for tick in ticks),
        tick_labels=tuple(_scaled(tick, exponent) for tick in ticks),
        label=_label("Mean, truth, observed", variable, exponent),
    )


def departure_scale(variable: Variable, limits: VariableLimits) -> ColourScale:
    """Colours of increments and errors: classes symmetric about a white zero."""
    bounds = (*(-level for level in reversed(limits.levels)), *limits.levels)
    ticks, labels = _departure_ticks(limits.levels, limits.exponent)
    n_side = len(limits.levels)
    # white for the class around zero; the others leave the pale end of the map, so that the first class shows
    shade = np.concatenate([np.linspace(0.0, 0.42, n_side), [0.5], np.linspace(0.58, 1.0, n_side)])
    return ColourScale(
        cmap=_classes(style.DEPARTURE(shade), "departure"),
        norm=BoundaryNorm(bounds, len(bounds) + 1, extend="both"),
        extend="both",
        ticks=ticks,
        tick_labels=labels,
        label=_label("Increment, error", variable, limits.exponent),
    )


def spread_scale(variable: Variable, limits: VariableLimits) -> ColourScale:
    """Colours of the ensemble spread; the bounds are those of the departures."""
    bounds = (0.0, *limits.levels)
    return ColourScale(
        cmap=_classes(style.SPREAD(np.linspace(0.0, 1.0, len(bounds))), "spread"),
        norm=BoundaryNorm(bounds, len(bounds), extend="max"),
        extend="max",
        ticks=bounds,
        tick_labels=tuple(_scaled(bound, limits.exponent) for bound in bounds),
        label=_label("Spread", variable, limits.exponent),
    )


def vil_colour_map() -> ListedColormap:
    """SEVIR's VIL colours: one for each class, one below and one above."""
    cmap = ListedColormap(list(style.VIL_COLOURS), name="sevir_vil")
    return cmap.with_extremes(under=style.VIL_UNDER, over=style.VIL_OVER)


def vil_safe_colour_map() -> ListedColormap:
    """The same classes in colours that differ in lightness, for red-green deficiency."""
    cmap = ListedColormap(list(style.VIL_SAFE_COLOURS), name="sevir_vil_safe")
    return cmap.with_extremes(under=style.VIL_SAFE_UNDER, over=style.VIL_SAFE_OVER)


def _vil_scale() -> ColourScale:
    bounds = vil_bounds()
    cmap = vil_colour_map()
    contours = " and ".join(style.number_text(level) for level in style.VIL_CONTOURS)
    return ColourScale(
        cmap=cmap,
        norm=BoundaryNorm(bounds, cmap.N),
        extend="both",
        ticks=tuple(float(bound) for bound in bounds),
        tick_labels=tuple(style.number_text(bound) for bound in bounds),
        label=f"VIL, kg m⁻²; above: SEVIR code; contours at {contours}",
        top_labels=tuple(str(code) for code in VIL_CODES),
        safe_cmap=vil_safe_colour_map(),
    )


def _classes(colours: np.ndarray, name: str) -> ListedColormap:
    return ListedColormap(colours, name=name)


def _departure_ticks(levels: tuple[float, ...], exponent: int) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Every other bound from the outermost inwards, and the width of the white class at its middle."""
    right = levels[1:][::-1][::2][::-1]
    ticks = (*(-level for level in reversed(right)), 0.0, *right)
    labels = [f"±{_scaled(levels[0], exponent)}" if tick == 0 else _scaled(tick, exponent) for tick in ticks]
    return ticks, tuple(labels)


def _scaled(value: float, exponent: int) -> str:
    return f"{value / 10.0**exponent:.3g}".replace("-", "−")


def _label(what: str, variable: Variable, exponent: int) -> str:
    units = style.unit_text(variable.units, exponent)
    return f"{what} ({units})" if units else what
