"""The benchmark of published filters: what a score is, and that every method sees the same truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cycler_da.bench.registry import run_benchmark
from cycler_da.bench.small_systems import dapper
from cycler_da.bench.small_systems.dapper import cycle_case, make_network, measure_climatology
from cycler_da.bench.small_systems.dapper_cases import CASES, LORENZ63, LORENZ96, LORENZ96_SPARSE, Case


@pytest.fixture(autouse=True)
def _short_climate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dapper, "CLIMATE_RUNS", (200, 10))


def test_the_measured_climatology_has_the_published_size() -> None:
    climate = measure_climatology(LORENZ96, LORENZ96.system.build())
    deviation = climate.covariance.dense.matrix.diagonal().mean().sqrt()
    # 200 runs of 40 correlated values: within 2 %.
    assert float(deviation) == pytest.approx(3.63, rel=0.02)
    assert float(climate.mean) == pytest.approx(2.34, rel=0.04)


def test_every_second_value_is_observed_where_a_case_says_so() -> None:
    network = make_network(LORENZ96_SPARSE, LORENZ96_SPARSE.system.layout())
    state = torch.arange(40, dtype=torch.float64).reshape(1, 1, 40)
    assert network.hx(state)[0].tolist() == list(range(0, 40, 2))
    assert torch.allclose(network.error_variance, torch.full((20,), 0.5, dtype=torch.float64))


def test_all_variables_of_lorenz63_are_observed() -> None:
    network = make_network(LORENZ63, LORENZ63.system.layout())
    assert network.hx(torch.tensor([[[1.0], [2.0], [3.0]]]))[0].tolist() == [1.0, 2.0, 3.0]


def test_a_method_scores_the_same_whatever_it_is_compared_with() -> None:
    case = LORENZ63.shortened(cycles=5)
    etkf = next(method for method in case.methods if method.name.startswith("ETKF N=10"))
    together = cycle_case(replace(case, methods=case.methods[:5], burn_in=5, spin_up=5), (1, 2))
    alone = cycle_case(replace(case, methods=(etkf,), burn_in=5, spin_up=5), (2,))
    assert together[etkf.name][1] == pytest.approx(alone[etkf.name][0], rel=1e-9)


def test_the_error_of_the_best_method_is_that_of_a_filter_which_follows_the_truth() -> None:
    case = replace(LORENZ63, methods=LORENZ63.methods[5:6], cycles=30)
    (found,) = cycle_case(case, (1,))[LORENZ63.methods[5].name]
    # EnKF of 100 members: published 0.56 over long runs, 7.6 without observations.
    assert found < 1.2


def test_every_method_stands_beside_its_published_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dapper, "CASES", (replace(LORENZ63, burn_in=5, spin_up=5, methods=LORENZ63.methods[:4]),))
    # A thread in place of a process: it keeps what is patched here.
    monkeypatch.setattr(dapper, "ProcessPoolExecutor", lambda size, mp_context: ThreadPoolExecutor(size))
    monkeypatch.setattr(Case, "shortened", lambda case, *, cycles: replace(case, cycles=5))
    rows = run_benchmark("dapper", quick=True, out=tmp_path).rows
    ours, published = rows[::2], rows[1::2]
    assert [f"{row.method} (published)" for row in ours] == [row.method for row in published]
    assert [row.value for row in published] == [7.6, 1.25, 1.04, 0.80, 0.60]


def test_names_of_methods_do_not_repeat() -> None:
    for case in CASES:
        names = [method.name for method in case.methods]
        assert len(set(names)) == len(names)
