"""The small system of the drills (`cycler_da.drills.system`), and what tests of it ask again and again."""

from __future__ import annotations

import netCDF4
import numpy as np

from cycler_da.drills.system import (
    CYCLES,
    DAY,
    ERROR,
    INTERPOLANT,
    LETKF,
    MEMBERS,
    SIZE,
    START,
    STREAMS,
    TIMES,
    CommandServer,
    Drill,
    Hashes,
    Result,
    TinySystem,
    copy_observations,
    fresh_arguments,
    hashes_of,
    make_system,
    save_tiny_weights,
)
from cycler_da.times import time_stamp

__all__ = [
    "CYCLES",
    "DAY",
    "ERROR",
    "INTERPOLANT",
    "LETKF",
    "MEMBERS",
    "SIZE",
    "START",
    "STREAMS",
    "TIMES",
    "CommandServer",
    "Drill",
    "Hashes",
    "Result",
    "TinySystem",
    "copy_observations",
    "damage_found",
    "fresh_arguments",
    "hashes_of",
    "make_system",
    "require_background_as_analysis",
    "save_tiny_weights",
    "time_stamp",
]


def require_background_as_analysis(drill: Drill, *, time: np.datetime64 = CYCLES[0], chain: str = "letkf") -> None:
    """The analysis is the background bit for bit, and every product says so."""
    hashes = drill.hashes(chain)[time_stamp(time)]
    assert hashes["analysis.nc"] == hashes["background.nc"]
    folder, summary = drill.store(chain).cycle_folder(time), drill.summary(time, chain)
    assert summary["exit_code"] == 4
    assert "no usable observations: the analysis is the background" in summary["degraded"]
    with netCDF4.Dataset(folder / "analysis.nc") as file:
        assert "NO OBSERVATIONS" in file.title and file.cycler_degraded


def damage_found(drill: Drill) -> list[str]:
    """Problems of the store, without cycles that were made from a publication which a forced run replaced."""
    return [problem for problem in drill.store().verify() if "an earlier publication of its previous" not in problem]
