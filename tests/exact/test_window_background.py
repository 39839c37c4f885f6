"""The background of a window by waves: its covariance, what it leaves, and what it tells of each wave."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.shells import Shells
from cycler_da.schemes.window.background import background_form, spectrum_of, wave_background
from cycler_da.schemes.window.measurement import WindowMeasurement
from cycler_da.schemes.window.options import LEAST_STD

SIZE, SHAPE = 16, (2, 3, 16, 16)
STATES, CELLS = 2, 256


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filters():
    """Symmetric matrices of shells, falling with the wave number."""
    fall = 1.0 / (1.0 + torch.arange(Shells(SIZE).count, dtype=torch.float64))
    return fall[:, None, None] * torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)


def test_the_covariance_of_many_members_is_that_of_their_law():
    states = 1.5 + Shells(SIZE).apply(filters(), numbers(4000, STATES, SIZE, SIZE))
    exact = filters() @ filters().mT
    cell = torch.diag(states.var(dim=0).mean(dim=(-2, -1)))
    # 1 % of the variance of a cell is added, and 4000 members of one wave and more are known to some per cent.
    torch.testing.assert_close(spectrum_of(states), exact + 0.01 * cell, rtol=0.1, atol=2e-3)


def test_noise_from_cell_to_cell_has_its_variance_in_every_shell():
    found = spectrum_of(0.3 * numbers(500, STATES, SIZE, SIZE))
    torch.testing.assert_close(found, 1.01 * 0.09 * torch.eye(STATES).double().expand_as(found), rtol=0, atol=0.015)


@pytest.mark.parametrize("n_members", [2, 3])
def test_few_members_have_a_covariance_that_can_be_inverted(n_members):
    values = torch.linalg.eigvalsh(spectrum_of(numbers(n_members, STATES, SIZE, SIZE)))
    assert float(values.min()) > 5e-3 and float(values.max()) < 10.0
    collapsed = spectrum_of(torch.ones(n_members, STATES, SIZE, SIZE).double())
    assert float(torch.linalg.eigvalsh(collapsed).min()) >= 0.01 * LEAST_STD**2


def climate(factor):
    """C of every wave, this times a spectrum that falls as the members' does; layers are shifted by an odd angle."""
    fall = Shells(SIZE).of_each_wave(filters() @ filters().mT).diagonal(dim1=2, dim2=3).mean(dim=-1)
    turn = 0.4j * torch.sin(2 * torch.pi * torch.arange(SIZE, dtype=torch.float64) / SIZE)
    found = torch.eye(STATES, dtype=torch.complex128).expand(*fall.shape, -1, -1).clone()
    found[..., 0, 1], found[..., 1, 0] = turn[:, None], -turn[:, None]
    return factor * (fall + 0.05)[..., None, None] * found


def members(n=12):
    return Shells(SIZE).apply(filters(), numbers(n, STATES, SIZE, SIZE))


def test_with_the_climate_it_is_the_law_of_the_ensemble():
    """Precisions of climate and background add up to that of the members, and so does what they say of the mean."""
    states, known = members(), climate(20.0)
    part = wave_background(states, known, SHAPE)
    exact = torch.linalg.inv(Shells(SIZE).of_each_wave(spectrum_of(states)).to(torch.complex128))
    total = torch.linalg.inv(known) + part.of_waves()
    torch.testing.assert_close(total, exact, rtol=1e-9, atol=1e-9)
    xbar, w = (torch.fft.rfft2(x) for x in (states.mean(dim=0), part.mean))
    told = torch.einsum("ykij,jyk->iyk", part.of_waves(), w)
    torch.testing.assert_close(told, torch.einsum("ykij,jyk->iyk", exact, xbar), rtol=1e-8, atol=1e-6)


def test_an_ensemble_as_wide_as_the_climate_says_nothing():
    part = wave_background(members(), climate(0.02), SHAPE)
    assert float(part.root.abs().max()) == 0.0 and float(part.values.abs().max()) == 0.0


def test_waves_that_the_climate_does_not_have_are_left_alone():
    known = climate(20.0)
    known[SIZE // 2] = 0.0
    part = wave_background(members(), known, SHAPE)
    assert bool(part.values.isfinite().all()) and float(part.root[SIZE // 2].abs().max()) == 0.0
    assert float(part.root[1].abs().max()) > 0.1


def test_its_slope_is_its_own_transpose():
    part = wave_background(members(), climate(20.0), SHAPE)
    v, w = numbers(3, *SHAPE, seed=2), numbers(3, STATES * CELLS, seed=3)
    slope = part.slope(v)
    torch.testing.assert_close((slope.forward(v) * w).sum(1), (v * slope.transpose(w)).flatten(1).sum(1))
    torch.testing.assert_close(part.hx(v), slope.forward(v), rtol=0, atol=0)


def test_what_it_tells_of_waves_is_exact():
    part = wave_background(members(), climate(20.0), SHAPE)
    measurement, v = WindowMeasurement((part,)), numbers(2, *SHAPE, seed=4)
    assert measurement.is_of_whole_frames
    slope = measurement.slope(v)
    torch.testing.assert_close(
        measurement.information(v).times(v), slope.transpose(slope.forward(v)), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(
    ("options", "grid", "expected"),
    [
        ((None, None), (8, 8), "waves"),
        ((None, None), (8, 4), "cells"),
        (("cells", None), (8, 8), "cells"),
        ((None, 0.1), (8, 8), "cells"),
        (("none", None), (8, 4), "none"),
    ],
)
def test_waves_are_taken_where_nothing_speaks_against_them(options, grid, expected):
    assert background_form(*options, grid, likelihood="known_covariance", scheme="sda") == expected
    other = background_form(*options, grid, likelihood="sda", scheme="sda")
    assert other == ("none" if expected == "none" else "cells")
