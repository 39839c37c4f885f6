"""Benchmark of members guided one by one: rings are told one level, and the level with the least error is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.small_systems import lorenz96_conditioned as bench
from cycler_da.bench.small_systems.conditioned_rings import ConditionedRings, rings_of
from cycler_da.bench.small_systems.lorenz96_cases import CASES, SEED, Case, Numbers
from cycler_da.bench.small_systems.lorenz96_cycles import MEAN, STD, Size, run, twin_of
from cycler_da.bench.small_systems.rings import START
from cycler_da.ensemble import Ensemble
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec

CASE = Case("no noise, 40 observed", "none", 6)
SIZE = Size(2, 1, 2)
STEP = Lorenz96Spec().layout().step
SCALING = Scaling((MEAN,), (STD,))


@pytest.fixture
def told():
    network = build_network(NetworkSpec("conditioned_ring", {"size": 40, "levels": [0.0, 0.5]}), seed=1)
    network.base_root.mul_(torch.tensor([0.1, 0.4]).reshape(2, 1, 1))
    return ConditionedTransition(network.eval(), SCALING)


@pytest.fixture
def clean():
    network = build_network(NetworkSpec("quadratic_ring", {"size": 40}), seed=1)
    network.base_root.mul_(0.1)
    return DenseTransition(network.eval(), SCALING)


def test_every_ring_is_predicted_as_if_alone_at_the_level_that_is_told(told):
    rings = rings_of(told)
    assert isinstance(rings, ConditionedRings)
    x = torch.randn(3, 1, 2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = rings.at_level(0.3).predict(x[:, None])
    alone = told.at_level(0.3).predict(x[:, :, 1][:, None])
    torch.testing.assert_close(together.mean[:, :, 1], alone.mean)
    torch.testing.assert_close(together.inner.root.view(3, 2, 40, 40)[:, 1], alone.root)
    assert rings.n_passes == 3


def test_the_level_with_the_least_error_on_other_truths_is_taken(told, monkeypatch):
    errors = {0.1: 0.9, 0.2: 0.5, 0.3: float("inf")}

    def tuning_errors(case, candidate, transition, size, tried):
        return torch.tensor([errors[candidate.make(Numbers()).conditioning_level]]).numpy()

    monkeypatch.setattr(bench, "tuning_errors", tuning_errors)
    found = bench.level_errors(CASE, bench.TUNED, told, SIZE, tuple(errors))
    assert found == {"0.1": pytest.approx(0.9), "0.2": pytest.approx(0.5)}


def test_from_the_mean_members_that_differ_are_drawn_as_if_they_did_not(told):
    twin = twin_of(CASE, SIZE, SEED)
    model = InterpolantForecast(twin.layout, rings_of(told), (0.0,), "rings")
    spec = InterpolantFilterSpec(coupling="none", conditioning_level=0.3)
    context, members, times = SchemeContext(twin.layout, model), twin.first_members(6, 1.0), [START, START + STEP]
    start, ahead = (Ensemble(members[:, None], np.array([t]), tuple(range(6)), twin.layout) for t in times)
    together = start.with_values(start.values.mean(dim=0, keepdim=True).repeat(6, 1, 1, 1, 1))
    rest = {"observations": twin.observations(1), "noise": Noise(1), "carry": {}}
    found = bench.FromMeanSpec(spec).build(context).analyse(Prior(ahead, start, model), **rest)
    expected = spec.build(context).analyse(Prior(ahead, together, model), **rest)
    assert torch.equal(found.ensemble.values, expected.ensemble.values)


def test_settings_have_names_of_the_cases_they_are_taken_from():
    assert set(bench.SETTINGS) <= {case.setting for case in CASES}


def test_a_setting_has_all_methods_the_level_of_each_and_differences_to_the_reference(told, clean):
    rows = bench.run_case(CASE, bench.Learned(clean, told), SIZE, levels={bench.TUNED: 0.25, bench.MEAN: 0.35})
    by = {(row.method, row.metric): row for row in rows}
    methods = {method for method, metric in by if metric == "RMSE"}
    conditioned = {bench.SPREAD, bench.TUNED, bench.MEAN}
    assert methods == {"LETKF, true model", "interpolant filter", bench.ALONE, bench.FREE, *conditioned}
    assert (by[bench.TUNED, "level"].value, by[bench.MEAN, "level"].value) == (0.25, 0.35)
    spread = run(CASE, bench.conditioned("s", "spread"), told, SIZE, seed=SEED, numbers=[Numbers()] * 2)
    expected = spread.scores("spread_skill") * spread.scores("rmse") / STD
    assert by[bench.SPREAD, "level"].value == pytest.approx(expected.mean())
    assert by[bench.TUNED, "network passes"].value == 3
    assert by[bench.FREE, "network passes"].value == 1
