"""The closing table: rows from cycles, layout, what is bold, lost members."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from cycler_da.tables.closing import closing_markdown, closing_rows, closing_table
from cycler_da.tables.report import Row
from cycler_da.verification.scores import final_scores
from cycler_da.verification.sums import ScoreSums, deterministic_sums, ensemble_sums
from cycler_da.verification.totals import merge


def cycles(seed: int, *, n_members: int = 5, n_cycles: int = 6, error: float = 1.0) -> list[ScoreSums]:
    draws = np.random.default_rng(seed).standard_normal((n_cycles, n_members + 1, 1, 50))
    return [ensemble_sums(error * d[1:], d[0], names=["q1"], scale=np.array([2.0])) for d in draws]


def single(seed: int) -> list[ScoreSums]:
    draws = np.random.default_rng(seed).standard_normal((6, 2, 1, 50))
    return [deterministic_sums(d[0], d[1], names=["q1"], scale=np.array([2.0])) for d in draws]


def printed(table: Table, *, width: int = 160) -> str:
    console = Console(file=StringIO(), width=width, no_color=True)
    console.print(table)
    return console.file.getvalue()


def test_rows_are_scores_of_merged_cycles_with_intervals() -> None:
    chain = cycles(1)
    rows = {(row.case, row.metric): row for row in closing_rows({"letkf": {"analysis": chain}})}
    expected = final_scores(merge(chain))["all"]
    for metric in ("rmse", "fair_crps", "spread_skill"):
        row = rows["analysis", metric]
        assert row.value == expected[metric]
        assert row.low < row.value < row.high
        assert row.n == 6


def test_rows_of_one_variable_are_in_its_units() -> None:
    chain = cycles(1)
    rows = closing_rows({"letkf": {"analysis": chain}}, variable="q1")
    assert rows[0].value == final_scores(merge(chain))["q1"]["rmse"]


def test_a_single_forecast_has_no_spread_skill_and_an_empty_kind_no_row() -> None:
    rows = closing_rows({"persistence": {"background": single(2), "analysis": []}})
    assert [(row.case, row.metric) for row in rows] == [("background", "rmse"), ("background", "fair_crps")]


def test_cycles_that_lost_members_get_a_line_of_their_own() -> None:
    chain = [*cycles(3, n_cycles=2), *cycles(4, n_members=4, n_cycles=1), *cycles(5, n_cycles=3)]
    rows = closing_rows({"letkf": {"analysis": chain}})
    assert {(row.method, row.n) for row in rows} == {("letkf", 5), ("letkf (4 members)", 1)}


def test_markdown_has_a_line_for_each_method_and_marks_the_best() -> None:
    rows = [
        Row("background", "letkf", "rmse", 0.2),
        Row("analysis", "letkf", "rmse", 0.0712, 0.06, 0.08, 20),
        Row("analysis", "letkf", "spread_skill", 0.8),
        Row("background", "persistence", "rmse", 0.5),
        Row("analysis", "free run", "rmse", 1.0),
        Row("analysis", "free run", "spread_skill", 1.1),
    ]
    assert closing_markdown(rows).splitlines()[2:] == [
        "| letkf | **0.2000** | - | - | **0.07120 (0.06000 to 0.08000)** | - | 0.8000 |",
        "| persistence | 0.5000 | - | - | - | - | - |",
        "| free run | - | - | - | 1 | - | **1.100** |",
    ]


def test_terminal_table_shows_every_method_and_score_once() -> None:
    rows = closing_rows(
        {"letkf": {"background": cycles(6), "analysis": cycles(7)}, "persistence": {"background": single(8)}}
    )
    text = printed(closing_table(rows, title="qg_default"))
    assert text.count("letkf") == text.count("persistence") == text.count("qg_default") == 1
    for heading in ("RMSE", "CRPS", "spread/", "skill"):
        assert text.count(heading) == 2
    assert f"{rows[0].value:.4f}" in text
    assert " to " not in text
    assert " to " in printed(closing_table(rows, intervals=True))


def test_every_number_is_whole_on_a_terminal_of_80_columns() -> None:
    rows = closing_rows({"interpolant_filter": {"background": cycles(6), "analysis": cycles(7)}})
    text = printed(closing_table(rows), width=80)
    assert all(f"{row.value:#.4g}" in text for row in rows)


@pytest.mark.parametrize("values", [(float("nan"), 0.5), (0.0, 0.5)])
def test_a_spread_skill_of_nan_or_zero_is_never_the_best(values: tuple[float, float]) -> None:
    rows = [Row("analysis", name, "spread_skill", value) for name, value in zip("ab", values, strict=True)]
    assert "| a | - | - | - | - | - | **" not in closing_markdown(rows)


def test_an_empty_table_is_still_a_table() -> None:
    assert "method" in printed(closing_table([]))
