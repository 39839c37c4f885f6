"""Nodes, blocks and interpolation of analysis weights."""

from __future__ import annotations

import pytest
import torch

from cycler_da.layout import Axis
from cycler_da.schemes.weight_grid import WeightGrid, place_nodes


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
    assert place_nodes(axis, stride=4).cells[:, 0].tolist() == expected


GRIDS = {
    "plain_1d": (Axis("x", 17),),
    "periodic_1d": (Axis("x", 17, periodic=True),),
    "plain_2d": (Axis("y", 13, spacing=2.0, origin=4.0), Axis("x", 10, spacing=3.0)),
    "periodic_2d": (Axis("y", 12, periodic=True), Axis("x", 11, periodic=True)),
    "one_column": (Axis("y", 12, periodic=True), Axis("x", 1)),
}


def interpolate(grid, band, weights):
    """Field of the band's interpolated weights, by way of the blocks."""
    shape = [nodes.cells.shape for nodes in band.along]
    blocks = torch.zeros(
        (len(next(iter(band.corners())).node), 1, 1, shape[0][1] * (shape[-1][1] if len(shape) > 1 else 1))
    )
    total = blocks.to(torch.float64)
    for corner in band.corners():
        total += (weights[corner.node][:, None] * corner.share)[:, None, None, :]
    return band.scatter(total, n_channels=1)[0, 0, 0]


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("tile", [1, 7, 10**6])
def test_bands_cover_every_row_once_and_carry_linear_weights_exactly(axes, stride, tile):
    grid = WeightGrid(axes, stride)
    rows, fields = [], []
    for band in grid.bands(tile):
        rows += range(band.rows.start, band.rows.stop)
        # A linear weight would jump at the seam of a periodic axis, so there it is constant.
        along = [torch.ones_like(p) if a.periodic else p for a, p in zip(axes, band.points.unbind(1), strict=True)]
        fields.append(interpolate(grid, band, sum(along)))
    assert rows == list(range(axes[0].size))
    along = [torch.ones(a.size).double() if a.periodic else torch.from_numpy(a.centres()) for a in axes]
    expected = sum(torch.meshgrid(*along, indexing="ij"))
    torch.testing.assert_close(torch.cat(fields), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("tile", [1, 7, 10**6])
def test_scatter_undoes_gather(axes, stride, tile):
    space = [axis.size for axis in axes]
    field = torch.randn((3, 2, 4, *space), generator=torch.Generator().manual_seed(0))
    parts = [band.scatter(band.gather(field), n_channels=4) for band in WeightGrid(axes, stride).bands(tile)]
    assert torch.equal(torch.cat(parts, dim=3), field)


def test_interpolation_on_a_periodic_axis_joins_the_last_node_to_the_first():
    grid = WeightGrid((Axis("x", 10, periodic=True),), 4)
    (band,) = grid.bands(10**6)
    field = interpolate(grid, band, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert field.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
