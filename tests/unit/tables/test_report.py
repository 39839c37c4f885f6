"""Benchmark results: files, rendering, determinism."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cycler_da.errors import CannotWrite, DataError
from cycler_da.tables import report
from cycler_da.tables.report import BenchResult, Row

RESULT = BenchResult(
    name="demo",
    config={"experiment": "qg_default", "cycles": 20},
    seeds=(1, 2),
    rows=(
        Row("5 %", "letkf", "RMSE", 0.06912345678901234, 0.0651, 0.0729, 20),
        Row("5 %", "letkf", "wall time (s)", 1234.56, n=20),
        Row("5 %", "persistence", "RMSE", float("nan"), n=20),
        Row("10 %", "letkf", "RMSE", 0.05, n=10),
        Row("10 %", "letkf", "wall time (s)", 7.0, n=20),
    ),
    notes=("Errors are normalised | pooled.",),
    commit="0.1.0+gabc",
    machine={"cpu": "AMD EPYC"},
    command="cycler bench demo",
)


def test_json_gives_back_the_result_bit_for_bit(tmp_path: Path) -> None:
    path, _ = report.write(RESULT, tmp_path)
    again = report.read(path)
    assert repr(again) == repr(RESULT)  # repr shows every bit of a float, and NaN equals NaN


def test_markdown_pivots_metrics_into_columns(tmp_path: Path) -> None:
    _, path = report.write(RESULT, tmp_path)
    table = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert table == [
        "| case | method | RMSE | wall time (s) | n |",
        "| --- | --- | ---: | ---: | ---: |",
        "| 5 % | letkf | 0.06912 (0.06510 to 0.07290) | 1235 | 20 |",
        "| 5 % | persistence | - | - | 20 |",
        "| 10 % | letkf | 0.05000 n=10 | 7 n=20 | - |",
    ]


def test_markdown_names_everything_that_made_the_numbers(tmp_path: Path) -> None:
    _, path = report.write(RESULT, tmp_path)
    text = path.read_text()
    for fact in ("`cycler bench demo`", "0.1.0+gabc", "seeds: 1, 2", "AMD EPYC", "qg_default", "Errors are normalised"):
        assert fact in text


def test_markdown_is_made_from_what_stands_in_the_json(tmp_path: Path) -> None:
    path, table = report.write(RESULT, tmp_path)
    assert report.markdown(report.read(path)) == table.read_text()


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in report.write(RESULT, tmp_path / "a")]
    assert [path.read_bytes() for path in report.write(RESULT, tmp_path / "b")] == first


def test_json_is_strict(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    path, _ = report.write(RESULT, tmp_path)
    json.loads(path.read_text(), parse_constant=refuse)


def test_only_the_two_files_are_left_in_the_folder(tmp_path: Path) -> None:
    report.write(RESULT, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.json", "demo.md"]


def test_two_values_of_one_metric_are_refused_and_leave_the_old_table(tmp_path: Path) -> None:
    paths = report.write(RESULT, tmp_path)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(DataError, match="two values"):
        report.write(replace(RESULT, rows=RESULT.rows + RESULT.rows[:1]), tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_what_cannot_be_written_as_json_leaves_the_old_table(tmp_path: Path) -> None:
    paths = report.write(RESULT, tmp_path)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(TypeError):
        report.write(replace(RESULT, config={"path": object()}), tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_a_file_that_cannot_be_replaced_is_an_expected_error(tmp_path: Path) -> None:
    (tmp_path / "demo.json" / "inside").mkdir(parents=True)
    with pytest.raises(CannotWrite, match=r"demo\.json"):
        report.write(RESULT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "other"}', '{"format": "cycler benchmark 1", "rows": [{}]}', "[1]"]
)
def test_reading_something_else_says_which_file_and_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "demo.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"demo\.json.*run it again"):
        report.read(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.500"),
        (0.99996, "1.0000"),
        (123456.7, "123457"),
        (2.0e7, "2.000e+07"),
        (8.2e-6, "8.200e-06"),
        (0.00012346, "0.0001235"),
        (float("inf"), "inf"),
        (float("nan"), "-"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, text: str) -> None:
    assert report.format_number(value) == text
