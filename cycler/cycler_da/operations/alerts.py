"""Alerts: what somebody has to know, made from a status; each names chain, stage, cause and what to do.

An alert is its kind and its chain. It is told when it begins, again every `repeat` while it lasts, and once more when
it ends; what was told stands in `EXPERIMENT/alerts.json`, so that a restart tells nothing twice. What a sink
could not be told is tried again with the next look, at that sink alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import EXIT_NO_OBSERVATIONS, ConfigError, CyclerError
from cycler_da.operations.limits import Excess
from cycler_da.products.atomic import write_json_atomically
from cycler_da.times import iso_time, parse_time

log = logging.getLogger(__name__)

FILE_NAME = "alerts.json"
WARNING, ERROR = "warning", "error"

#: What to do after an exit code; docs/operations.md has more.
ACTIONS = {
    65: "data: look at the named file; `cycler verify` finds what else is damaged; bring or restore it",
    69: "something is not there: bring the named file, start the workers; the next look goes on",
    70: "an analysis or a bug: read the log; set on_failed_analysis: ladder to go on meanwhile; tell the developer",
    73: "the store cannot be written: make space (`cycler retain EXPERIMENT`), the next look goes on",
    75: "temporary: nothing, unless it lasts for an hour; then see who holds the lock",
    78: "config or weights: undo the last change",
}


@dataclass(frozen=True)
class Alert:
    """One thing to know."""

    kind: str
    chain: str
    severity: str
    stage: str
    cause: str
    action: str

    @property
    def identity(self) -> str:
        """What makes it the same alert as one told before."""
        return f"{self.kind}/{self.chain}"


def find_alerts(
    status: Mapping[str, Any], excesses: Mapping[str, Iterable[Excess]], *, min_free_bytes: float
) -> list[Alert]:
    """All alerts of a status; `excesses` are numbers outside their limits, by chain."""
    found = [alert for name, facts in status["chains"].items() for alert in _of_chain(name, facts, status)]
    found += [blindness(name, why) for name, why in status["unknown"].items()]
    found += [_of_excess(name, excess) for name, several in excesses.items() for excess in several]
    free = status["disk_free_bytes"]
    if free < min_free_bytes:
        cause = f"{free / 1e9:.2f} GB are free, limit {min_free_bytes / 1e9:.2f} GB"
        found.append(Alert("disk", "", ERROR, "", cause, "make space: `cycler retain EXPERIMENT`, or a larger disk"))
    return found


def blindness(chain: str, why: str) -> Alert:
    """The alert that a chain (or, without a name, the whole experiment) cannot be watched now."""
    action = "see to the named file or disk; meanwhile look at the chain itself: `cycler status EXPERIMENT`, the log"
    return Alert("monitor", chain, ERROR, "", f"it cannot be watched: {why}", action)


def _of_chain(name: str, facts: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[Alert]:
    if (failure := facts["failure"]) is not None:
        code = failure["exit_code"]
        cause = f"cycle {failure['cycle']}, exit code {code}: {failure['cause']}"
        yield Alert("failed", name, ERROR, failure["stage"], cause, ACTIONS.get(code, "read the log"))
    if facts["latest"] is None:
        yield from _never_begun(name, facts, status)
        return
    if facts["n_pending"] and facts["data_age_seconds"] > status["max_age_seconds"]:
        yield _stale(name, facts, status)
    forecast = facts["forecast"]
    if forecast is not None and forecast["seconds_left"] < 0 and facts["n_pending"]:
        cause = f"the newest forecast, of {forecast['cycle']}, ended at {forecast['until']}"
        yield Alert("forecast_expired", name, ERROR, "", cause, "see why no cycle followed; do not use the forecast")
    rung = facts["fallback"]
    if rung["level"]:
        severity = ERROR if rung["level"] >= 4 else WARNING
        cause = f"cycle {facts['latest']} stands on rung {rung['rung']}: {'; '.join(facts['degraded'])}"
        yield Alert("fallback", name, severity, "assimilate", cause, "read the cause; products are labelled and usable")
    elif facts["exit_code"] == EXIT_NO_OBSERVATIONS:
        cause = f"cycle {facts['latest']} had no usable observation, its analysis is the background"
        cause = "; ".join([cause, *facts["degraded"]])  # files that were missing or set aside
        yield Alert("no_observations", name, WARNING, "observations", cause, "look at feedback/*.nc, ask the supplier")
    elif facts["degraded"]:
        cause = f"cycle {facts['latest']}: {'; '.join(facts['degraded'])}"
        yield Alert("degraded", name, WARNING, "", cause, "look in the morning; products are labelled and usable")


def _never_begun(name: str, facts: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[Alert]:
    """A chain without any cycle has no age: what counts is since when its first one is due."""
    due = facts["first_due"]
    if due is None:
        return
    seconds = int((parse_time(status["data_time"]) - parse_time(due)) / np.timedelta64(1, "s"))
    if seconds > status["max_age_seconds"]:
        cause = f"no cycle is complete; the first is due since {due}, {seconds} s, limit {status['max_age_seconds']} s"
        yield Alert("stale", name, ERROR, "", cause, "see whether the service, or the worker, runs; read its log")


def _stale(name: str, facts: Mapping[str, Any], status: Mapping[str, Any]) -> Alert:
    waiting = facts["waiting"]
    why = ""
    if waiting is not None:
        why = f"; {waiting['cycle']} waits for {', '.join(waiting['streams'])} until {waiting['until']}"
    elif facts["n_due"]:
        why = f"; cycles that are due and that no run has made: {facts['n_due']}, the first of {facts['first_due']}"
    cause = f"data are {facts['data_age_seconds']} s old, limit {status['max_age_seconds']} s{why}"
    action = "see whether the service runs and files come in; `cycler status EXPERIMENT`"
    return Alert("stale", name, ERROR, "observations" if waiting else "", cause, action)


def _of_excess(name: str, excess: Excess) -> Alert:
    severity, which = (ERROR, "hard") if excess.is_hard else (WARNING, "soft")
    cause = f"{excess.name} is {excess.value:.6g}, {which} limits {excess.low:.6g} to {excess.high:.6g}"
    action = "compare with the last days on the page; look at what changed in observations, model or machine"
    return Alert(f"limit.{excess.name}", name, severity, "", cause, action)


#: Tells an alert (begins, lasts or ends); False or an exception: not told, try again.
Tell = Callable[[Alert, str], bool]


def _log(alert: Alert, phase: str) -> bool:
    """Tell the log."""
    level = logging.INFO if phase == "ends" else logging.ERROR if alert.severity == ERROR else logging.WARNING
    log.log(
        level, "event=alert phase=%s kind=%s chain=%s stage=%s cause=%s action=%s",
        phase, alert.kind, alert.chain, alert.stage, alert.cause, alert.action,
    )  # fmt: skip
    return True


class AlertBook:
    """What the log and each sink were told, kept in a file; sinks are known by their place in the config."""

    def __init__(self, path: Path, *tells: Tell, repeat: np.timedelta64) -> None:
        self._path, self._repeat = path, repeat
        self._tells: dict[str, Tell] = {"log": _log, **{f"sink {i}": tell for i, tell in enumerate(tells)}}
        self._told: dict[str, dict[str, Any]] = _read(path)

    def lasting(self, chains: Container[str] | None = None) -> list[Alert]:
        """The alerts that lasted when the book was written last, of some chains or of all."""
        alerts = [Alert(**entry["alert"]) for entry in self._told.values() if "log" in entry["told"]]
        return [alert for alert in alerts if chains is None or alert.chain in chains]

    def update(self, alerts: Iterable[Alert], now: np.datetime64) -> list[dict[str, Any]]:
        """Tell what is new, due again or over; returns the alerts that last, JSON-ready."""
        current = {alert.identity: alert for alert in alerts}
        for identity, entry in list(self._told.items()):
            if identity not in current:
                self._end(entry)
                if not entry["told"]:
                    del self._told[identity]
        for identity, alert in current.items():
            entry = self._told.setdefault(identity, {"told": {}})
            if "log" not in entry["told"]:
                entry["since"] = iso_time(now)
            elif _is_news(alert, Alert(**entry["alert"])):
                entry["told"] = {}
            entry["alert"] = asdict(alert)
            entry["worst"] = ERROR if ERROR in (alert.severity, entry.get("worst")) else WARNING
            self._tell_due(entry["told"], alert, now)
        self._save()
        return [{"since": self._told[identity]["since"], **asdict(alert)} for identity, alert in current.items()]

    def _tell_due(self, told: dict[str, str], alert: Alert, now: np.datetime64) -> None:
        for name, tell in self._tells.items():
            phase = "lasts" if name in told else "begins"
            is_due = name not in told or now - parse_time(told[name]) >= self._repeat
            if is_due and tell(alert, phase):
                told[name] = iso_time(now)

    def _end(self, entry: dict[str, Any]) -> None:
        """Tell those who know of an alert that it is over; who is no longer in the config needs no word."""
        alert = replace(Alert(**entry["alert"]), severity=entry.get("worst", entry["alert"]["severity"]))
        for name in list(entry["told"]):
            if name not in self._tells or self._tells[name](alert, "ends"):
                del entry["told"][name]

    def _save(self) -> None:
        try:
            write_json_atomically(self._path, self._told)
        except (OSError, CyclerError) as error:
            log.warning("event=alerts_not_saved error=%s (a restart may tell them again)", error)


def _is_news(alert: Alert, before: Alert) -> bool:
    """Whether an alert that lasts has become an error, or asks for something else to be done: as good as a new one."""
    return (alert.severity == ERROR and before.severity != ERROR) or alert.action != before.action


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content.values():
            Alert(**entry["alert"])
            parse_time(entry["since"])
            for moment in entry["told"].values():
                parse_time(moment)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        log.warning("event=alerts_not_read file=%s error=%s", path, error)
        return {}
    return dict(content)
