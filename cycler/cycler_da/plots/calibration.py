"""What the page shows of the calibration of a chain: `diag/calibration.json` of its newest cycle, and its course.

The numbers are those that the cycle wrote; nothing is computed here but what a browser draws more easily (shares
instead of counts). A cycle without the file, or with a damaged one, has no panel.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: Levels of the coverage in the file, in percent.
LEVELS = (50, 80, 90)

#: Which ensembles have a calibration, and by what they are judged.
KINDS = {"background": "Forecast, by all accepted observations", "analysis": "Analysis, by withheld observations"}


def calibration_of(folder: Path) -> dict[str, Any]:
    """What the panel shows of a cycle folder; empty when there is nothing to show."""
    path = folder / "diag" / "calibration.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        groups = [_group(kind, one) for kind in KINDS for one in content[kind]]
        window = f"{content['first']} to {content['last']}, {content['n_cycles']} cycles"
        return {"window": window, "groups": groups, "alerts": list(content["alerts"])} if groups else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        log.warning("page skips a damaged calibration file=%s error=%r", path, error)
        return {}


def _group(kind: str, one: Mapping[str, Any]) -> dict[str, Any]:
    total = sum(one["rank_histogram"]) or 1.0
    events = zip(one["thresholds"], one["reliability"], strict=True)
    return {
        "kind": kind,
        "sample": KINDS[kind],
        "name": one["name"],
        "units": one["units"],
        "n_obs": one["n_obs"],
        "n_cycles": one["n_cycles"],
        "coverage": [
            {"level": level, "value": value, "low": low, "high": high}
            for level, (value, low, high) in zip(LEVELS, one["coverage"], strict=True)
        ],
        "ranks": [count / total for count in one["rank_histogram"]],
        "fair_crps": one["fair_crps"],
        "chi_square": one["chi_square"],
        "reliability": [_diagram(threshold, *counts) for threshold, counts in events],
    }


def _diagram(threshold: float, counts: list[float], events: list[float]) -> dict[str, Any]:
    """Forecast probability, observed frequency and number of observations where there are any."""
    n_members, pairs = len(counts) - 1, enumerate(zip(counts, events, strict=True))
    points = [[votes / n_members, event / count, count] for votes, (count, event) in pairs if count]
    return {"threshold": threshold, "points": points}
