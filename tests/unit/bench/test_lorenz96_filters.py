"""Benchmark of filters on Lorenz-96: numbers are chosen on other truths, scores and differences are per truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.small_systems import lorenz96_cycles as cycles
from cycler_da.bench.small_systems import lorenz96_filters as bench
from cycler_da.bench.small_systems import lorenz96_search as search
from cycler_da.bench.small_systems.lorenz96_cases import (
    CANDIDATES,
    OURS,
    REFERENCE,
    SEED,
    TUNING_SEED,
    Candidate,
    Case,
    Numbers,
)
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.verification.sums import ensemble_sums

CASE = Case("toy", "none", 8, noise=0.3)
SIZE = cycles.Size(2, 2, 3)


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
    small, large = [Numbers(5.0, 1.0)] * 2, [Numbers(5.0, 1.3)] * 2
    found = cycles.run(CASE, ours, transition, SIZE, seed=TUNING_SEED, numbers=small + large).scores("rmse")
    alone = cycles.run(CASE, ours, transition, SIZE, seed=TUNING_SEED, numbers=large).scores("rmse")
    # Guidance noise is drawn for the shape of all rings, so the two runs differ by it and agree in the rest.
    assert np.allclose(found[2:], alone, rtol=0.2)
    assert not np.allclose(found[:2], found[2:], rtol=1e-6)


def test_differences_of_a_method_to_itself_are_zero_and_paired(transition):
    outcome = cycles.run(CASE, candidate(REFERENCE), transition, SIZE, seed=SEED, numbers=[Numbers(5.0, 1.05)] * 2)
    shifted = Candidate("shifted", candidate(REFERENCE).make)
    rows = {row.metric: row for row in bench.make_rows(CASE, shifted, outcome, outcome.scores("rmse") - 0.5)}
    difference = rows[f"RMSE minus {REFERENCE}"]
    assert difference.value == pytest.approx(0.5)
    assert difference.high - difference.low == pytest.approx(0.0, abs=1e-12)


def test_global_weights_are_taken_ring_by_ring(transition):
    """Two truths at once are two runs: one ring's weights have no say in the other."""
    weights = candidate("global weights")
    both = cycles.run(CASE, weights, transition, SIZE, seed=SEED, numbers=[Numbers(), Numbers()])
    twin = cycles.twin_of(CASE, SIZE, SEED).select([1])
    only = cycles.cycle_rings(twin, CASE, weights, transition, SIZE, [Numbers()])
    assert both.scores("rmse")[1] == only.scores("rmse")[0]


def test_a_ring_has_diverged_when_one_member_is_far_away_or_not_finite():
    states = torch.zeros(3, 1, 4, 5)
    states[0, 0, 1, 2], states[2, 0, 2, 0], states[1, 0, 3, 4] = 99.0, -101.0, torch.nan
    assert cycles.diverged(states).tolist() == [False, False, True, True]


def test_a_trial_that_leaves_the_attractor_is_lost_and_the_others_go_on(transition, monkeypatch):
    letkf = candidate(REFERENCE)
    common = {"seed": SEED, "numbers": [Numbers(5.0, 1.05)] * 2}
    alone = cycles.run(CASE, letkf, transition, SIZE, **common)
    monkeypatch.setattr(cycles, "diverged", lambda states: torch.tensor([False, True]))
    outcome = cycles.run(CASE, letkf, transition, SIZE, **common)
    assert outcome.lost == [False, True]
    assert outcome.scores("rmse")[0] == alone.scores("rmse")[0]
    rows = {row.metric: row for row in bench.make_rows(CASE, letkf, outcome, outcome.scores("rmse"))}
    assert (rows["lost trials"].value, rows["lost trials"].n) == (1.0, 2)
    assert (rows["RMSE"].value, rows["RMSE"].n) == (alone.scores("rmse")[0], 1)


def test_the_truth_of_tuning_is_another_one():
    assert not torch.equal(cycles.twin_of(CASE, SIZE, SEED).truth, cycles.twin_of(CASE, SIZE, TUNING_SEED).truth)


class Scored:
    """An outcome whose RMSE grows with the distance of the numbers to the best ones."""

    def __init__(self, numbers, best):
        radii = [abs(np.log(one.radius / best.radius)) for one in numbers]
        others = [abs(one.inflation - best.inflation) + abs(one.share - best.share) for one in numbers]
        self.errors = np.add(radii, others)

    def scores(self, metric):
        return self.errors


def tried_for(monkeypatch, best):
    tried = []

    def run(case, method, transition, size, *, seed, numbers):
        tried.append((seed, tuple(numbers)))
        return Scored(numbers, best)

    monkeypatch.setattr(search, "run", run)
    return tried


@pytest.mark.parametrize(
    ("best", "ends"), [(Numbers(10.0, 1.04), ()), (Numbers(2.0, 1.15), ("radius", "inflation")), (Numbers(10.0), ())]
)
def test_the_radius_is_searched_and_every_inflation_of_it_tried(monkeypatch, best, ends):
    tried = tried_for(monkeypatch, best)
    assert search.choose(CASE, candidate(REFERENCE), None, SIZE, start=Numbers()) == (best, ends)
    assert {seed for seed, _ in tried} == {TUNING_SEED} and len(set(tried)) == len(tried)


@pytest.mark.parametrize(
    ("best", "ends"), [(Numbers(3.0, 1.0, 0.0), ()), (Numbers(20.0, 1.3, 0.9), ("share", "inflation", "radius"))]
)
def test_all_numbers_of_local_weights_are_searched_and_only_bounds_that_do_something_are_told(monkeypatch, best, ends):
    tried_for(monkeypatch, best)
    method = candidate("local particle filter, learned model")
    assert search.choose(CASE, method, None, SIZE, start=Numbers(4.0, 1.05, 0.4)) == (best, ends)


def test_a_search_begins_where_it_ended_with_other_members_or_for_the_method_before():
    ours, adaptive = candidate(OURS), candidate("interpolant filter, adaptive inflation")
    known = {"LETKF, learned model": Numbers(8.0), OURS: Numbers(10.0, 1.02)}
    assert ours.start(known) == Numbers(10.0, 1.02)
    assert ours.start({"LETKF, learned model": Numbers(8.0)}) == Numbers(8.0)
    assert adaptive.start(known) == Numbers(10.0, None)


def test_a_case_with_other_members_differs_in_nothing_else():
    (other,) = Case("toy", "none", 8, noise=0.3, stride=2, others=(12,)).resized()
    assert other == Case("toy", "none", 12, noise=0.3, stride=2)
    assert other.name == "toy, 12 members"


@pytest.mark.parametrize("method", CANDIDATES, ids=lambda method: method.name)
def test_every_method_runs_and_passes_the_network_as_often_as_the_table_says(transition, method):
    numbers = [Numbers(5.0, None if method.adapts else 1.0)]
    outcome = cycles.run(CASE, method, transition, SIZE, seed=SEED, numbers=numbers)
    passes = {"two passes": 4, "particle": 1, "LETKF, learned": 1, "LETKF, true": 0, "global": 4}
    assert outcome.passes == next((n for part, n in passes.items() if part in method.name), 3)
    assert np.isfinite(outcome.scores("rmse")).all()
