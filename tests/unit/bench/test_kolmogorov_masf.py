"""The benchmark after MASF's protocol: what is observed, and how a run is scored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cycler_da.bench.turbulence import kolmogorov_masf_search
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
from cycler_da.bench.turbulence.kolmogorov_masf_costs import paid_off_rows
from cycler_da.bench.turbulence.kolmogorov_masf_methods import (
    DENSEST,
    DUAL_HEAD,
    ENKF,
    LETKF,
    SEARCHED,
    SETTINGS,
    SLOW_TRUTHS,
    Method,
    Searched,
    methods,
)
from cycler_da.bench.turbulence.kolmogorov_masf_rows import runs_of_truth, setting_rows
from cycler_da.bench.turbulence.kolmogorov_masf_search import search, search_all
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.noise import Noise
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.masf import MasfSpec
from cycler_da.systems.kolmogorov import KolmogorovSpec


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
        ways = ("amortised", "fine-tuned", "from scratch")
        amortised, tuned, scratch = (names[DENSEST][f"MASF, {way}, {form}"] for way in ways)
        assert amortised.spec.fine_tune is None and amortised.truths is None
        for method, begin, count in ((tuned, "network", 120), (scratch, "scratch", 200)):
            fit = method.spec.fine_tune
            assert (fit.begin, fit.count, method.spec.sampler) == (begin, count, amortised.spec.sampler)
            assert method.truths == (None if (method, form) == (tuned, "bridge") else SLOW_TRUTHS)


class Failing:
    """A scheme that never has an analysis."""

    def build(self, context):
        return self

    def analyse(self, prior, observations, *, noise, carry):
        raise AnalysisFailed("cannot")


def test_differences_are_to_each_reference_on_the_same_truth_and_what_fails_says_so():
    case, true = make_case(), NumericalSpec().build(LAYOUT)
    other = replace(case, members=case.members.flip(3), seed=6)
    listed = {
        LETKF: Method(FreeRunSpec(), true),
        ENKF: Method(MasfSpec(steps=3), true),
        "MASF": Method(MasfSpec(steps=5), true),
        "slow": Method(MasfSpec(steps=5), true, truths=1),
        "no scheme": Method(Failing(), true),
    }
    notes: list[str] = []
    runs = [runs_of_truth(listed, one, Setting(5), i_truth=i) for i, one in enumerate((case, other))]
    rows = {(row.method, row.metric): row for row in setting_rows("every 5th", runs, notes)}
    found = {
        name: [cycle(one, listed[name].spec, true, Setting(5)).mean("rmse") for one in (case, other)]
        for name in ("MASF", LETKF, ENKF)
    }
    for reference in (LETKF, ENKF):
        pairs = [a - b for a, b in zip(found["MASF"], found[reference], strict=True)]
        row = rows["MASF", f"RMSE minus {reference}"]
        assert row.value == pytest.approx(sum(pairs) / 2) and row.n == 2
        # Student's t of two values: half their difference times 12.706.
        assert row.high - row.value == pytest.approx(12.706 * abs(pairs[0] - pairs[1]) / 2, rel=1e-4)
        assert (reference, f"RMSE minus {reference}") not in rows
        slow = rows["slow", f"RMSE minus {reference}"]
        assert slow.n == 1 and slow.value == pytest.approx(pairs[0])
    assert (LETKF, f"RMSE minus {ENKF}") in rows and (ENKF, f"RMSE minus {LETKF}") in rows
    assert rows["no scheme", "failed"].value == 1.0 and "no scheme: cannot" in notes[0]


def test_options_are_those_of_least_rmse_and_what_fails_is_never_chosen(monkeypatch):
    asked: list[tuple[Setting, object]] = []

    class Scored:
        def __init__(self, value):
            self.value = value

        def mean(self, name):
            return self.value

    def cycled(case, spec, model, setting, *, first=None):
        asked.append((setting, first))
        if spec == (3.0,):
            raise AnalysisFailed("cannot")
        return Scored(float("nan") if spec == (0.0,) else (spec[0] - 2.0) ** 2)

    monkeypatch.setattr(kolmogorov_masf_search, "cycle", cycled)
    searched = Searched(lambda one: (one,), {"one": (0.0, 1.0, 2.0, 3.0)}, (1.0,))
    found, told = search(searched, None, Setting(16), None)
    assert found == (2.0,) and told == "one 2, best of 3"
    at_end, told = search(replace(searched, axes={"one": (0.0, 1.0, 2.0)}), None, Setting(16), None)
    assert at_end == (2.0,) and told.endswith("last value tried of one")
    asked.clear()
    both = {LETKF: searched, "learned": replace(searched, is_learned=True)}
    chosen, notes = search_all(both, None, Setting(22), {False: None, True: None})
    assert set(chosen) == set(both) and all(note.startswith("every 22nd point (0.22 %), ") for note in notes)
    assert {setting for setting, _ in asked} == {Setting(22)}
    assert {first for _, first in asked} == {None, (2.0,)}  # the learned one begins with the LETKF


def test_training_has_paid_off_when_it_has_saved_its_seconds():
    seconds = {
        "MASF, amortised, bridge": 1.0,
        "MASF, fine-tuned, bridge": 6.0,
        "MASF, from scratch, bridge": 11.0,
        "MASF, amortised, as published": 4.0,
        "MASF, fine-tuned, as published": 9.0,
        "MASF, from scratch, as published": 8.0,
    }
    rows = {(row.method, row.metric): row.value for row in paid_off_rows("densest", seconds, 50.0)}
    ratio, after = "seconds by amortised", "training paid off after"
    assert rows["MASF, fine-tuned, bridge", ratio] == 6.0 and rows["MASF, from scratch, bridge", ratio] == 11.0
    assert rows["MASF, amortised, bridge", after] == 5.0 and rows["MASF, fine-tuned, bridge", after] == 10.0
    assert rows["MASF, amortised, as published", after] == 12.5
    assert ("MASF, fine-tuned, as published", after) not in rows


def test_the_published_grid_has_its_own_size_and_share():
    setting = Setting(10, size=128)
    assert setting.label == "every 10th point (1.03 %)"
    system = KolmogorovSpec(size=32)
    solver = system.build()
    states = solver.random_eddies(Noise(1), members=[0])
    case = Case(states, solver.random_eddies(Noise(2), members=range(MEMBERS)), 5, system)
    assert len(observe(case, 0, Setting(10, size=32))) == 2 * 16
    assert case.layout == system.layout() and case.layout != LAYOUT
