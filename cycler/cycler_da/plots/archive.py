"""What is in the store of an experiment, as far as a page and series need it: no field is read.

An experiment has chains (one for each scheme), a chain has complete cycles: those with `_SUCCESS`. Of each
cycle this reads `diag/summary.json` (scores, counts, seconds, degraded reasons), `plots/captions.json` and
the names of its files. What a cycle lacks, or holds damaged, is left out of the page, never invented.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.plots.captions import FILE_NAME as CAPTIONS
from cycler_da.times import parse_time
from cycler_da.trial_read import fatal_ends, read_attributes

log = logging.getLogger(__name__)

#: Cycles of a chain that a page holds, the newest ones; older ones stay in the store.
MOST_CYCLES = 500

#: Order in which flags and stages stand in charts; others follow.
_FLAGS = ("used", "passive", "first_guess", "thinned", "missing")
_STAGES = ("background", "observations", "quality_control", "assimilate", "products", "verify", "plot")

#: Scores of one field: variable (or "all") to name of the score to value.
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class CycleRecord:
    """One complete cycle."""

    folder: Path
    valid: np.datetime64
    scores: Mapping[str, Scores] = field(default_factory=dict)  # background, analysis, persistence, ...
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)  # kind to group to coverage and chi-square
    fallback: str = "full"  # rung of the fallback ladder
    delivery: str = "final"  # early: late observations may still be taken in
    exit_code: int = 0
    diagnostics: Mapping[str, float] = field(default_factory=dict)  # numbers of the scheme
    forecast_until: str = ""  # last valid time of its forecast, ISO; empty where it has none
    figures: tuple[Mapping[str, Any], ...] = ()
    files: tuple[str, ...] = ()  # relative to the cycle's folder


@dataclass(frozen=True)
class ChainRecord:
    """One chain: its cycles in order of time, and what its newest analysis says about itself."""

    name: str
    cycles: tuple[CycleRecord, ...]
    n_complete: int
    attributes: Mapping[str, str] = field(default_factory=dict)


def read_chains(experiment_folder: Path) -> list[ChainRecord]:
    """Read all chains of an experiment, a free run last; chains without complete cycles are kept, empty."""
    folders = sorted(one.parent for one in experiment_folder.glob("*/cycles") if one.is_dir())
    return [read_chain(folder) for folder in sorted(folders, key=lambda folder: (folder.name == "free_run", folder))]


def read_chain(folder: Path) -> ChainRecord:
    """Read the newest complete cycles of one chain."""
    complete = sorted(
        ((valid, cycle) for cycle in (folder / "cycles").iterdir() if (valid := _complete_at(cycle)) is not None),
        key=lambda pair: pair[0],
    )
    cycles = tuple(_read_cycle(cycle, valid) for valid, cycle in complete[-MOST_CYCLES:])
    attributes = _attributes(complete[-1][1] / "analysis.nc") if complete else {}
    return ChainRecord(folder.name, cycles, len(complete), attributes)


def _complete_at(folder: Path) -> np.datetime64 | None:
    if not (folder / "_SUCCESS").exists():
        return None
    try:
        return parse_time(folder.name)
    except ConfigError:
        return None  # a folder that is not named by a time is not a cycle


def _read_cycle(folder: Path, valid: np.datetime64) -> CycleRecord:
    """The record of a cycle; a published cycle does not change, except by a revision or when files are retired."""
    marks = [folder / name for name in ("_SUCCESS", "RETIRED.json", "diag/summary.json", f"plots/{CAPTIONS}")]
    return _read_version(folder, valid, tuple(mark.stat().st_mtime_ns for mark in marks if mark.is_file()))


@lru_cache(maxsize=4 * MOST_CYCLES)
def _read_version(folder: Path, valid: np.datetime64, version: tuple[int, ...]) -> CycleRecord:
    summary = _read_json(folder / "diag" / "summary.json")
    captions = _read_json(folder / "plots" / CAPTIONS)
    figures = [one for one in captions.get("figures", []) if (folder / "plots" / str(one.get("file"))).is_file()]
    return CycleRecord(
        folder=folder,
        valid=valid,
        scores=_mapping(summary.get("scores")),
        counts={name: int(count) for name, count in _numbers(summary.get("counts"), first=_FLAGS).items()},
        seconds=_numbers(summary.get("seconds"), first=_STAGES),
        degraded=tuple(str(reason) for reason in summary.get("degraded") or ()),
        calibration=_mapping(summary.get("calibration")),
        fallback=str(_mapping(summary.get("fallback")).get("rung", "full")),
        delivery=str(summary.get("delivery", "final")),
        exit_code=int(summary.get("exit_code", 3 if summary.get("degraded") else 0)),
        diagnostics=_numbers(summary.get("diagnostics"), first=()),
        forecast_until=str(summary.get("forecast_until") or ""),
        figures=tuple(figures),
        files=_products(folder),
    )


def _products(folder: Path) -> tuple[str, ...]:
    """Names of the data files of a cycle: NetCDF first, then JSON."""
    found = [path for pattern in ("*.nc", "feedback/*.nc", "diag/*.nc", "obs/*.nc") for path in folder.glob(pattern)]
    reports = [folder / "MANIFEST.json", *sorted(folder.glob("diag/*.json"))]
    return tuple(str(path.relative_to(folder)) for path in [*sorted(found), *reports] if path.is_file())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("page skips a damaged file file=%s error=%s", path, error)
        return {}
    return content if isinstance(content, dict) else {}


def _numbers(content: Any, *, first: tuple[str, ...]) -> dict[str, float]:
    """Numbers by name in small letters; names in `first` come first, in that order."""
    found = {name.lower(): float(value) for name, value in _mapping(content).items() if isinstance(value, int | float)}
    order = [name for name in first if name in found] + [name for name in found if name not in first]
    return {name: found[name] for name in order}


def _mapping(content: Any) -> dict[str, Any]:
    return dict(content) if isinstance(content, dict) else {}


def _attributes(path: Path) -> dict[str, str]:
    """Global attributes `cycler_*` of a file without the prefix, and nothing when it cannot be opened.

    A published file that was damaged since must not end the service that writes the page: it is tried first.
    """
    for end in fatal_ends([path], read_attributes).values():
        log.warning("page cannot read attributes file=%s error=it %s", path, end)
        return {}
    try:
        with netCDF4.Dataset(path) as source:
            names = [name for name in source.ncattrs() if name.startswith("cycler_") and name != "cycler_layout"]
            return {name.removeprefix("cycler_"): str(source.getncattr(name)) for name in names}
    except OSError as error:
        log.warning("page cannot read attributes file=%s error=%s", path, error)
        return {}
