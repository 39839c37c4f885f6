"""Nodes, tiles and interpolation of analysis weights."""

from __future__ import annotations

import pytest
import torch

from cycler_da.layout import Axis
from cycler_da.schemes.ensemble.weight_grid import WeightGrid, place_nodes


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis("x", 9), [0, 4, 8]),
        (Axis("x", 10), [0, 4, 8, 9]),
        (Axis("x", 10, periodic=True), [0, 4, 8]),
        (Axis("x", 3), [0, 2]),
        (Axis("x", 1, periodic=True), [0]),
    ],
)
def test_a_plain_axis_has_a_node_on_its_last_cell(axis, expected):
    assert place_nodes(axis, stride=4).centres.tolist() == expected


GRIDS = {
    "plain_1d": (Axis("x", 17),),
    "periodic_1d": (Axis("x", 17, periodic=True),),
    "plain_2d": (Axis("y", 13, spacing=2.0, origin=4.0), Axis("x", 10, spacing=3.0)),
    "periodic_2d": (Axis("y", 12, periodic=True), Axis("x", 11, periodic=True)),
    "one_column": (Axis("y", 12, periodic=True), Axis("x", 1)),
}


def interpolate(axes, tile, weights):
    """Field of the tile's interpolated weights, row by row."""
    shape = (tile.rows.stop - tile.rows.start, *(axis.size for axis in axes[1:]))
    field = torch.zeros(torch.Size(shape).numel(), dtype=torch.float64)
    return field.index_add(0, tile.cells.flatten(), (tile.share * weights[:, None]).flatten()).view(shape)


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("n_nodes", [1, 7, 10**6])
def test_tiles_cover_every_row_once_and_carry_linear_weights_exactly(axes, stride, n_nodes):
    grid = WeightGrid(axes, stride)
    rows, fields = [], []
    for tile in grid.tiles(n_nodes):
        rows += range(tile.rows.start, tile.rows.stop)
        # A linear weight would jump at the seam of a periodic axis, so there it is constant.
        along = [torch.ones_like(p) if a.periodic else p for a, p in zip(axes, tile.points.unbind(1), strict=True)]
        fields.append(interpolate(axes, tile, sum(along)))
    assert rows == list(range(axes[0].size))
    along = [torch.ones(a.size).double() if a.periodic else torch.from_numpy(a.centres()) for a in axes]
    expected = sum(torch.meshgrid(*along, indexing="ij"))
    torch.testing.assert_close(torch.cat(fields), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS.keys())
def test_a_tile_of_every_point_has_each_cell_once(axes):
    for tile in WeightGrid(axes, 1).tiles(7):
        assert tile.cells.flatten().tolist() == list(range(len(tile.points)))
        assert bool((tile.share == 1).all())


def test_interpolation_on_a_periodic_axis_joins_the_last_node_to_the_first():
    axes = (Axis("x", 10, periodic=True),)
    (tile,) = WeightGrid(axes, 4).tiles(10**6)
    field = interpolate(axes, tile, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert field.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
