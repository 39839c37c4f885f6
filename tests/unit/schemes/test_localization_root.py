"""The root of the localization: rho = L L^T is the Gaspari-Cohn taper between cells, on every kind of grid."""

from __future__ import annotations

import pytest
import torch

from cycler_da.layout import Axis, Grid
from cycler_da.schemes.ensemble.localization import gaspari_cohn, grid_distance
from cycler_da.schemes.ensemble.localization_root import NoLocalization, localization_root

GRIDS = {
    "ring": Grid((Axis("x", 20, 2.0, periodic=True),)),
    "line": Grid((Axis("x", 20, 2.0),)),
    "torus": Grid((Axis("y", 12, 2.0, periodic=True), Axis("x", 16, 2.0, periodic=True))),
    "rectangle": Grid((Axis("y", 7, 2.0), Axis("x", 9, 2.0))),
    "channel": Grid((Axis("y", 7, 2.0), Axis("x", 16, 2.0, periodic=True))),
}


def cells(grid: Grid) -> torch.Tensor:
    along = torch.meshgrid(*[torch.from_numpy(axis.centres()) for axis in grid.axes], indexing="ij")
    return torch.stack([part.flatten() for part in along], dim=1)


def matrix_of(function, n_rows: int, shape: tuple[int, ...]) -> torch.Tensor:
    return function(torch.eye(n_rows, dtype=torch.float64).view(n_rows, *shape)).flatten(1)


@pytest.mark.parametrize("name", GRIDS)
def test_rho_is_the_taper_between_cells_and_its_root_gives_it_back(name):
    grid, radius = GRIDS[name], 5.0  # reaches 10: less than half of every periodic axis
    root = localization_root(grid, radius)
    where = cells(grid)
    expected = gaspari_cohn(grid_distance(where[:, None], where[None], axes=grid.axes), radius)
    rho = matrix_of(root.apply, len(where), grid.shape)
    torch.testing.assert_close(rho, expected, rtol=0, atol=1e-12)
    l_transposed = matrix_of(root.gather, len(where), grid.shape)  # row i is L^T e_i
    torch.testing.assert_close(l_transposed @ l_transposed.T, expected, rtol=0, atol=1e-12)
    n_noise = l_transposed.shape[1]
    spread = matrix_of(root.spread, n_noise, root.torus)  # row j is L e_j
    torch.testing.assert_close(spread, l_transposed.T, rtol=0, atol=1e-12)


def test_images_around_a_short_ring_are_summed_and_the_taper_stays_a_correlation():
    grid = GRIDS["ring"]
    rho = matrix_of(localization_root(grid, 15.0).apply, 20, grid.shape)
    # The taper reaches 30 on a ring of 40: distances d and 40 - d are summed; at 0 there is no image within 30.
    distance = torch.minimum(torch.arange(20.0).double(), 20 - torch.arange(20.0).double()) * 2
    expected = gaspari_cohn(distance, 15.0) + gaspari_cohn(40 - distance, 15.0) * (distance > 0)
    torch.testing.assert_close(rho[0], expected, rtol=0, atol=1e-12)
    assert float(torch.linalg.eigvalsh(rho).min()) > -1e-12


@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
def test_without_localization_one_number_weighs_the_whole_grid(shape):
    root = NoLocalization(shape)
    v = torch.arange(2.0 * max(1, torch.Size(shape).numel())).double().view(2, *shape)
    total = v.reshape(2, -1).sum(dim=1).view(2, *(1 for _ in shape))
    torch.testing.assert_close(root.apply(v), total.expand(2, *shape))
    assert root.gather(v).shape == (2, *root.torus)
