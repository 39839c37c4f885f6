"""Benchmark of driven turbulence: its observations, its composed mean, and the published numbers beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.turbulence import navier_stokes as bench
from cycler_da.bench.turbulence.navier_stokes_case import ComposedMean, observe

TIME = np.datetime64("2020-01-01T00:30:00", "s")


@pytest.mark.parametrize(("setting", "count"), [("SR 4x", 256), ("SR 16x", 16), ("SO 5 %", 205), ("SO 0.75 %", 31)])
def test_every_setting_has_as_many_observations_as_the_paper_has_per_point(setting, count):
    truth = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(1))
    seen = observe(setting, truth, index=0, time=TIME)
    departures = (seen.values - seen.hx(truth[None].double())[0]) / (bench.ERROR * bench.STD)
    assert len(seen) == count
    assert float(departures.square().mean().sqrt()) == pytest.approx(1.0, abs=3 / (2 * count) ** 0.5)


def test_sites_of_a_setting_are_fixed_and_errors_are_not():
    truth = torch.zeros(1, 64, 64)
    first, second = (observe("SO 1 %", truth, index=index, time=TIME) for index in (0, 1))
    assert torch.equal(first.positions, second.positions)
    assert not torch.equal(first.values, second.values)


def test_the_composed_mean_is_the_network_applied_again_and_again():
    class Decay(torch.nn.Module):
        def forward(self, x):
            return -0.1 * x

    x = torch.ones(2, 1, 4, 4)
    torch.testing.assert_close(x + ComposedMean(Decay(), 5)(x), 0.9**5 * x)


def test_published_numbers_stand_in_rows_of_their_own():
    rows = bench.published_rows("SO 1.5625 %")
    assert [(row.method, row.value) for row in rows] == [("FlowDAS, authors' reply (published)", 0.123)]
    assert len(bench.published_rows("SR 4x")) == 2
