"""Colour tables: as many colours as classes, the published bounds, and safe for colour-blind readers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sample_experiment as sample
from matplotlib.colors import to_rgb

from cycler_da.layout import Variable
from cycler_da.plots import style
from cycler_da.plots.limits import VariableLimits
from cycler_da.plots.scales import (
    VIL_CODES,
    departure_scale,
    spread_scale,
    value_scale,
    vil_bounds,
    vil_colour_map,
    vil_safe_colour_map,
)

VIL = sample.radar_layout().variables[0]
Q1 = sample.qg_layout().variables[0]
LIMITS = VariableLimits(-2.5e-5, 2.5e-5, (2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5))

#: Deuteranopia, severity 1 (Machado et al. 2009, IEEE Trans. Vis. Comput. Graph. 15, table 1), on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ_OF_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(colour, *, seen_by_deuteranope: bool = False) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour."""
    encoded = np.asarray(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    if seen_by_deuteranope:
        linear = np.clip(DEUTERANOPIA @ linear, 0, 1)
    ratio = XYZ_OF_RGB @ linear / WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """Colour difference of Sharma et al. 2005, Color Res. Appl. 30, eqs. 2 to 22."""
    chroma = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    g = 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))
    a = np.array([one[1], other[1]]) * (1 + g)
    b = np.array([one[2], other[2]])
    c = np.hypot(a, b)
    h = np.degrees(np.arctan2(b, a)) % 360
    turn = (h[1] - h[0] + 180) % 360 - 180 if c.all() else 0.0
    d_h = 2 * np.sqrt(c[0] * c[1]) * np.sin(np.radians(turn / 2))
    mean_l, mean_c = (one[0] + other[0]) / 2, c.mean()
    mean_h = h[0] + turn / 2 if c.all() else h.sum()
    t = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    turning = 60 * np.exp(-(((mean_h % 360 - 275) / 25) ** 2))
    r_t = -2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)) * np.sin(np.radians(turning))
    terms = (other[0] - one[0]) / s_l, (c[1] - c[0]) / s_c, d_h / s_h
    return float(np.sqrt(terms[0] ** 2 + terms[1] ** 2 + terms[2] ** 2 + r_t * terms[1] * terms[2]))


def test_colour_difference_equals_published_pairs():
    """Pairs 1, 7 and 17 of table 1 of Sharma et al. 2005."""
    pairs = [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ]
    for one, other, published in pairs:
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("cmap", [vil_colour_map(), vil_safe_colour_map()], ids=["sevir", "safe"])
def test_vil_has_one_colour_for_each_class(cmap):
    assert cmap.N == len(VIL_CODES) - 1 == 9


def test_vil_bounds_decode_to_the_published_levels():
    """SEVIR's scoring codes 16, 74, 133, 160, 181, 219 are these VIL levels (kg m-2)."""
    level_of = dict(zip(VIL_CODES, vil_bounds(), strict=True))
    published = {16: 0.1544, 74: 0.775, 133: 3.53, 160: 7.07, 181: 12.14, 219: 32.23}
    assert {code: level_of[code] for code in published} == pytest.approx(published, rel=2e-3)


@pytest.mark.parametrize(
    ("vil", "colour"),
    [(0.0, "#4d4d4d"), (0.2, "#4d4d4d"), (0.3, "#28be28"), (3.52, "#0a4b0a"), (3.54, "#f5f500"), (40.0, "#a00000")],
)
def test_vil_values_have_the_colours_of_sevir(vil, colour):
    scale = value_scale(VIL, VariableLimits(0, 80, (1.0, 2.0)))
    assert scale.cmap(scale.norm(vil))[:3] == pytest.approx(to_rgb(colour), abs=1e-6)


def test_vil_legend_says_codes_and_values():
    scale = value_scale(VIL, VariableLimits(0, 80, (1.0, 2.0)))
    assert scale.top_labels == ("16", "31", "59", "74", "100", "133", "160", "181", "219", "255")
    assert scale.tick_labels[5] == "3.5"
    assert len(scale.tick_labels) == len(scale.ticks) == 10


def test_adjacent_safe_vil_classes_differ_for_deuteranopes():
    """Difference above 10 in CIEDE2000 is seen at a glance; lightness rises, so that order is seen too."""
    seen = [lab(colour, seen_by_deuteranope=True) for colour in (style.VIL_SAFE_UNDER, *style.VIL_SAFE_COLOURS)]
    lightness = [one[0] for one in seen]
    steps = [ciede2000(one, other) for one, other in itertools.pairwise(seen)]
    assert lightness == sorted(lightness)
    assert min(steps) > 10


@pytest.mark.parametrize("cmap", [style.SIGNED, style.DEPARTURE], ids=["signed", "departure"])
def test_opposite_signs_are_equally_light(cmap):
    """Within 4 units of CIELAB lightness: neither sign looks stronger."""
    at = np.linspace(0, 0.5, 17)
    difference = [lab(cmap(low))[0] - lab(cmap(1 - low))[0] for low in at]
    assert np.max(np.abs(difference)) < 4


def test_departure_classes_are_symmetric_about_white():
    scale = departure_scale(Q1, LIMITS)
    n_classes = 2 * len(LIMITS.levels) + 1
    assert n_classes == scale.cmap.N
    assert scale.cmap(scale.norm(0.0))[:3] == (1.0, 1.0, 1.0)
    assert scale.cmap(scale.norm(1.9e-7))[:3] == (1.0, 1.0, 1.0)
    assert scale.norm.boundaries.tolist() == [*(-level for level in reversed(LIMITS.levels)), *LIMITS.levels]


def test_every_departure_and_spread_class_has_its_own_colour():
    middle = np.array([1e-7, 3e-7, 7e-7, 1.5e-6, 3e-6, 7e-6, 2e-5])
    for scale, values in (
        (departure_scale(Q1, LIMITS), np.r_[-middle[1:], middle]),
        (spread_scale(Q1, LIMITS), middle),
    ):
        colours = {tuple(scale.cmap(scale.norm(value))) for value in values}
        assert len(colours) == len(values) == scale.cmap.N


def test_bars_say_the_bounds_in_scaled_units():
    scale = spread_scale(Q1, LIMITS)
    assert scale.tick_labels == ("0", "0.2", "0.5", "1", "2", "5", "10")
    assert scale.label == "Spread (10⁻⁶ s⁻¹)"


def test_departure_bars_say_their_bounds_and_the_width_of_white():
    scale = departure_scale(Q1, LIMITS)
    assert scale.tick_labels == ("−10", "−2", "−0.5", "±0.2", "0.5", "2", "10")
    assert scale.ticks[len(scale.ticks) // 2] == 0.0


@pytest.mark.parametrize(
    ("units", "exponent", "text"),
    [("s-1", -6, "10⁻⁶ s⁻¹"), ("kg m-2", 0, "kg m⁻²"), ("1", 0, ""), ("K", 0, "K"), ("m2 s-1", 3, "10³ m² s⁻¹")],
)
def test_units_are_written_for_people(units, exponent, text):
    assert style.unit_text(units, exponent) == text


def test_titles_say_init_lead_and_valid():
    init, valid = np.datetime64("2019-09-17T19:55:00"), np.datetime64("2019-09-17T20:25:00")
    assert style.title_times(init, valid) == "Init 2019-09-17 1955Z  |  Lead +30 min  |  Valid 2019-09-17 2025Z (Tue)"


def test_a_variable_that_is_not_negative_has_a_one_sided_scale():
    scale = value_scale(Variable("rain", "mm", "rain", 0.0), VariableLimits(0.0, 40.0, (1.0, 2.0)))
    assert (scale.norm.vmin, scale.norm.vmax, scale.extend) == (0.0, 40.0, "max")
