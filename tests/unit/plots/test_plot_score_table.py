"""The closing table: scores are pooled by their formulas, never averaged where that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cycler_da.plots.archive import ChainRecord, CycleRecord
from cycler_da.plots.scoretable import after, later_half, pooled, score_rows


def cycle(day, **scores):
    return CycleRecord(Path(f"{day}"), np.datetime64("2020-01-01") + day, scores=scores)


def chain(name, cycles, *, n_complete=None):
    return ChainRecord(name, tuple(cycles), n_complete or len(cycles))


def one(rmse, **others):
    return {"all": {"rmse": rmse, **others}}


def test_rmse_and_spread_pool_as_mean_squares_and_crps_as_a_mean():
    cycles = [{"rmse": 3.0, "spread": 5.0, "fair_crps": 1.0}, {"rmse": 4.0, "spread": 12.0, "fair_crps": 2.0}]
    result = pooled(cycles)
    assert result["rmse"] == pytest.approx(np.sqrt(12.5))
    assert result["spread"] == pytest.approx(np.sqrt(84.5))
    assert result["fair_crps"] == 1.5


def test_spread_skill_keeps_the_factor_of_the_finite_ensemble():
    """With M = 4 members the factor is sqrt(5/4), whatever the single cycles show."""
    factor = np.sqrt(1.25)
    cycles = [{"rmse": r, "spread": s, "spread_skill": factor * s / r} for r, s in ((1.0, 2.0), (3.0, 1.5), (0.5, 0.1))]
    result = pooled(cycles)
    assert result["spread_skill"] == pytest.approx(factor * result["spread"] / result["rmse"])


def test_a_score_that_some_cycle_lacks_is_left_out():
    assert pooled([{"rmse": 1.0, "spread": 1.0}, {"rmse": 1.0, "spread": None}]) == {"rmse": 1.0}
    assert pooled([]) == {}


def test_equal_references_of_all_chains_are_one_row_at_the_end():
    chains = [
        chain(name, [cycle(day, background=one(2.0), analysis=one(rmse), persistence=one(5.0)) for day in range(3)])
        for name, rmse in (("a", 1.0), ("b", 1.5))
    ]
    rows = [(row.chain, row.field, row.scores["all"]["rmse"]) for row in score_rows(chains)]
    assert rows == [
        ("a", "background", 2.0),
        ("a", "analysis", 1.0),
        ("b", "background", 2.0),
        ("b", "analysis", 1.5),
        ("", "persistence", 5.0),
    ]


def test_references_that_differ_keep_their_chain():
    chains = [
        chain(name, [cycle(0, background=one(1.0), persistence=one(rmse))]) for name, rmse in (("a", 1.0), ("b", 2.0))
    ]
    rows = [(row.chain, row.field) for row in score_rows(chains)]
    assert rows[2:] == [("a", "persistence"), ("b", "persistence")]


def test_ranges_choose_their_cycles():
    cycles = [cycle(day, analysis=one(float(day))) for day in range(5)]
    assert later_half(chain("a", cycles)) == tuple(cycles[2:])
    assert after(2)(chain("a", cycles)) == tuple(cycles[2:])
    assert after(2)(chain("a", cycles, n_complete=6)) == tuple(cycles[1:]), "one old cycle is not read but counts"
    assert after(2)(chain("a", cycles, n_complete=600)) == tuple(cycles)


def test_the_start_and_cycles_without_verification_are_not_counted():
    scores = {"background": one(3.0), "analysis": one(2.0)}
    rows = score_rows([chain("a", [cycle(0, analysis=one(9.0)), cycle(1, **scores), cycle(2)])])
    assert [(row.field, row.n_cycles, row.scores["all"]["rmse"]) for row in rows] == [
        ("background", 1, 3.0),
        ("analysis", 1, 2.0),
    ]
