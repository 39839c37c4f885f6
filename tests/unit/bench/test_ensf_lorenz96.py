"""The published test of the EnSF: what is observed, and that the errors of a method fall from a far start."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.small_systems.dapper_cases import Method
from cycler_da.bench.small_systems.ensf_lorenz96 import MEMBERS, SYSTEM, cycle_method, make_network
from cycler_da.schemes.nudging import NudgingSpec


def test_the_arctan_of_every_cell_is_observed():
    state = torch.linspace(-5, 5, 100, dtype=torch.float64).reshape(1, 1, 100)
    network = make_network(SYSTEM.layout())
    assert torch.equal(network.hx(state), torch.arctan(state[:, 0]))
    assert not network.is_linear


@pytest.mark.slow
def test_nudging_follows_the_truth_from_a_far_start():
    errors = cycle_method(Method("nudging", 0.0, NudgingSpec(gain=1.0, steps=20), MEMBERS), 1, cycles=40)
    assert errors[0] > 2.0  # the climatological deviation is 3.6
    assert sum(errors[-5:]) / 5 < 0.4
