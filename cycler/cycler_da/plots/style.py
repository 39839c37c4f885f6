"""The look of every figure: sizes, fonts, colours and how numbers, units and times are written.

Figures are `WIDTH_INCHES` wide at `DPI`, so their point sizes hold on a screen where the figure is 800
pixels wide: no text is smaller than 8 points there. Colours are never the only sign: signs differ in
lightness, classes have contour lines, kinds of observation have their own markers.

VIL colours and class bounds are those that SEVIR maps are drawn in (Veillette et al. 2020, NeurIPS,
"SEVIR: a storm event imagery dataset"); missing data are hatched, which zero never is.
"""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from cycler_da.layout import Variable

WIDTH_INCHES = 8.0
DPI = 200  # 1600 pixels

INK = "#1d2733"
MUTED = "#5b6875"
LINE = "#c9d1d9"
ALERT = "#a3241b"
PANEL = "#f4f6f8"
MISSING_FACE = "#e3e6e9"
MISSING_HATCH = "#8b949e"

#: Colours of series, safe for red-green deficiency (Okabe and Ito 2008); lines also differ in dash.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
SERIES_DASHES = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 1.5), (8, 3), (2, 3))

#: rcParams of every figure.
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#3d4752",
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

#: Signed fields: blue, white, red, with equal lightness at equal distance from zero.
SIGNED = LinearSegmentedColormap.from_list(
    "cycler_signed",
    ["#08234d", "#1f5a97", "#5f9bc9", "#b4d3e6", "#f7f7f7", "#f3c5ab", "#d98263", "#a93a37", "#590d22"],
    N=513,
)
#: Departures (increment, error): teal for less, orange-brown for more, so that they are not taken for fields.
DEPARTURE = LinearSegmentedColormap.from_list(
    "cycler_departure",
    ["#01363b", "#0b6f74", "#4fa9a6", "#a9d8d2", "#ffffff", "#eccb90", "#cd8f3c", "#95540f", "#4d2800"],
    N=513,
)
#: Spread: one hue, light is small.
SPREAD = LinearSegmentedColormap.from_list(
    "cycler_spread", ["#fbfaff", "#ddd6f0", "#b5a5db", "#8a72c0", "#63439e", "#431f74", "#270b46"], N=513
)

#: SEVIR's nine VIL classes from code 16 to 255, what lies below, and what lies above.
VIL_COLOURS = (
    "#4d4d4d",
    "#28be28",
    "#199619",
    "#0a690a",
    "#0a4b0a",
    "#f5f500",
    "#edac00",
    "#f06e00",
    "#a00000",
)
VIL_UNDER = "#4d4d4d"
VIL_OVER = "#e700ff"
#: The same classes for readers with red-green deficiency: matplotlib's "inferno" from 0.1 to 1 (Smith and van
#: der Walt 2015), cut where CIEDE2000 steps are equal as a deuteranope sees them; all steps are above 10.
VIL_SAFE_UNDER = "#160b39"
VIL_SAFE_COLOURS = (
    "#4d0d6c",
    "#7d1e6d",
    "#982766",
    "#ad305d",
    "#c33b4f",
    "#df5337",
    "#f8870e",
    "#f6d543",
    "#fcffa4",
)
VIL_SAFE_OVER = "#5fe0ff"
#: Contours drawn on VIL means (kg m-2): heavy precipitation and severe convection (aviation levels 3 and 5).
VIL_CONTOURS = (3.5, 12.0)

_UNIT_POWER = re.compile(r"(?<=[A-Za-z])(-?\d+)")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def is_vil(variable: Variable) -> bool:
    """True for vertically integrated liquid in SEVIR's units."""
    return variable.name == "vil" and variable.units.replace(" ", "") == "kgm-2"


def unit_text(units: str, exponent: int = 0) -> str:
    """Write CF units for people: ("s-1", -6) gives "10⁻⁶ s⁻¹"; "1" and "" give only the power of ten."""
    pretty = "" if units.strip() in ("", "1") else _UNIT_POWER.sub(lambda m: m.group(1).translate(_SUPERSCRIPT), units)
    power = "" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)
    return f"{power} {pretty}".strip()


def number_text(value: float) -> str:
    """Write a number with two significant digits, without trailing zeros or an exponent for usual sizes."""
    if not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 1 - int(np.floor(np.log10(abs(value)))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.1e}"


def clock_text(time: np.datetime64) -> str:
    """Write a valid time as forecasters do: 2019-09-17 1955Z."""
    moment = time.astype("datetime64[s]").astype(datetime)
    return moment.strftime("%Y-%m-%d %H%MZ" if moment.second == 0 else "%Y-%m-%d %H%M%SZ")


def weekday_text(time: np.datetime64) -> str:
    """Three letters of the weekday; English, whatever the machine's language."""
    return ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")[int(time.astype("datetime64[D]").astype(int)) % 7]


def lead_text(lead: np.timedelta64) -> str:
    """Write a lead time in hours, or minutes, or seconds: +24 h."""
    seconds = int(lead / np.timedelta64(1, "s"))
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size:+d} {unit}"
    return f"{seconds:+d} s"


def title_times(init: np.datetime64, valid: np.datetime64) -> str:
    """The line every figure carries: Init, Lead, Valid."""
    day = weekday_text(valid)
    return f"Init {clock_text(init)}  |  Lead {lead_text(valid - init)}  |  Valid {clock_text(valid)} ({day})"
