"""Finding and running benchmarks; a benchmark that fails leaves no half table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cycler_da.bench import registry
from cycler_da.bench.registry import Progress, benchmark, benchmarks, find_benchmark, run_benchmark
from cycler_da.errors import ConfigError
from cycler_da.tables import report
from cycler_da.tables.report import BenchResult, Row


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    benchmarks()
    monkeypatch.setattr(registry, "_BENCHMARKS", dict(registry._BENCHMARKS))
    yield


def demo(quick: bool, progress: Progress) -> BenchResult:
    progress(0, 1, "all of it")
    return BenchResult(name="", config={"quick": quick}, seeds=(1,), rows=(Row("case", "method", "metric", 2.0),))


def test_every_benchmark_has_a_summary_of_one_line() -> None:
    found = benchmarks()
    assert "verification" in found
    assert all(entry.summary and "\n" not in entry.summary for entry in found.values())


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'verification'"):
        find_benchmark("verifcation")


def test_a_name_is_registered_once() -> None:
    benchmark("demo", summary="a demo")(demo)
    benchmark("demo", summary="a demo")(demo)  # the same function again: a module imported twice
    with pytest.raises(ValueError, match="twice"):
        benchmark("demo", summary="another")(lambda quick, progress: demo(quick, progress))


def test_a_run_fills_in_commit_machine_and_command_and_writes_both_files(tmp_path: Path) -> None:
    benchmark("demo", summary="a demo")(demo)
    steps = []
    result = run_benchmark("demo", quick=True, out=tmp_path, progress=lambda *step: steps.append(step))
    assert result.command == "cycler bench demo --quick"
    assert result.commit and result.machine["python"]
    assert result.config == {"quick": True}
    assert steps == [(0, 1, "all of it")]
    assert report.read(tmp_path / "demo.json") == result
    assert (tmp_path / "demo.md").is_file()


def test_a_benchmark_that_fails_leaves_no_table_and_keeps_the_old_one(tmp_path: Path) -> None:
    def fails(quick: bool, progress: Progress) -> BenchResult:
        raise RuntimeError("diverged")

    benchmark("fails", summary="always fails")(fails)
    with pytest.raises(RuntimeError, match="diverged"):
        run_benchmark("fails", quick=True, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "fails.json").write_text("old")
    with pytest.raises(RuntimeError, match="diverged"):
        run_benchmark("fails", quick=True, out=tmp_path)
    assert (tmp_path / "fails.json").read_text() == "old"
