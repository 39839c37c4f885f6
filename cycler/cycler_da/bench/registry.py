"""Registry of benchmarks: every results table in the project is made by `cycler bench NAME`.

A benchmark is a function `(quick, progress) -> BenchResult` with the decorator `@benchmark`, in a module of
this folder or one within it; the module is found by being there. `quick` is a smaller version of the same thing that
ends within two minutes on two cores.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cycler_da.bench
from cycler_da.errors import ConfigError
from cycler_da.products.provenance import code_version
from cycler_da.tables import report
from cycler_da.tables.machine import machine
from cycler_da.tables.report import BenchResult


class Progress(Protocol):
    """Told how much of a benchmark is done; the command line draws it."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` steps are done; `what` is the step that begins."""
        ...


Function = Callable[[bool, Progress], BenchResult]


@dataclass(frozen=True)
class Benchmark:
    """A registered benchmark."""

    name: str
    summary: str
    function: Function


_BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str, *, summary: str) -> Callable[[Function], Function]:
    """Function decorator: enter a benchmark under a name, each name once."""

    def enter(function: Function) -> Function:
        known = _BENCHMARKS.get(name)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise ValueError(f"benchmark {name!r} is registered twice: {known.function} and {function}")
        _BENCHMARKS[name] = Benchmark(name, summary, function)
        return function

    return enter


def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks by name; imports every module of this folder and those within it."""
    for module in pkgutil.walk_packages(cycler_da.bench.__path__, "cycler_da.bench."):
        importlib.import_module(module.name)
    return dict(sorted(_BENCHMARKS.items()))


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by name; raises ConfigError that lists the valid names."""
    known = benchmarks()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown benchmark {name!r}; valid: {', '.join(known)}.{hint}")
    return known[name]


def run_benchmark(name: str, *, quick: bool, out: Path, progress: Progress | None = None) -> BenchResult:
    """Run a benchmark and write NAME.json and NAME.md into `out`; returns what was written.

    Nothing is written when the benchmark fails: files of an earlier run stay as they were.
    """
    found = find_benchmark(name)
    commit = code_version()  # before the run: code edited meanwhile did not make the numbers
    result = replace(
        found.function(quick, progress or no_progress),
        name=name,
        commit=commit,
        machine=machine(),
        command=f"cycler bench {name}{' --quick' if quick else ''}",
    )
    report.write(result, out)
    return result


def no_progress(done: int, total: int, what: str) -> None:
    """A progress that nobody watches."""
