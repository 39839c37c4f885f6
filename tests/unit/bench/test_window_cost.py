"""What the benchmark of the cost of windows measures."""

from __future__ import annotations

import sys

import pytest
import torch

from cycler_da.bench.memory import added_at_peak
from cycler_da.bench.turbulence.soad_settings_cases import LAYOUT, TIMES, scaled_to_physical
from cycler_da.bench.turbulence.window_cost import FULL, problem, schemes
from cycler_da.schemes.base import SchemeContext


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from /proc")
def test_memory_that_is_freed_again_counts_at_its_peak():
    added = added_at_peak(lambda: torch.ones(64, 1024, 256).sum())  # 64 MiB
    assert 60.0 < added < 200.0  # what torch itself loads may come on top


def test_a_window_is_seen_every_second_day_up_to_its_end():
    z = torch.randn(9, *LAYOUT.state_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior, observations = problem(scaled_to_physical(z), 5, 4, SchemeContext(LAYOUT))
    assert (prior.previous.valid_time, prior.background.valid_time) == (TIMES[0], TIMES[4])
    assert len(observations) == 3 * 2 * 256


def test_all_schemes_take_the_same_number_of_steps():
    steps = {spec.sampling().n_steps for spec in schemes(FULL.n_steps).values() if hasattr(spec, "sampling")}
    assert steps == {FULL.n_steps}
