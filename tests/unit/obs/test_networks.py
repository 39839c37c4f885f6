"""Networks of sites: how many, where, and the same ones every time."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.domain import index_coordinates, inside_centres
from cycler_da.obs.networks import RandomFractionSpec, SiteNetwork, StationsSpec, StrideSpec, SwathSpec
from cycler_da.registry import registered

HOUR = np.timedelta64(3600, "s")
SPECS = {
    "random_fraction": RandomFractionSpec(fraction=0.3),
    "stride": StrideSpec(stride=2, offset=1),
    "stations": StationsSpec(count=9),
    "swath": SwathSpec(width=500.0, precession=300.0, inclination=20.0),
}


def _sites(spec, layout, time, *, seed=1, stream="net"):
    return spec.build(layout).sites(time, noise=Noise.of_cycle(seed, time), stream=stream)


def _cells(sites, layout):
    """Flat cell numbers of sites at cell centres, for each channel."""
    index = index_coordinates(sites.where.position, layout.grid)
    assert torch.equal(index, index.round())
    flat = np.ravel_multi_index(index.to(torch.int64).numpy().T, layout.grid.shape)
    return [flat[sites.where.channel.numpy() == channel].tolist() for channel in range(len(layout.variables))]


def test_every_registered_network_is_looked_at_here():
    importlib.import_module("cycler_da.obs.networks")
    assert set(SPECS) <= set(registered("network_of_sites"))


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", ["torus", "patch", "ring", "line"])
def test_sites_lie_inside_the_grid_and_are_the_same_in_every_run(kind, name, request, valid_time):
    layout, spec = request.getfixturevalue(name), SPECS[kind]
    assert isinstance(spec.build(layout), SiteNetwork)
    first, again = (_sites(spec, layout, valid_time) for _ in range(2))
    assert torch.equal(first.where.position, again.where.position)
    assert first.names.tolist() == again.names.tolist()
    assert bool(inside_centres(index_coordinates(first.where.position, layout.grid), layout.grid).all())
    assert len(first) == len(first.where.channel)


@pytest.mark.parametrize("kind", ["random_fraction", "stations"])
def test_seeds_and_streams_choose_other_sites(kind, torus, valid_time):
    places = [
        _sites(SPECS[kind], torus, valid_time, seed=seed, stream=stream).where.position.tolist()
        for seed, stream in ((1, "net"), (2, "net"), (1, "other"))
    ]
    assert places[0] != places[1] != places[2] != places[0]


def test_a_random_fraction_is_a_whole_number_of_different_cells_of_each_variable(torus, valid_time):
    q1, q2 = _cells(_sites(RandomFractionSpec(fraction=0.3), torus, valid_time), torus)
    assert len(q1) == len(q2) == 14  # 0.3 of 48 cells
    assert len(set(q1)) == 14 and q1 == sorted(q1)
    assert q1 != q2


def test_a_random_fraction_is_drawn_anew_unless_it_is_fixed(torus, valid_time):
    for spec, is_same in (
        (RandomFractionSpec(fraction=0.3), False),
        (RandomFractionSpec(fraction=0.3, is_fixed=True), True),
    ):
        today, tomorrow = (_cells(_sites(spec, torus, valid_time + i * HOUR), torus) for i in range(2))
        assert (today == tomorrow) is is_same


def test_a_random_fraction_visits_every_cell_equally_often(ring, valid_time):
    spec = RandomFractionSpec(fraction=0.25)
    seen = np.zeros(40)
    for i in range(400):
        (cells,) = _cells(_sites(spec, ring, valid_time + i * HOUR), ring)
        seen[cells] += 1
    # Binomial with n = 400 and p = 1/4: mean 100, standard deviation 8.7; 40 cells stay within 4.5 of them.
    assert seen.sum() == 4000 and np.abs(seen - 100).max() < 39


def test_the_sites_of_a_variable_do_not_depend_on_which_others_are_observed(torus, valid_time):
    both = _cells(_sites(RandomFractionSpec(fraction=0.3), torus, valid_time), torus)
    alone = _cells(_sites(RandomFractionSpec(fraction=0.3, variables=("q2",)), torus, valid_time), torus)
    assert alone == [[], both[1]]


def test_stride_takes_every_nth_cell_of_every_axis(patch, valid_time):
    (cells,) = _cells(_sites(StrideSpec(stride=3, offset=1), patch, valid_time), patch)
    assert cells == [7 * row + column for row in (1, 4) for column in (1, 4)]


def test_cells_are_named_after_their_indices(patch, valid_time):
    names = _sites(StrideSpec(stride=3, offset=1), patch, valid_time).names
    assert names.tolist() == ["y0001x0001", "y0001x0004", "y0004x0001", "y0004x0004"]


def test_stations_never_move_and_measure_all_variables(torus, valid_time):
    spec = StationsSpec(count=9)
    today, later = _sites(spec, torus, valid_time), _sites(spec, torus, valid_time + 1000 * HOUR)
    assert torch.equal(today.where.position, later.where.position)
    assert torch.equal(today.where.position[:9], today.where.position[9:])
    assert today.where.channel.tolist() == [0] * 9 + [1] * 9
    assert today.names.tolist() == 2 * [f"net-{i:05d}" for i in range(9)]
    index = index_coordinates(today.where.position, torus.grid)
    assert bool((index != index.round()).all())  # between the cells


def test_more_stations_leave_the_others_where_they_were(torus, valid_time):
    few, many = (_sites(StationsSpec(count=n, variables=("q1",)), torus, valid_time) for n in (5, 50))
    assert torch.equal(few.where.position, many.where.position[:5])


def test_a_swath_covers_its_share_of_the_grid_and_all_of_it_in_turn(valid_time, torus):
    # Straight along y: the band is 500 m of 2000 m wide and moves by 250 m in each window.
    network = SwathSpec(width=500.0, precession=250.0, inclination=0.0).build(torus)
    covered = [network.covers(valid_time + i * HOUR, noise=Noise(1), stream="sat") for i in range(8)]
    for band in covered:
        assert band.all(axis=0).sum() == 2 and band.any(axis=0).sum() == 2  # whole columns, 2 of 8
    assert (np.sum(covered, axis=0) == 2).all()
    for now, later in itertools.pairwise(covered):
        np.testing.assert_array_equal(later, np.roll(now, 1, axis=1))


def test_an_inclined_swath_is_a_straight_band_of_its_width(valid_time):
    layout = Layout("l", (Variable("v", "1", "v"),), Grid((Axis("y", 60), Axis("x", 80))), HOUR)
    network = SwathSpec(width=9.0, precession=5.0, inclination=30.0, track_distance=40.0).build(layout)
    band = network.covers(valid_time, noise=Noise(3), stream="sat")
    y, x = np.nonzero(band)
    across = (x * np.cos(np.pi / 6) + y * np.sin(np.pi / 6)) % 40.0
    angle = across / 40.0 * 2 * np.pi  # on the circle of tracks: all within 9 of 40, wherever the seam lies
    centre = np.angle(np.exp(1j * angle).mean())
    offset = np.abs(np.angle(np.exp(1j * (angle - centre)))) / (2 * np.pi) * 40.0
    assert offset.max() < 4.6
    assert band.mean() == pytest.approx(9.0 / 40.0, abs=0.02)


def test_a_swath_may_be_seen_in_part_only(torus, valid_time):
    whole, half = (
        _cells(_sites(SwathSpec(width=700.0, precession=0.0, fraction=part), torus, valid_time), torus)
        for part in (1.0, 0.5)
    )
    for all_cells, some in zip(whole, half, strict=True):
        assert set(some) < set(all_cells) and len(some) == int(0.5 * len(all_cells) + 0.5)


def test_a_swath_on_a_line_is_a_moving_interval(ring, valid_time):
    network = SwathSpec(width=5.0, precession=3.0, inclination=45.0).build(ring)
    now, later = (network.covers(valid_time + i * HOUR, noise=Noise(1), stream="sat") for i in range(2))
    assert now.sum() == 5
    np.testing.assert_array_equal(later, np.roll(now, 3))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandomFractionSpec(fraction=0.0), "fraction 0"),
        (lambda: RandomFractionSpec(fraction=1.5), "fraction 1.5"),
        (lambda: StrideSpec(stride=0), "stride 0"),
        (lambda: StrideSpec(stride=2, offset=2), "offset 2"),
        (lambda: StationsSpec(count=0), "count 0"),
        (lambda: SwathSpec(width=0.0, precession=1.0), "width 0"),
        (lambda: SwathSpec(width=1.0, precession=1.0, track_distance=0.0), "track_distance 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, text):
    with pytest.raises(ConfigError, match=text):
        make()


def test_unknown_variables_are_refused_with_the_valid_names(torus):
    with pytest.raises(ConfigError, match="unknown variable q3; valid: q1, q2"):
        StationsSpec(count=3, variables=("q3",)).build(torus)
