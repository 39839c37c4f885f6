"""Parts of a measurement of a window: points at cells are what the operators say, several windows are rows of one."""

from __future__ import annotations

import torch

from cycler_da.bench.turbulence.soad_settings_cases import ERROR, LAYOUT, STD, Case, observe, scaled_to_physical
from cycler_da.generative.diffusion.information import WaveInformation
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise
from cycler_da.schemes.window.augmented import replace_entries
from cycler_da.schemes.window.cells import CurvePart
from cycler_da.schemes.window.measurement import (
    WindowMeasurement,
    entry_part,
    frame_part,
    merged,
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


def one_cell(value: float, error: float, *cells: int):
    """A stream that says the same of some cells of the second variable in the second frame."""
    values = torch.full((len(cells),), value, dtype=torch.float64)
    return entry_part(1, 1, torch.tensor(cells), values, torch.full_like(values, error**2), SHAPE)


def test_streams_that_see_the_same_cell_are_averaged_by_their_precision():
    (both,) = merged([one_cell(1.0, 0.1, 5, 7), one_cell(2.0, 0.2, 7)])
    place = int(torch.tensor(SHAPE[-2:]).prod()) * (1 * SHAPE[1] + 1)  # of the first cell of that frame and variable
    assert both.cells.places.tolist() == [place + 5, place + 7]
    torch.testing.assert_close(both.values, torch.tensor([1.0, (100.0 + 2.0 * 25.0) / 125.0], dtype=torch.float64))
    torch.testing.assert_close(both.error_variance, torch.tensor([0.01, 1.0 / 125.0], dtype=torch.float64))


def test_streams_that_see_different_cells_stay_as_they_are():
    one, other = one_cell(1.0, 0.1, 5), one_cell(2.0, 0.2, 7)
    assert all(found is given for found, given in zip(merged([one, other]), (one, other), strict=True))


def test_averaging_streams_does_not_change_the_gradient_of_their_likelihood():
    parts, z = (one_cell(1.0, 0.1, 5, 7), one_cell(2.0, 0.2, 7)), window(3)

    def gradient(found):
        whole = WindowMeasurement(tuple(found))
        return whole.slope(z).transpose((whole.values - whole.hx(z)) / whole.error_variance)

    torch.testing.assert_close(gradient(merged(parts)), gradient(parts), rtol=0, atol=1e-12)


def test_a_cell_that_two_streams_see_is_replaced_by_what_both_say_whichever_comes_first():
    streams = [one_cell(1.0, 0.1, 5, 7), one_cell(2.0, 0.2, 7)]
    for order in (streams, streams[::-1]):
        replaced = replace_entries(order, SHAPE, COSINE, MemberNoise(Noise(1), (0,), "soad"))
        assert replaced.seen[1, 1].flatten().nonzero()[:, 0].tolist() == [5, 7] and int(replaced.seen.sum()) == 2
        values, variance = (x[1, 1].flatten()[[5, 7]] for x in (replaced.values, replaced.variance))
        torch.testing.assert_close(values, torch.tensor([1.0, 1.2], dtype=torch.float64), rtol=1e-14, atol=0)
        torch.testing.assert_close(variance, torch.tensor([0.01, 0.008], dtype=torch.float64), rtol=1e-14, atol=0)


def test_a_background_of_each_row_is_averaged_with_what_is_observed_in_its_frame():
    rows = torch.zeros(2, *SHAPE[1:], dtype=torch.float64)
    rows[1] = 3.0
    (whole,) = merged(
        [*frame_part(1, rows, torch.tensor([1.0, 1.0], dtype=torch.float64), SHAPE), one_cell(1.0, 0.5, 7)]
    )
    cell = int(torch.tensor(SHAPE[-2:]).prod()) + 7
    assert whole.values.shape == (2, 2 * rows[0, 0].numel())
    torch.testing.assert_close(whole.values[:, cell], torch.tensor([4.0 / 5.0, 7.0 / 5.0], dtype=torch.float64))
    torch.testing.assert_close(whole.values[:, cell + 1], torch.tensor([0.0, 3.0], dtype=torch.float64))
