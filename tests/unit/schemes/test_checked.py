"""A checked analysis turns what a scheme runs into into words; the contract tests ask it of every scheme."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.noise import Noise
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame import checked
from cycler_da.schemes.frame.checked import checked_analysis
from cycler_da.schemes.letkf import LetkfSpec


class Failing:
    """A scheme that does what it is told to."""

    needs = Needs(n_members=1)

    def __init__(self, act, change=lambda ensemble: ensemble) -> None:
        self.act, self.change = act, change

    def analyse(self, prior, observations, *, noise, carry) -> Analysis:
        self.act()
        return Analysis(self.change(prior.background), carry)


@pytest.fixture
def case(make_layout, make_ensemble, make_observations):
    layout = make_layout((20,), channels=("u", "v"))
    return make_ensemble(layout, 4), make_observations(layout, [3.0, 7.0], [0.5, 1.0], error=0.4)


def analyse(scheme, background, observations):
    return checked_analysis(scheme, Prior(background), observations, kind="toy", noise=Noise(1), carry={})


def test_a_sound_analysis_is_that_of_the_scheme(case):
    background, observations = case
    scheme = LetkfSpec(localization_radius_cells=2.0).build(SchemeContext(background.layout))
    plain = scheme.analyse(Prior(background), observations, noise=Noise(1), carry={})
    assert torch.equal(analyse(scheme, background, observations).ensemble.values, plain.ensemble.values)


def test_a_matrix_that_is_not_positive_is_explained(case):
    scheme = Failing(lambda: torch.linalg.cholesky(-torch.eye(2)))
    with pytest.raises(AnalysisFailed, match="toy: a matrix of the analysis of 2 observations cannot be decomposed"):
        analyse(scheme, *case)


def test_memory_that_runs_out_is_explained(case):
    scheme = Failing(lambda: torch.empty(2**55, dtype=torch.float64))
    with pytest.raises(AnalysisFailed, match="toy: the analysis of 2 observations does not fit into memory"):
        analyse(scheme, *case)


def test_a_bug_keeps_its_traceback(case):
    scheme = Failing(lambda: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        analyse(scheme, *case)


def test_more_equivalents_than_memory_allows_are_refused(case, monkeypatch):
    monkeypatch.setattr(checked, "MOST_EQUIVALENTS", 7)
    with pytest.raises(AnalysisFailed, match="2 observations of 4 members are 8 model equivalents; expected at most 7"):
        analyse(Failing(lambda: None), *case)


def test_a_member_that_is_not_finite_is_named_with_its_variable(case):
    background, observations = case
    values = background.values.clone()
    values[2, 0, 1, 5] = torch.inf
    with pytest.raises(AnalysisFailed, match="toy: v of the background is not finite in member 12;"):
        analyse(Failing(lambda: None), background.with_values(values), observations)


def collapsed(ensemble, channel: int):
    """All members of a channel become the first one."""
    values = ensemble.values.clone()
    values[:, :, channel] = values[:1, :, channel]
    return ensemble.with_values(values)


def test_members_that_have_become_the_same_are_refused(case):
    scheme = Failing(lambda: None, change=lambda ensemble: collapsed(ensemble, 1))
    with pytest.raises(AnalysisFailed, match="toy: all 4 members of the analysis of v are the same"):
        analyse(scheme, *case)


def test_members_that_were_the_same_before_may_stay_so(case):
    background, observations = case
    calm = collapsed(background, 1)
    assert torch.equal(analyse(Failing(lambda: None), calm, observations).ensemble.values, calm.values)


def test_a_scheme_that_resamples_may_end_with_copies_of_one_member(case):
    scheme = Failing(lambda: None, change=lambda ensemble: collapsed(ensemble, 1))
    scheme.needs = Needs(n_members=1, resamples=True)
    assert torch.equal(analyse(scheme, *case).ensemble.values, collapsed(case[0], 1).values)
