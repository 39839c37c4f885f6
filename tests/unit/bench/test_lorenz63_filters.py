"""The Lorenz-63 benchmark orders the filters as theory does."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest
import torch

from cycler_da.bench.lorenz63_filters import CASES, ERROR, SYSTEM, make_trial, run_filter
from cycler_da.verification.scores import score


@pytest.fixture(scope="module")
def trial():
    return make_trial(1, 14)


def _rmse(method: str, trial, case: str = "all three") -> float:
    return score(reduce(add, list(run_filter(method, trial, CASES[case]))[6:]), variable="state", metric="rmse")


def test_filters_follow_the_truth_and_members_guided_alone_are_a_free_run(trial):
    free, alone = _rmse("free run", trial), _rmse("FlowDAS, exact guidance", trial)
    assert alone > 0.7 * free
    for method in ("interpolant filter, gamma 0.25", "optimal particle filter", "bootstrap particle filter, 2000"):
        assert _rmse(method, trial) < 0.4 * free


def test_equal_trials_are_equal_and_observation_errors_have_their_size():
    first, again = make_trial(3, 100), make_trial(3, 100)
    assert torch.equal(first.values, again.values)
    errors = first.values - first.truth[:, :, 0]
    # Standard error of a deviation from 300 numbers: 2 / sqrt(600) = 0.08.
    assert float(errors.std()) == pytest.approx(ERROR, abs=0.4)
    assert SYSTEM.build().noise_std == pytest.approx(0.025**0.5)
