"""The benchmark after MASF's protocol: what is observed, and how a run is scored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cycler_da.bench.turbulence.kolmogorov_masf import setting_rows
from cycler_da.bench.turbulence.kolmogorov_masf_case import (
    ERROR,
    LAYOUT,
    MEMBERS,
    SYSTEM,
    Case,
    Setting,
    cycle,
    observe,
)
from cycler_da.bench.turbulence.kolmogorov_masf_methods import (
    DENSEST,
    DUAL_HEAD,
    REFERENCE,
    SEARCHED,
    SETTINGS,
    Method,
    methods,
)
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.masf import MasfSpec


def make_case() -> Case:
    """Two analyses of fields that are not spun up."""
    solver = SYSTEM.build()
    states = [solver.random_eddies(Noise(1), members=[0])]
    for _ in range(10):
        states.append(solver.step(states[-1]))
    return Case(torch.cat(states), solver.random_eddies(Noise(2), members=range(MEMBERS)), seed=5)


def test_the_grid_holds_the_share_that_is_named():
    seen = observe(make_case(), 0, Setting(10))
    assert len(seen) == 2 * 49
    assert Setting(10).share == pytest.approx(100 * 49 / 64**2)


def test_strides_have_their_ordinals():
    names = [Setting(stride).label.split()[1] for stride in (1, 2, 3, 10, 11, 12, 13, 16, 22)]
    assert names == ["1st", "2nd", "3rd", "10th", "11th", "12th", "13th", "16th", "22nd"]


def test_observations_are_the_truth_with_the_error_named():
    case = make_case()
    for setting in (Setting(5), Setting(5, is_curved=True)):
        seen = observe(case, 0, setting)
        departures = seen.values - seen.hx(case.truth[:1])[0]
        assert float(departures.std()) == pytest.approx(ERROR, rel=4 * (2 * 2 * 169) ** -0.5)
        assert bool((seen.hx(case.truth[:1]) > 0).all()) == setting.is_curved


def test_an_analysis_is_scored_at_its_own_step_and_the_forecast_after_it():
    case, true = make_case(), NumericalSpec().build(LAYOUT)
    free, masf = (cycle(case, spec, true, Setting(5)) for spec in (FreeRunSpec(), MasfSpec(steps=10)))
    assert len(free.scores) == len(masf.scores) == 11
    assert masf.scores[0]["rmse"] < free.scores[0]["rmse"]
    first = case.members.mean(dim=0) - case.truth[0]
    assert free.scores[0]["rmse"] == pytest.approx(float(first.square().mean().sqrt()), rel=1e-6)


def test_masf_is_asked_for_the_form_that_the_observations_need():
    chosen = {name: searched.make(*searched.start) for name, searched in SEARCHED.items()}
    true = NumericalSpec().build(LAYOUT)
    names = {setting: methods(setting, chosen, true, true) for setting in SETTINGS}
    assert all(("MASF, amortised, bridge" in found) != setting.is_curved for setting, found in names.items())
    assert all(("MASF, amortised, augmented" in found) == setting.is_curved for setting, found in names.items())
    for way, weights in (("members", None), ("amortised", DUAL_HEAD)):
        found = names[SETTINGS[-1]][f"MASF, {way}, two heads as published"].spec
        assert (found.form, found.weights) == ("dual_head", weights)
    assert all("interpolant filter, learned model" in found for found in names.values())
    assert "free run" in names[DENSEST]
    for form in ("bridge", "as published"):
        amortised, tuned = (names[DENSEST][f"MASF, {way}, {form}"].spec for way in ("amortised", "fine-tuned"))
        assert amortised.fine_tune is None and (tuned.fine_tune.steps, tuned.sampler) == (120, amortised.sampler)


class Failing:
    """A scheme that never has an analysis."""

    def build(self, context):
        return self

    def analyse(self, prior, observations, *, noise, carry):
        raise AnalysisFailed("cannot")


def test_differences_are_to_the_reference_on_the_same_truth_and_what_fails_says_so():
    case, true = make_case(), NumericalSpec().build(LAYOUT)
    other = replace(case, members=case.members.flip(3), seed=6)
    listed = {
        REFERENCE: Method(FreeRunSpec(), true),
        "MASF": Method(MasfSpec(steps=5), true),
        "no scheme": Method(Failing(), true),
    }
    notes: list[str] = []
    rows = {(row.method, row.metric): row for row in setting_rows(Setting(5), listed, [case, other], notes)}
    found = [
        [cycle(one, listed[name].spec, true, Setting(5)).mean("rmse") for one in (case, other)]
        for name in ("MASF", REFERENCE)
    ]
    pairs = [a - b for a, b in zip(*found, strict=True)]
    row = rows["MASF", f"RMSE minus {REFERENCE}"]
    assert row.value == pytest.approx(sum(pairs) / 2) and row.n == 2
    # Student's t of two values: half their difference times 12.706.
    assert row.high - row.value == pytest.approx(12.706 * abs(pairs[0] - pairs[1]) / 2, rel=1e-4)
    assert (REFERENCE, f"RMSE minus {REFERENCE}") not in rows
    assert rows["no scheme", "failed"].value == 1.0 and "no scheme: cannot" in notes[0]
