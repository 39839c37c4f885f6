"""The withheld part is the right share of everything: streams, variables, regions, single observations."""

from __future__ import annotations

import numpy as np
import pytest

from cycler_da.layout import Axis, Grid
from cycler_da.noise import Noise
from cycler_da.obs.withholding import regions, systematic_part

GRID = Grid((Axis("y", 64), Axis("x", 64)))


def _part(index: np.ndarray, cycle: int, fraction: float = 0.05) -> np.ndarray:
    generator = Noise(3, cycle).generator("test")
    rounding, start = generator.random(2)
    return systematic_part(
        regions(index, GRID), draw=generator.random(len(index)), fraction=fraction, rounding=rounding, start=start
    )


def test_there_are_four_regions_along_every_axis_and_neighbours_in_number_are_near():
    cells = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij"), axis=-1).reshape(-1, 2)
    region = regions(cells.astype(float), GRID)
    assert np.bincount(region).tolist() == [256] * 16
    centre = np.array([cells[region == number].mean(axis=0) for number in range(16)])
    # A curve through 16 blocks of 16 cells: within each group of four it never leaves a square of 2 x 2 blocks.
    for first in range(0, 16, 4):
        assert np.ptp(centre[first : first + 4], axis=0).tolist() == [16.0, 16.0]


def test_the_number_is_the_fraction_to_within_one_and_on_average():
    index = np.random.default_rng(0).uniform(0, 63, (47, 2))
    counts = [_part(index, cycle).sum() for cycle in range(400)]
    assert set(counts) == {2, 3}
    # 0.05 * 47 = 2.35; the standard error of 400 draws of 2 or 3 is 0.024.
    assert np.mean(counts) == pytest.approx(2.35, abs=0.08)


def test_every_region_gives_its_share_to_within_one():
    generator = np.random.default_rng(1)
    index = np.concatenate([generator.uniform(0, 15, (300, 2)), generator.uniform(0, 63, (300, 2))])  # a dense corner
    region = regions(index, GRID)
    for cycle in range(50):
        part = _part(index, cycle, fraction=0.1)
        share = np.bincount(region, minlength=16) * part.sum() / len(index)
        assert np.abs(np.bincount(region[part], minlength=16) - share).max() < 1.0


def test_every_observation_is_withheld_as_often_as_the_next():
    index = np.random.default_rng(2).uniform(0, 63, (60, 2))
    times = np.sum([_part(index, cycle, fraction=0.2) for cycle in range(1500)], axis=0)
    # Binomial(1500, 0.2) has the standard deviation 15.5; the largest of 60 stays within 4.
    assert np.abs(times - 300).max() < 62


def test_the_only_observation_is_never_withheld_and_two_never_both():
    for cycle in range(60):
        assert not _part(np.array([[5.0, 5.0]]), cycle, fraction=0.9).any()
        assert _part(np.array([[5.0, 5.0], [50.0, 5.0]]), cycle, fraction=0.99).sum() == 1
        assert not _part(np.zeros((0, 2)), cycle).any()


def test_a_system_without_axes_has_one_region():
    assert regions(np.zeros((3, 0)), Grid(())).tolist() == [0, 0, 0]
