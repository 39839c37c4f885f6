"""Benchmark of filters on Lorenz-96: numbers are chosen on other truths, scores and differences are per truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.small_systems import lorenz96_filters as bench
from cycler_da.bench.small_systems.lorenz96_cases import CANDIDATES, REFERENCE, SEED, TUNING_SEED, Candidate, Case
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.verification.sums import ensemble_sums

CASE = Case("toy", "none", 8, noise=0.3)
SIZE = bench.Size(2, 2, 3)


@pytest.fixture
def transition():
    network = build_network(NetworkSpec("quadratic_ring", {"size": 40}), seed=1)
    network.base_root.mul_(0.3)
    return DenseTransition(network.eval(), Scaling((2.34,), (3.63,)))


def candidate(name: str) -> Candidate:
    return next(candidate for candidate in CANDIDATES if candidate.name == name)


def test_a_perfectly_ranked_truth_has_outer_ranks_of_one_and_one_outside_has_more():
    members = np.arange(9.0)[:, None, None] + np.zeros((9, 1, 10))
    even = ensemble_sums(members, np.linspace(-0.5, 8.5, 10)[None], names=["state"])  # once in each of the ten ranks
    assert bench.outer_ranks(even) == pytest.approx(1.0)
    outside = ensemble_sums(members, np.full((1, 10), 99.0), names=["state"])
    assert bench.outer_ranks(outside) == pytest.approx(5.0)


def test_every_inflation_that_is_tried_sees_the_same_truths_and_keeps_its_factor(transition):
    """One ring per inflation and truth: rings of the same pair are the same bits."""
    ours = candidate("interpolant filter")
    common = {"seed": TUNING_SEED, "radius": 5.0}
    found = bench.run(CASE, ours, transition, SIZE, inflations=[1.0, 1.0, 1.3, 1.3], **common).scores("rmse")
    alone = bench.run(CASE, ours, transition, SIZE, inflations=[1.3, 1.3], **common).scores("rmse")
    # Guidance noise is drawn for the shape of all rings, so the two runs differ by it and agree in the rest.
    assert np.allclose(found[2:], alone, rtol=0.2)
    assert not np.allclose(found[:2], found[2:], rtol=1e-6)


def test_differences_of_a_method_to_itself_are_zero_and_paired(transition):
    outcome = bench.run(CASE, candidate(REFERENCE), transition, SIZE, seed=SEED, radius=5.0, inflations=[1.05] * 2)
    shifted = Candidate("shifted", candidate(REFERENCE).make)
    rows = {row.metric: row for row in bench.make_rows(CASE, shifted, outcome, outcome.scores("rmse") - 0.5)}
    difference = rows[f"RMSE minus {REFERENCE}"]
    assert difference.value == pytest.approx(0.5)
    assert difference.high - difference.low == pytest.approx(0.0, abs=1e-12)


def test_global_weights_are_taken_ring_by_ring(transition):
    """Two truths at once are two runs: one ring's weights have no say in the other."""
    weights = candidate("global weights")
    both = bench.run(CASE, weights, transition, SIZE, seed=SEED, radius=5.0, inflations=[1.0, 1.0])
    twin = bench.twin_of(CASE, SIZE, SEED).select([1])
    only = bench.cycle_rings(twin, CASE, weights, transition, SIZE, 5.0, [1.0])
    assert both.scores("rmse")[1] == only.scores("rmse")[0]


def test_a_ring_has_diverged_when_one_member_is_far_away_or_not_finite():
    states = torch.zeros(3, 1, 4, 5)
    states[0, 0, 1, 2], states[2, 0, 2, 0], states[1, 0, 3, 4] = 99.0, -101.0, torch.nan
    assert bench.diverged(states).tolist() == [False, False, True, True]


def test_a_trial_that_leaves_the_attractor_is_lost_and_the_others_go_on(transition, monkeypatch):
    letkf = candidate(REFERENCE)
    common = {"seed": SEED, "radius": 5.0, "inflations": [1.05, 1.05]}
    alone = bench.run(CASE, letkf, transition, SIZE, **common)
    monkeypatch.setattr(bench, "diverged", lambda states: torch.tensor([False, True]))
    outcome = bench.run(CASE, letkf, transition, SIZE, **common)
    assert outcome.lost == [False, True]
    assert outcome.scores("rmse")[0] == alone.scores("rmse")[0]
    rows = {row.metric: row for row in bench.make_rows(CASE, letkf, outcome, outcome.scores("rmse"))}
    assert (rows["lost trials"].value, rows["lost trials"].n) == (1.0, 2)
    assert (rows["RMSE"].value, rows["RMSE"].n) == (alone.scores("rmse")[0], 1)


def test_the_truth_of_tuning_is_another_one():
    assert not torch.equal(bench.twin_of(CASE, SIZE, SEED).truth, bench.twin_of(CASE, SIZE, TUNING_SEED).truth)


@pytest.mark.parametrize(
    ("best", "told"), [((10.0, 1.04), ""), ((13.0, 1.15), "; last value tried of radius, inflation")]
)
def test_the_radius_is_searched_and_every_inflation_of_it_tried(monkeypatch, best, told):
    class Scored:
        def __init__(self, radius, inflations):
            self.error = [abs(np.log(radius / best[0])) + abs(factor - best[1]) for factor in inflations]

        def scores(self, metric):
            return np.array(self.error)

    tried = []

    def run(case, method, transition, size, *, seed, radius, inflations):
        tried.append((seed, radius))
        return Scored(radius, inflations)

    monkeypatch.setattr(bench, "run", run)
    assert bench.choose(CASE, candidate(REFERENCE), None, SIZE) == (*best, told)
    assert {seed for seed, _ in tried} == {TUNING_SEED} and len(set(tried)) == len(tried)
