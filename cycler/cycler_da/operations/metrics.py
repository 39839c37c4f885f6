"""Metrics in the Prometheus text exposition format 0.0.4, from a status.

One line for each sample, `name{label="value"} number`, after `# HELP` and `# TYPE` of its family; label values
escape backslash, quote and line end. Source: Prometheus documentation, "Exposition formats".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


def exposition(status: Mapping[str, Any], *, alerts: Iterable[Mapping[str, Any]] = ()) -> str:
    """All metrics of an experiment."""
    chains: Mapping[str, Mapping[str, Any]] = status["chains"]
    known = {name: facts for name, facts in chains.items() if facts["latest"] is not None}
    families = [
        _family("cycler_data_age_seconds", "Data time minus valid time of the newest cycle", known, "data_age_seconds"),
        _family("cycler_cycles_complete", "Complete cycles in the store", chains, "n_complete"),
        _family("cycler_cycles_due", "Cycles whose valid time has passed and that are not complete", chains, "n_due"),
        _family(
            "cycler_exit_code", "Exit code of the newest cycle: 0, 3 degraded, 4 no observations", known, "exit_code"
        ),
        _lines(
            "cycler_fallback_level",
            "Rung of the newest cycle, 0 is the full scheme",
            [({"chain": name}, facts["fallback"]["level"]) for name, facts in known.items()],
        ),
        _lines(
            "cycler_forecast_seconds_left",
            "Last valid time of the newest forecast minus data time, negative when it has expired",
            [
                ({"chain": name}, facts["forecast"]["seconds_left"])
                for name, facts in known.items()
                if facts["forecast"]
            ],
        ),
        _lines(
            "cycler_failed",
            "1 when the last try of the chain ended with an error",
            [({"chain": name}, float(facts["failure"] is not None)) for name, facts in chains.items()],
        ),
        _lines(
            "cycler_observations",
            "Observations of the newest cycle by quality-control flag",
            [
                ({"chain": name, "flag": flag}, n)
                for name, facts in known.items()
                for flag, n in facts["counts"].items()
            ],
        ),
        _lines(
            "cycler_stage_seconds",
            "Duration of the stages of the newest cycle",
            [
                ({"chain": name, "stage": one}, s)
                for name, facts in known.items()
                for one, s in facts["seconds"].items()
            ],
        ),
        _lines("cycler_disk_free_bytes", "Free space where the store lies", [({}, status["disk_free_bytes"])]),
        _lines("cycler_max_age_seconds", "Age from which on data are stale", [({}, status["max_age_seconds"])]),
        _lines(
            "cycler_alert",
            "1 for every alert that lasts",
            [({"kind": a["kind"], "chain": a["chain"], "severity": a["severity"]}, 1.0) for a in alerts],
        ),
    ]
    return "".join(families)


def _family(name: str, text: str, chains: Mapping[str, Mapping[str, Any]], key: str) -> str:
    return _lines(name, text, [({"chain": chain}, facts[key]) for chain, facts in chains.items()])


def _lines(name: str, text: str, samples: Iterable[Sample]) -> str:
    rows = [f"{name}{_labels(labels)} {float(value):.17g}\n" for labels, value in samples]
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{''.join(rows)}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items())) + "}"


def _escaped(value: str) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
