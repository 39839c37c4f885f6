"""The speed benchmark: both programs make the same analysis, and what it measures is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.bench import letkf_peer
from cycler_da.bench.letkf_speed import BASE, grown, peak_memory

SMALL = replace(BASE, n=12, members=6, observations=30, half_width=2.0)


@pytest.mark.skipif(not letkf_peer.is_installed(), reason="DAPPER is not installed (extra `peers`)")
def test_our_analysis_is_dapper_s():
    states = SMALL.states().to(torch.float64)
    ours = SMALL.transform(states).apply(states)
    theirs = SMALL.peer(states).prepare()(map)
    # Rounding of two eigendecompositions.
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-11)


def test_growth_multiplies_one_thing_and_keeps_the_density_of_observations_on_larger_grids():
    members, observations, grid = grown(BASE, factors=(4,))[1:]
    assert (members.members, members.observations, members.n) == (160, 400, 64)
    assert (observations.members, observations.observations, observations.n) == (40, 1600, 64)
    assert (grid.n, grid.observations / grid.n**2) == (256, 400 / 64**2)


def test_peak_memory_is_that_of_a_process_with_torch():
    assert 0.05 < peak_memory(None) < 64
