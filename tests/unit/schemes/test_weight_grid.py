"""Nodes, bands and interpolation of analysis weights."""

from __future__ import annotations

import pytest
import torch

from cycler_da.layout import Axis
from cycler_da.schemes.weight_grid import WeightGrid, place_nodes


def test_a_plain_axis_has_a_node_on_its_last_cell():
    assert place_nodes(Axis("x", 9), stride=4).cells.tolist() == [0, 4, 8]
    assert place_nodes(Axis("x", 10), stride=4).cells.tolist() == [0, 4, 8, 9]
    assert place_nodes(Axis("x", 10, periodic=True), stride=4).cells.tolist() == [0, 4, 8]


def grids():
    plain = (Axis("y", 13, spacing=2.0, origin=4.0), Axis("x", 10, spacing=3.0))
    periodic = (Axis("y", 12, periodic=True), Axis("x", 11, periodic=True))
    return [(Axis("x", 17),), (Axis("x", 17, periodic=True),), plain, periodic]


@pytest.mark.parametrize("axes", grids())
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("tile", [1, 40, 10**6])
def test_bands_cover_every_row_once_and_carry_linear_weights_exactly(axes, stride, tile):
    grid = WeightGrid(axes, stride)
    rows, fields = [], []
    for band in grid.bands(tile):
        rows += range(band.rows.start, band.rows.stop)
        # 1 along a plain axis; on a periodic axis a linear weight would jump at the seam, so the weight
        # is constant there.
        weights = sum(
            (points if not axis.periodic else torch.full_like(points, 2.0))
            for axis, points in zip(axes, grid.points(band).unbind(1), strict=True)
        )
        fields.append(grid.interpolate(weights[:, None], band)[:, 0])
    assert rows == list(range(axes[0].size))
    along = [torch.from_numpy(a.centres()) if not a.periodic else torch.full((a.size,), 2.0).double() for a in axes]
    expected = sum(torch.meshgrid(*along, indexing="ij")).flatten()
    torch.testing.assert_close(torch.cat(fields), expected, rtol=0, atol=1e-12)


def test_interpolation_on_a_periodic_axis_joins_the_last_node_to_the_first():
    grid = WeightGrid((Axis("x", 10, periodic=True),), 4)
    (band,) = grid.bands(10**6)
    weights = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    field = grid.interpolate(weights, band)[:, 0]
    assert field.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
