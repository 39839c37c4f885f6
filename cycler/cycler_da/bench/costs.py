"""What cycles of an experiment cost, read from what they recorded themselves: seconds of stages, disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean


def stage_seconds(folder: Path, *, of: str = "seconds") -> Iterator[tuple[str, str, float]]:
    """Chain, stage and mean seconds over all cycles after the start, of an experiment's folder.

    `of` is `seconds` by the clock, or `cpu_seconds` that processors worked.
    """
    for chain in sorted(path.parent for path in folder.glob("*/cycles")):
        seconds: dict[str, list[float]] = {}
        for summary in sorted((chain / "cycles").glob("*/diag/summary.json"))[1:]:
            for stage, cost in json.loads(summary.read_text())[of].items():
                seconds.setdefault(stage, []).append(cost)
        for stage, costs in seconds.items():
            yield chain.name, stage, mean(costs)


def disk_of_a_cycle(folder: Path) -> tuple[float, int]:
    """MiB of a published cycle, the mean of all, and how many there are."""
    cycles = list(folder.glob("*/cycles/*"))
    size = sum(path.stat().st_size for cycle in cycles for path in cycle.rglob("*") if path.is_file())
    return size / len(cycles) / 2**20, len(cycles)
