"""Maps: every cell, observation and class where it belongs, the same pixels every cycle, no network."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import sample_experiment as sample
from matplotlib.colors import to_rgb
from PIL import Image

from cycler_da.errors import DataError
from cycler_da.layout import Axis, Grid
from cycler_da.plots import style
from cycler_da.plots.canvas import Sheet, provenance_text
from cycler_da.plots.fields import read_cycle
from cycler_da.plots.limits import VariableLimits
from cycler_da.plots.maps import plot_cycle

LAYOUT = sample.qg_layout(8)
LIMITS = {name: VariableLimits(-1.0, 1.0, (0.1, 0.2, 0.5)) for name in ("q1", "q2")}
RED, BLUE = style.SIGNED(1.0)[:3], style.SIGNED(0.0)[:3]


def flat_fields(**changes):
    zero = np.zeros(LAYOUT.state_shape)
    fields = sample.Fields(zero, zero, zero, zero, zero)
    return replace(fields, **changes)


def panel_pixels(path, row, column, *, n_columns=4, tick_room=0.46, has_top_labels=False):
    """The pixels inside the frame of one panel, row 0 of the array on top."""
    pixels = np.asarray(Image.open(path).convert("RGB")) / 255.0
    sheet = Sheet(n_columns, 1.0, tick_room=tick_room, has_top_labels=has_top_labels)
    x, y, width, height = sheet.panel(row, column)
    n_y, n_x = pixels.shape[:2]
    top, bottom = n_y - round((y + height) * n_y), n_y - round(y * n_y)
    return pixels[top + 3 : bottom - 3, round(x * n_x) + 3 : round((x + width) * n_x) - 3]


def cell_colour(panel, row, column, n=8):
    """Colour at the middle of a cell; row 0 is in the south."""
    height, width = panel.shape[:2]
    return panel[int((n - row - 0.5) / n * height), int((column + 0.5) / n * width)]


def test_a_cell_is_drawn_at_its_place_and_in_its_colour(tmp_path):
    analysis = np.zeros(LAYOUT.state_shape)
    analysis[0, 1, 6], analysis[0, 7, 0] = 1.0, -1.0
    sample.write_cycle(tmp_path / "c", LAYOUT, flat_fields(analysis=analysis))
    plot_cycle(tmp_path / "c", tmp_path, limits=LIMITS)
    panel = panel_pixels(tmp_path / "map.q1.png", 0, 1)
    np.testing.assert_allclose(cell_colour(panel, 1, 6), RED, atol=0.01)
    np.testing.assert_allclose(cell_colour(panel, 7, 0), BLUE, atol=0.01)
    np.testing.assert_allclose(cell_colour(panel, 4, 4), style.SIGNED(0.5)[:3], atol=0.01)


def test_analysis_error_is_analysis_minus_truth(tmp_path):
    analysis = np.full(LAYOUT.state_shape, 0.3)
    sample.write_cycle(tmp_path / "c", LAYOUT, flat_fields(analysis=analysis))
    plot_cycle(tmp_path / "c", tmp_path, limits=LIMITS)
    colour = cell_colour(panel_pixels(tmp_path / "map.q1.png", 1, 3), 3, 3)
    more = style.DEPARTURE(0.79)[:3]  # third of three classes above zero would be 1.0, the second 0.79
    assert colour[0] > colour[2]
    np.testing.assert_allclose(colour, more, atol=0.02)


def test_an_observation_is_drawn_where_it_is(tmp_path):
    truth = np.ones(LAYOUT.state_shape)
    folder = sample.write_cycle(tmp_path / "c", LAYOUT, flat_fields(truth=truth), n_obs=1)
    plot_cycle(folder, tmp_path, limits=LIMITS)
    (name, points), *_ = read_cycle(folder).observations.items()
    row, column = int(points.y[0] // 125e3), int(points.x[0] // 125e3)
    panel = panel_pixels(tmp_path / f"map.{name}.png", 1, 2)
    distance = np.abs(panel - np.array(to_rgb(style.PANEL))).sum(axis=2)
    ys, xs = np.nonzero(distance > 0.3)
    assert int((len(panel) - ys.mean()) / len(panel) * 8) == row
    assert int(xs.mean() / len(panel[0]) * 8) == column


def test_missing_is_drawn_unlike_zero(radar_cycle):
    """The strip without data is hatched grey; cells without rain have the colour of no rain."""
    place = {"tick_room": 0.30, "has_top_labels": True}
    panel = panel_pixels(radar_cycle / "plots" / "map.vil.png", 0, 1, **place)
    strip = panel[:, : int(panel.shape[1] * 5 / 128)].reshape(-1, 3)
    no_rain = np.array(to_rgb(style.VIL_UNDER))
    assert (np.abs(strip - no_rain).sum(axis=1) < 0.02).mean() < 0.01  # a state line may cross the strip
    assert len(np.unique(np.round(strip, 1), axis=0)) > 1, "a hatch has more than one colour"
    share = (np.abs(panel - no_rain).sum(axis=2) < 0.02).mean()
    assert share > 0.3


def test_vil_maps_have_a_colour_blind_safe_twin(radar_cycle):
    captions = json.loads((radar_cycle / "plots" / "captions.json").read_text())
    figure = captions["figures"][0]
    assert (figure["file"], figure["safe_file"]) == ("map.vil.png", "map.vil.safe.png")
    place = {"tick_room": 0.30, "has_top_labels": True}
    colours = {
        name: {
            tuple(pixel)
            for pixel in np.round(panel_pixels(radar_cycle / "plots" / name, 0, 0, **place), 2).reshape(-1, 3)
        }
        for name in ("map.vil.png", "map.vil.safe.png")
    }
    assert tuple(np.round(to_rgb("#28be28"), 2)) in colours["map.vil.png"]
    assert tuple(np.round(to_rgb("#28be28"), 2)) not in colours["map.vil.safe.png"]
    assert tuple(np.round(to_rgb(style.VIL_SAFE_COLOURS[1]), 2)) in colours["map.vil.safe.png"]


def test_all_cycles_of_a_loop_have_the_same_pixels(qg_experiment):
    sizes = {Image.open(path).size for path in qg_experiment.rglob("map.q*.png")}
    assert len(list(qg_experiment.rglob("map.q*.png"))) == 8
    assert len(sizes) == 1
    assert sizes.pop()[0] == style.WIDTH_INCHES * style.DPI == 1600


def test_a_file_lists_what_was_written_and_says_it_in_words(qg_experiment):
    folder = sorted(qg_experiment.glob("letkf/cycles/*"))[-1] / "plots"
    captions = json.loads((folder / "captions.json").read_text())
    assert [one["file"] for one in captions["figures"]] == ["map.q1.png", "map.q2.png", "departures.png"]
    alt = captions["figures"][0]["alt"]
    for part in (
        "background",
        "increment",
        "truth",
        "Lead +24 h",
        "Valid 2020-03-02 0000Z (Mon)",
        "analysis RMSE",
        "used",
    ):
        assert part in alt
    picture = Image.open(folder / "map.q1.png")
    assert picture.text["Description"] == alt
    assert (captions["figures"][0]["width"], captions["figures"][0]["height"]) == picture.size


def test_plot_cycle_returns_what_it_wrote(tmp_path):
    folder = sample.write_cycle(tmp_path / "c", LAYOUT, sample.qg_fields(LAYOUT, 1))
    written = plot_cycle(folder, tmp_path / "plots")
    assert [path.name for path in written] == ["map.q1.png", "map.q2.png", "departures.png", "captions.json"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(path.name for path in written)


def test_a_cycle_drawn_twice_gives_the_same_bytes(tmp_path):
    folder = sample.write_cycle(tmp_path / "c", LAYOUT, sample.qg_fields(LAYOUT, 1))
    first, second = (plot_cycle(folder, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_without_truth_there_is_no_column_for_it(tmp_path):
    folder = sample.write_cycle(tmp_path / "c", LAYOUT, flat_fields(), with_truth=False)
    plot_cycle(folder, tmp_path, limits=LIMITS)
    height = Sheet(3, 1.0, tick_room=0.46).height
    assert Image.open(tmp_path / "map.q1.png").size == (1600, round(height * style.DPI))
    figure = json.loads((tmp_path / "captions.json").read_text())["figures"][0]
    assert "truth" not in figure["alt"] and "RMSE" not in figure["alt"]


def test_one_axis_is_drawn_as_curves(tmp_path):
    layout = sample.lorenz_layout()
    folder = sample.write_cycle(tmp_path / "c", layout, sample.lorenz_fields(layout, 1), n_obs=20)
    names = [path.name for path in plot_cycle(folder, tmp_path / "plots")]
    assert names == ["lines.png", "departures.png", "captions.json"]


def test_three_axes_are_refused_in_words(tmp_path):
    axes = tuple(Axis(name, 3) for name in ("z", "y", "x"))
    layout = replace(LAYOUT, grid=Grid(axes))
    zero = np.zeros(layout.state_shape)
    folder = sample.write_cycle(tmp_path / "c", layout, sample.Fields(zero, zero, zero, zero, zero), n_obs=None)
    with pytest.raises(DataError, match="3 axes; figures exist for one and two"):
        plot_cycle(folder, tmp_path / "plots")


def test_the_header_says_who_made_the_map(qg_experiment):
    facts = read_cycle(next(iter(qg_experiment.glob("letkf/cycles/*T0000Z")))).facts
    assert provenance_text(facts) == "20 members | scheme letkf | model 3fa9c1d2 | sample"
    named = provenance_text(replace(facts, chain="letkf_wide", experiment="an_experiment_with_a_very_long_name_indeed"))
    assert len(named) == 76 and named.endswith("…")


@pytest.mark.benchmark
def test_drawing_a_qg_cycle_takes_seconds_not_minutes(tmp_path):
    """About 0.9 s of one core; the limit leaves room for a slow machine."""
    layout = sample.qg_layout()
    folder = sample.write_cycle(tmp_path / "c", layout, sample.qg_fields(layout, 1))
    start = time.process_time()
    plot_cycle(folder, tmp_path / "plots")
    assert time.process_time() - start < 6
