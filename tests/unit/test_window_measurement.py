"""Parts of a measurement of a window: points at cells are what the operators say, several windows are rows of one."""

from __future__ import annotations

import torch

from cycler_da.bench.turbulence.soad_settings_cases import ERROR, LAYOUT, STD, Case, observe, scaled_to_physical
from cycler_da.generative.diffusion.information import WaveInformation
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise
from cycler_da.schemes.window.cells import CurvePart
from cycler_da.schemes.window.measurement import (
    WindowMeasurement,
    state_parts,
    together,
)
from cycler_da.schemes.window.state_part import StatePart, state_part

SCALING, SHAPE = Scaling((0.0, 0.0), STD), (3, *LAYOUT.state_shape)
CASE = Case("II", ("arctan", "sine"), 0.01, 1)


def states(seed: int) -> torch.Tensor:
    z = torch.randn(9, *LAYOUT.state_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scaled_to_physical(z)


def window(seed: int) -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_curves_at_cells_are_their_operators():
    seen, z, v = observe(CASE, states(0), Noise(1))[1], window(1), window(2)
    fast, slow = WindowMeasurement(state_parts(1, seen, SCALING, SHAPE)), state_part(1, seen, SCALING, SHAPE)
    assert all(isinstance(part, CurvePart) for part in fast.parts) and len(fast.parts) == 4
    torch.testing.assert_close(fast.hx(z), slow.hx(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.values, slow.values, rtol=0, atol=0)
    torch.testing.assert_close(fast.error_variance, torch.full_like(fast.error_variance, ERROR**2))
    ours, theirs = fast.slope(z), slow.slope(z)
    torch.testing.assert_close(ours.forward(v), theirs.forward(v), rtol=0, atol=1e-10)
    w = torch.randn(2, len(fast), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(ours.transpose(w), theirs.transpose(w), rtol=0, atol=1e-10)


def test_windows_seen_at_the_same_places_are_rows_of_one_measurement():
    seen = [observe(CASE, states(i), Noise(1, i))[1] for i in range(2)]
    batch = WindowMeasurement(together([state_parts(1, some, SCALING, SHAPE) for some in seen]))
    for row, some in enumerate(seen):
        alone = WindowMeasurement(state_parts(1, some, SCALING, SHAPE))
        torch.testing.assert_close(batch.values[row], alone.values, rtol=0, atol=0)
    linear = together([[state_part(1, some, SCALING, SHAPE)] for some in seen])
    assert isinstance(linear[0], StatePart)
    torch.testing.assert_close(linear[0].values[1], seen[1].values, rtol=1e-12, atol=0)


def test_what_velocities_tell_of_waves_is_exact_where_they_are_seen_in_every_cell():
    seen = observe(Case("III", ("velocity",), 1.0, 1), states(0), Noise(1))[1]
    whole, v = WindowMeasurement(state_parts(1, seen, SCALING, SHAPE)), window(2)
    slope = whole.slope(v)
    expected = slope.transpose(slope.forward(v) / whole.error_variance)
    information = whole.information(v)
    assert isinstance(information, WaveInformation) and not bool(information.density.any())
    torch.testing.assert_close(information.times(v), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_points_and_velocities_together_tell_of_cells_and_of_waves():
    sensors = [Case("III", names, 0.25, 1) for names in (("arctan",), ("velocity",), ("arctan", "velocity"))]
    found = [
        WindowMeasurement(state_parts(1, observe(case, states(0), Noise(1))[1], SCALING, SHAPE)).information(window(2))
        for case in sensors
    ]
    v = window(3)
    torch.testing.assert_close(found[2].times(v), found[0].times(v) + found[1].times(v), rtol=1e-10, atol=1e-9)
