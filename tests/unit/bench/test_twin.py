"""Twin experiments of many truths: filters are ordered as theory does, and batches change nothing."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest
import torch

from cycler_da.bench.small_systems.lorenz63_setup import linear_network, starts, true_model
from cycler_da.bench.small_systems.twin import Method, Run, make_twin, score_states
from cycler_da.errors import ConfigError
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.particle import ParticleSpec
from cycler_da.verification.scores import score

#: What a perfectly trained transition of one step would be.
EXACT = GaussianTransition(true_model(1).dynamics.step, 0.025 * torch.eye(3, dtype=torch.float64))
ALONE = InterpolantFilterSpec(coupling="none")
FILTER = InterpolantFilterSpec(coupling="perturbed_observations", inflation=1.0)


def twin(n_cycles: int = 50, n_trials: int = 2):
    return make_twin(
        true_model(1),
        linear_network((0, 1, 2), 1.0),
        starts(n_trials, seed=4),
        n_cycles=n_cycles,
        start_std=2.0,
        seed=4,
    )


def rmse(run: Run, *, spin_up: int) -> float:
    scored = [score_states(x, run.twin.truth[:, k]) for k, x in enumerate(run, start=1) if k > spin_up]
    return score(reduce(add, [reduce(add, cycle) for cycle in scored]), variable="state", metric="rmse")


def test_filters_follow_the_truth_and_members_guided_alone_hardly_do():
    """Guided alone they have .48 to .66 of the free run's error over six seeds, filters less than .1."""
    experiment = twin()
    free = rmse(Run(experiment, Method("free", 60)), spin_up=15)
    alone = rmse(Run(experiment, Method("alone", 60, ALONE, EXACT, together=True)), spin_up=15)
    assert alone > 0.4 * free
    for method in (
        Method("EnKF", 60, EnkfSpec(inflation=1.0)),
        Method("particles", 1000, ParticleSpec(regularisation=0.0)),
        Method("filter", 60, FILTER, EXACT),
    ):
        assert rmse(Run(experiment, method), spin_up=15) < 0.4 * free


def test_members_of_all_trials_analysed_together_are_those_of_each_trial():
    experiment = twin(n_cycles=3)
    together, apart = (
        list(Run(experiment, Method("alone", 500, ALONE, EXACT, together=flag)))[-1] for flag in (True, False)
    )
    # The noise is another: means of 500 members with a deviation of 2 differ by 0.13, one standard error.
    torch.testing.assert_close(together.mean(dim=1), apart.mean(dim=1), rtol=0, atol=0.5)


def test_a_method_that_couples_members_is_not_analysed_together():
    with pytest.raises(ConfigError, match="couples members"):
        next(iter(Run(twin(2), Method("EnKF", 10, EnkfSpec(), together=True))))


def test_passes_of_the_network_are_counted():
    run = Run(twin(3), Method("filter", 10, FILTER, EXACT))
    list(run)
    assert run.passes == 3.0  # background, predictive likelihood, guided draw


def test_equal_twins_are_equal_and_observation_errors_have_their_size():
    first, again = twin(100), twin(100)
    assert torch.equal(first.values, again.values)
    errors = first.values - first.truth[:, 1:, :, 0]
    # Standard error of a deviation from 600 numbers: 1 / sqrt(1200) = 0.03.
    assert float(errors.std()) == pytest.approx(1.0, abs=0.12)
    assert true_model(1).dynamics.noise_std == pytest.approx(0.025**0.5)


def test_a_trial_that_diverges_starts_afresh_and_the_others_do_not_notice():
    experiment = twin(n_cycles=4)
    inner = true_model(1).dynamics.step
    calls = []

    def breaks_once(states: torch.Tensor) -> torch.Tensor:
        """The true step, with a member of the second trial lost in the third cycle."""
        calls.append(len(states))
        after = inner(states)
        if len(calls) == 3:
            after[50] = torch.nan
        return after

    broken = GaussianTransition(breaks_once, 0.025 * torch.eye(3, dtype=torch.float64))
    enkf = EnkfSpec(inflation=1.0)
    damaged, sound = (Run(experiment, Method("EnKF", 40, enkf, learned)) for learned in (broken, EXACT))
    after, expected = list(damaged), list(sound)
    assert damaged.diverged.tolist() == [0, 1]
    assert sound.diverged.tolist() == [0, 0]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(after, expected, strict=True))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(after[:2], expected[:2], strict=True))
    assert torch.isfinite(after[3]).all()
