"""Block maximum: known answers, and that it commutes with the scale of radar codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.control import control_of
from cycler_da.errors import ConfigError
from cycler_da.obs.base import Locations
from cycler_da.obs.block_maximum import BlockMaximumSpec
from cycler_da.systems.code_scale import from_code_scale
from cycler_da.systems.sevir_grid import corner_of_centre, sevir_layout

LAYOUT = sevir_layout(128, np.timedelta64(600, "s"), corner=corner_of_centre((39.0, -97.0)), georeference="config")


def centres(factor: int) -> Locations:
    axes = [torch.from_numpy(axis.centres())[factor // 2 :: factor] for axis in LAYOUT.grid.axes]
    position = torch.cartesian_prod(*axes).to(torch.float64)
    return Locations(position, torch.zeros(len(position), dtype=torch.int64))


def test_every_block_is_seen_with_its_largest_cell():
    x = torch.rand(2, 1, 128, 128, dtype=torch.float64)
    seen = BlockMaximumSpec(factor=8).build(LAYOUT)(x, centres(8), LAYOUT)
    expected = torch.nn.functional.max_pool2d(x, 8).flatten(1)
    torch.testing.assert_close(seen, expected, rtol=0.0, atol=0.0)


def test_the_maximum_of_vil_is_the_vil_of_the_maximum_on_the_code_scale():
    v, operator = torch.rand(1, 1, 128, 128, dtype=torch.float64), BlockMaximumSpec(factor=4).build(LAYOUT)
    of_vil = operator(from_code_scale(v), centres(4), LAYOUT)
    of_code = operator(v, centres(4), control_of("sevir", LAYOUT).layout)
    torch.testing.assert_close(of_vil, from_code_scale(of_code), rtol=0.0, atol=0.0)


def test_a_factor_that_does_not_fill_the_grid_is_refused():
    with pytest.raises(ConfigError, match="does not divide"):
        BlockMaximumSpec(factor=3).build(LAYOUT)
