"""Gaspari-Cohn taper and the neighbour search against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.layout import Axis
from cycler_da.schemes.ensemble.localization import gaspari_cohn, grid_distance, sort_into_cells
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.sevir_grid import EARTH_RADIUS, corner_of_centre, degrees_of, sevir_layout

C = 3.0


@pytest.mark.parametrize(
    ("distance", "expected"),
    # Exact rationals of the published polynomials; 16.5/1024*... at 1.5 c: (1/2)^4 (2*2.25+6-1)/36 = 19/1152.
    [(0.0, 1.0), (C / 2, 263 / 384), (C, 5 / 24), (1.5 * C, 19 / 1152), (2 * C, 0.0), (2.5 * C, 0.0), (100 * C, 0.0)],
)
def test_gaspari_cohn_has_its_exact_values(distance, expected):
    taper = gaspari_cohn(torch.tensor([distance], dtype=torch.float64), C)
    assert taper.item() == pytest.approx(expected, abs=1e-15)


def test_gaspari_cohn_far_branch_is_the_published_polynomial():
    q = torch.linspace(1.0, 1.9, 50, dtype=torch.float64)
    published = 4 - 5 * q + 5 / 3 * q**2 + 5 / 8 * q**3 - q**4 / 2 + q**5 / 12 - 2 / (3 * q)
    torch.testing.assert_close(gaspari_cohn(q * C, C), published, rtol=0, atol=1e-14)


@pytest.mark.parametrize("at", [C, 2 * C])
def test_gaspari_cohn_is_continuous_with_its_slope(at):
    step = 1e-4
    x = torch.tensor([at - 2 * step, at - step, at + step, at + 2 * step], dtype=torch.float64)
    rho = gaspari_cohn(x, C)
    left, right = (rho[1] - rho[0]) / step, (rho[3] - rho[2]) / step
    assert abs(rho[2] - rho[1]) < 1e-4  # |slope| < 0.6 / c over 2e-4
    assert abs(right - left) < 5e-4  # second derivative times the distance of the two slopes


def test_gaspari_cohn_falls_monotonically_and_is_never_negative():
    rho = gaspari_cohn(torch.linspace(0, 2.2 * C, 5000, dtype=torch.float64), C)
    assert bool((rho.diff() <= 0).all())
    assert rho.min().item() == 0.0


def test_distance_goes_the_short_way_round_periodic_axes_only():
    axes = (Axis("y", 10, spacing=2.0, periodic=True), Axis("x", 10, spacing=2.0))
    a = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([[18.0, 17.0]], dtype=torch.float64)
    assert grid_distance(a, b, axes=axes).item() == pytest.approx((3.0**2 + 16.0**2) ** 0.5)


AXES = {
    "plain_2d": (Axis("y", 40, spacing=3000.0), Axis("x", 30, spacing=3000.0)),
    "periodic_2d": (Axis("y", 32, spacing=15625.0, periodic=True), Axis("x", 48, spacing=15625.0, periodic=True)),
    "mixed_with_origin": (
        Axis("y", 25, spacing=2.0, origin=-7.0),
        Axis("x", 33, spacing=2.0, origin=5.0, periodic=True),
    ),
    "periodic_1d": (Axis("x", 40, periodic=True),),
}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES.keys())
@pytest.mark.parametrize("cells", [0.3, 1.0, 3.5, 9.0, 60.0])
def test_neighbour_search_finds_what_a_dense_distance_matrix_finds(axes, cells):
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([axis.length for axis in axes], dtype=torch.float64)
    origins = torch.tensor([axis.origin for axis in axes], dtype=torch.float64)
    draw = [torch.rand((n, len(axes)), generator=generator, dtype=torch.float64) for n in (150, 60)]
    # Observations may lie a little outside a plain axis.
    observed, points = origins + lengths * (1.2 * draw[0] - 0.1), origins + lengths * draw[1]
    half_width = cells * axes[0].spacing
    near = sort_into_cells(observed, axes=axes, half_width=half_width).near(points)
    found = torch.zeros((60, 150), dtype=torch.float64).scatter_add_(1, near.index, near.taper)
    dense = gaspari_cohn(grid_distance(points[:, None, :], observed[None, :, :], axes=axes), half_width)
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-15)


def test_neighbour_search_without_observations_finds_none():
    axes = AXES["plain_2d"]
    empty = torch.zeros((0, 2), dtype=torch.float64)
    near = sort_into_cells(empty, axes=axes, half_width=6000.0).near(torch.zeros((4, 2), dtype=torch.float64))
    assert near.index.shape == (4, 0)


def test_distances_on_the_radar_map_are_those_on_the_earth_within_two_percent():
    corner = corner_of_centre((29.0, -82.0))  # Florida, among the places farthest from the centre of the map
    axes = sevir_layout(128, np.timedelta64(300, "s"), corner=corner, georeference="config").grid.axes
    y, x = (torch.from_numpy(axis.centres()) for axis in axes)
    places = torch.cartesian_prod(y[::30], x[::30])
    on_map = grid_distance(places[:, None], places[None], axes=axes).numpy()
    latitude, longitude = np.radians(degrees_of(places[:, 0].numpy(), places[:, 1].numpy()))
    cosine = np.sin(latitude[:, None]) * np.sin(latitude) + np.cos(latitude[:, None]) * np.cos(latitude) * np.cos(
        longitude[:, None] - longitude
    )
    on_earth = EARTH_RADIUS * np.arccos(cosine.clip(-1, 1))
    apart = on_earth > 1000.0
    # At an angle c from the centre the map's scale is cos(c / 2) along and 1 / cos(c / 2) across; c = 17 degrees.
    ratio = on_map[apart] / on_earth[apart]
    assert 0.98 < ratio.min() < 0.995 and 1.005 < ratio.max() < 1.02


def test_a_radius_in_km_is_kilometres_of_the_radar_map():
    corner = corner_of_centre((38.0, -98.0))
    layout = sevir_layout(128, np.timedelta64(300, "s"), corner=corner, georeference="config")
    assert LetkfSpec(localization_radius_km=24.0).radius(layout) == 24000.0 == 8 * layout.grid.axes[0].spacing
    origin = torch.tensor([[axis.origin for axis in layout.grid.axes]], dtype=torch.float64)
    east = origin + torch.tensor([[0.0, 24000.0]], dtype=torch.float64)
    near = sort_into_cells(east, axes=layout.grid.axes, half_width=24000.0).near(origin)
    assert near.taper.item() == pytest.approx(5 / 24, abs=1e-12)
