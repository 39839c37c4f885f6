"""Simulation-based calibration: on a learned model's own simulations the truth has a uniform rank.

Exact filters pass whatever the model is; so does the interpolant filter, whose coupling is approximate, within what
400 independent trials can see. A filter that is too sure must fail, or the test would see nothing. One that ignores
its observations passes too (the truth is a draw of the forecast): how sharp filters are is in `lorenz63_cycled`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cycler_da.bench.small_systems.lorenz63_calibration import NETWORKS, SPECS, p_value, sureness, truth_ranks
from cycler_da.schemes.enkf import EnkfSpec


@pytest.fixture(autouse=True)
def _root(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_ranks_of_the_truth_are_uniform_on_the_learned_lorenz63(network):
    ranks = truth_ranks(SPECS["interpolant filter, gamma 0.25"], NETWORKS[network], n_trials=400)
    # Three tests for each network: a p of .01 / 3 would be Bonferroni's; .01 is stricter.
    assert min(p_value(values) for values in ranks.T) > 0.01


@pytest.mark.slow
def test_a_filter_that_is_too_sure_is_found_out():
    ranks = truth_ranks(EnkfSpec(inflation=0.6), NETWORKS["X Y Z, error 2"], n_trials=150)
    assert max(p_value(values) for values in ranks.T) < 1e-3
    assert min(sureness(values) for values in ranks.T) > 1.2


def test_uniform_ranks_pass_and_ranks_at_the_ends_do_not():
    uniform = torch.randint(0, 100, (400,), generator=torch.Generator().manual_seed(1))
    assert p_value(uniform) > 0.01
    assert sureness(uniform) == pytest.approx(1.0, abs=0.15)
    ends = torch.where(uniform < 50, 0, 99)
    assert p_value(ends) < 1e-10
    assert sureness(ends) == pytest.approx(2.94, abs=0.01)
