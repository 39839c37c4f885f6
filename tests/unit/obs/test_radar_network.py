"""The cells a weather radar sees: reach, obstacles, outages, and errors that grow with distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.points import CellSpec
from cycler_da.obs.radar_network import RadarSpec
from cycler_da.obs.synthetic import draw_observations

AXES = (Axis("y", 9, 1000.0, 500.0), Axis("x", 11, 1000.0, -3000.0))
LAYOUT = Layout("map", (Variable("vil", "kg m-2", "liquid", 0.0, 80.0),), Grid(AXES), np.timedelta64(600, "s"))
SITE = (4500.0, 2000.0)  # cell (4, 5)
NOON = np.datetime64("2020-01-01T12:00", "s")
ROWS, COLUMNS = np.indices((9, 11))
DISTANCE = 1000.0 * np.hypot(ROWS - 4, COLUMNS - 5)


def _seen(time=NOON, seed=1, **options):
    sites = RadarSpec(site=SITE, **options).build(LAYOUT).sites(time, noise=Noise.of_cycle(seed, time), stream="radar")
    picture = np.zeros((9, 11), dtype=bool)
    position = sites.where.position.numpy()
    picture[((position[:, 0] - 500) / 1000).astype(int), ((position[:, 1] + 3000) / 1000).astype(int)] = True
    return picture


def test_a_radar_sees_all_cells_within_its_reach_and_no_other():
    assert np.array_equal(_seen(reach=3000.0), DISTANCE <= 3000.0)


def test_azimuths_run_clockwise_from_north_and_an_obstacle_hides_what_is_behind_it():
    # Blocked from north to east: rows above, columns right of the site.
    hidden = (ROWS >= 4) & (COLUMNS >= 5) & (DISTANCE >= 2000.0)
    assert np.array_equal(_seen(reach=1e5, blocked=((0.0, 90.0, 2000.0),)), ~hidden)
    across_north = _seen(reach=1e5, blocked=((350.0, 10.0, 0.5),))
    assert np.array_equal(np.argwhere(~across_north), [[5, 5], [6, 5], [7, 5], [8, 5]])


def test_nothing_is_seen_in_an_outage_and_the_file_of_it_is_empty():
    spec = RadarSpec(site=SITE, reach=1e5, outages=(("2020-01-01T11:50Z", "2020-01-01T12:00Z"),))
    radar = spec.build(LAYOUT)
    seen = [len(radar.sites(NOON + np.timedelta64(k, "m"), noise=Noise(1), stream="radar")) for k in (-10, 0, 10)]
    assert seen == [99, 0, 99]
    options = {"network": radar, "error": {"vil": 1.0}, "noise": Noise(1), "stream": "radar"}
    assert len(draw_observations(torch.ones(1, 9, 11), LAYOUT, NOON, operator=CellSpec().build(LAYOUT), **options)) == 0


def test_a_part_of_the_cells_is_drawn_anew_in_each_window():
    now, later = (_seen(NOON + np.timedelta64(k, "m"), reach=3000.0, fraction=0.5) for k in (0, 10))
    assert now.sum() == later.sum() == 15  # of 29 cells
    assert not np.array_equal(now, later)


def test_errors_double_at_the_given_distance_in_the_files_and_in_their_noise():
    network = RadarSpec(site=SITE, reach=1e5, error_doubles_at=2000.0).build(LAYOUT)
    options = {"error": {"vil": 0.1}, "noise": Noise(3), "stream": "radar", "operator": CellSpec().build(LAYOUT)}
    drawn = draw_observations(torch.full((1, 9, 11), 5.0), LAYOUT, NOON, network=network, **options)
    near = RadarSpec(site=SITE, reach=1e5).build(LAYOUT)
    even = draw_observations(torch.full((1, 9, 11), 5.0), LAYOUT, NOON, network=near, **options)
    factor = torch.from_numpy(1.0 + (DISTANCE.ravel() / 2000.0) ** 2)
    torch.testing.assert_close(drawn.error, 0.1 * factor)
    torch.testing.assert_close(drawn.values - 5.0, (even.values - 5.0) * factor)
    assert factor[4 * 11 + 7] == 2.0


def test_what_is_truly_zero_has_an_error_of_its_own():
    truth = torch.zeros(1, 9, 11)
    truth[:, 2, :] = 5.0
    options = {"noise": Noise(3), "stream": "radar", "operator": CellSpec().build(LAYOUT), "error": {"vil": 0.2}}
    network = RadarSpec(site=SITE, reach=1e5).build(LAYOUT)
    drawn = draw_observations(truth, LAYOUT, NOON, network=network, error_at_zero={"vil": 0.01}, **options)
    assert drawn.error.reshape(9, 11)[2].tolist() == [0.2] * 11
    assert drawn.error.reshape(9, 11)[[0, 1, 3, 4, 5, 6, 7, 8]].unique().tolist() == [0.01]
    even = draw_observations(truth, LAYOUT, NOON, network=network, **options)
    torch.testing.assert_close(drawn.values[:22], even.values[:22] * 0.05)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"reach": 0.0}, "reach"),
        ({"reach": 1.0, "fraction": 0.0}, "fraction"),
        ({"reach": 1.0, "error_doubles_at": -1.0}, "error_doubles_at"),
        ({"reach": 1.0, "outages": (("2020-01-01T01:00Z", "2020-01-01T00:00Z"),)}, "outage"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(options, word):
    with pytest.raises(ConfigError, match=word):
        RadarSpec(site=SITE, **options)


def test_a_radar_that_sees_nothing_of_the_grid_is_refused():
    with pytest.raises(ConfigError, match="sees no cell"):
        RadarSpec(site=(1e6, 0.0), reach=1000.0).build(LAYOUT)
    line = Layout("line", LAYOUT.variables, Grid(AXES[:1]), np.timedelta64(600, "s"))
    with pytest.raises(ConfigError, match="two axes"):
        RadarSpec(site=SITE, reach=1e5).build(line)
