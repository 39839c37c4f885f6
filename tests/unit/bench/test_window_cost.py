"""What the benchmark of the cost of windows measures."""

from __future__ import annotations

import sys

import pytest
import torch

from cycler_da.bench.memory import added_at_peak
from cycler_da.bench.passes import Passes
from cycler_da.bench.turbulence.soad_settings_cases import ERROR, LAYOUT, STD, scaled_to_physical
from cycler_da.bench.turbulence.window_cost import BASE, FEW, GROWTH, MANY, Run, base_of, rows_of, runs_of
from cycler_da.bench.turbulence.window_cost_case import Case, Problem
from cycler_da.bench.turbulence.window_cost_grids import forecast_on, windows_on
from cycler_da.bench.turbulence.window_cost_schemes import (
    FILTERS,
    MASF_PUBLISHED,
    PUBLISHED,
    WINDOW_SCHEMES,
    Cost,
    cost_of,
)
from cycler_da.generative.shells import resampled


@pytest.fixture(scope="module")
def truth():
    z = torch.randn(9, *LAYOUT.state_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return scaled_to_physical(z)


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from /proc")
def test_memory_that_is_freed_again_counts_at_its_peak():
    added = added_at_peak(lambda: torch.ones(64, 1024, 256).sum())  # 64 MiB
    assert 60.0 < added < 200.0  # what torch itself loads may come on top


def test_a_backward_pass_counts_as_two_more():
    passes, module = Passes(), torch.nn.Linear(3, 3)
    passes.watch(module)
    module(torch.ones(2, 3)).sum().backward()
    assert (passes.forward, passes.backward, passes.total) == (1, 1, 3)


@pytest.mark.parametrize("size", [32, 64])
def test_a_window_is_seen_every_second_day_up_to_its_end(truth, size):
    seen = Problem(Case(5, 4, size), truth).seen(is_curved=True)
    assert [len(some) for some in seen] == [size**2 // 8, 0, size**2 // 8, 0, size**2 // 8]


def test_cells_are_seen_with_the_error_of_the_benchmark(truth):
    problem = Problem(Case(5, 2, 64), truth)
    some = problem.seen(is_curved=False)[2]
    departures = (some.values - some.hx(truth[2][None])[0]).reshape(2, -1) / torch.tensor(STD)[:, None]
    assert departures.std(dim=1).tolist() == pytest.approx([ERROR, ERROR], rel=0.2)  # three sigma of 256


@pytest.mark.parametrize("size", [32, 128])
def test_variances_of_waves_that_both_grids_have_are_kept(size):
    model, known = forecast_on(64), windows_on(size)
    noise = torch.randn(20, 2, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    smooth = resampled(resampled(model.transition.climatology.color(noise), 32), 64)
    expected = model.transition.climatology.whiten(smooth).square().sum()
    moved = forecast_on(size).transition.climatology.whiten(resampled(smooth, size)).square().sum()
    assert float(moved) == pytest.approx(float(expected), rel=1e-6)
    assert known.lags.shape[-2:] == (size, size // 2 + 1)


def test_a_forecast_is_the_same_on_a_finer_grid(truth):
    smooth = resampled(resampled(truth[:1], 16), 64).to(torch.float32)[:, None]
    coarse, fine = forecast_on(64).transition, forecast_on(128).transition
    expected = resampled(coarse.mean(smooth), 128)
    found = fine.mean(resampled(smooth, 128))
    # Not equal: products of waves alias on the coarse grid alone.
    assert float((found - expected).std()) < 0.01 * float((coarse.mean(smooth) - smooth[:, 0]).std())


@pytest.mark.parametrize(
    ("name", "passes"), [("SDA, C_t of every wave", 36), ("SDA, Gaussian alone", 0), ("LETKF", 4), ("MASF, bridge", 4)]
)
def test_passes_are_those_of_one_member(truth, name, passes):
    cost = cost_of(name, Case(5, 2, 32), truth.numpy(), 2)
    assert (cost.passes, cost.told) == (passes, "")


def test_every_scheme_is_measured_in_every_case_in_which_it_can_be():
    runs = runs_of(quick=False)
    for case in (BASE, *GROWTH):
        names = {run.scheme for run in runs if run.case == case}
        assert names >= {name for name in WINDOW_SCHEMES if case == BASE or "Gaussian" not in name}
        filters = {name for name in FILTERS if case == BASE or name != MASF_PUBLISHED} if case.members > 1 else set()
        assert names & set(FILTERS) == filters
    assert {run.scheme for run in runs if run.case == MANY} == {"LETKF", "interpolant filter"}


def test_algorithm_1_in_few_steps_counts_as_in_all_of_them():
    of_few = next(run for run in runs_of(quick=False) if run.scheme == PUBLISHED)
    assert (of_few.n_steps, of_few.factor) == (FEW, 257 / (FEW + 1))


def test_growth_is_that_of_the_same_scheme():
    here, there = Run("a", BASE, "a"), Run("a", Case(members=8), "a", None, 2.0)
    found = {here: Cost(1.0, 10.0, 5.0, 0.0), there: Cost(3.0, 40.0, 5.0, 0.0)}
    assert base_of(here, found) is None
    values = {row.metric: row.value for row in rows_of(there, found[there], base_of(there, found))}
    assert values == {
        "seconds": 6.0,
        "seconds a member": 0.75,
        "MB": 40.0,
        "passes": 10.0,
        "times the seconds": 3.0,
        "times the MB": 4.0,
    }
