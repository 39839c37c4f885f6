"""Status: how the chains of an experiment stand, read from the store alone.

The service level is the age of the data: data time now, minus the valid time of the newest complete cycle. The
same facts are `cycler status`, `status.json`, the metrics and what alerts are made from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import CyclerError, MissingProduct
from cycler_da.operations.current_forecast import forecast_facts
from cycler_da.products.failure import read_failure
from cycler_da.products.manifest import MANIFEST
from cycler_da.products.provenance import sha256_file
from cycler_da.products.store import Store
from cycler_da.times import iso_time, parse_duration, parse_time

if TYPE_CHECKING:
    from cycler_da.agenda import Agenda  # which needs torch, as `cycler status` must not

FORMAT = "cycler-status-1"
FILE_NAME = "status.json"
_SECOND = np.timedelta64(1, "s")


def experiment_status(agenda: Agenda) -> dict[str, Any]:
    """Facts of all chains at the data time of the agenda's clock; `unknown` says of which there are none, and why."""
    setting = agenda.arrivals.setting
    stores = [Store(setting.root, setting.config.name, chain.name) for chain in setting.chains]
    now = agenda.arrivals.clock.now()
    folder = stores[0].experiment_folder
    chains: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for store in stores:
        try:
            chains[store.chain] = _served_chain(store, agenda, now)
        except (CyclerError, OSError) as error:
            unknown[store.chain] = str(error)
    return {
        "format": FORMAT,
        "experiment": setting.config.name,
        "written": iso_time(np.datetime64("now", "s")),
        "data_time": iso_time(now),
        "max_age_seconds": max_age(agenda),
        "disk_free_bytes": shutil.disk_usage(folder if folder.is_dir() else Path("/")).free,
        "chains": chains,
        "unknown": unknown,
    }


def aged(status: Mapping[str, Any], now: np.datetime64) -> dict[str, Any]:
    """The same status at a later data time: ages have grown, forecasts have less time left."""
    elapsed = int((now - parse_time(status["data_time"])) / _SECOND)
    chains = {name: _aged_chain(facts, elapsed) for name, facts in status["chains"].items()}
    return {**status, "data_time": iso_time(now), "chains": chains}


def _aged_chain(facts: Mapping[str, Any], elapsed: int) -> dict[str, Any]:
    older = dict(facts)
    if "data_age_seconds" in facts:
        older["data_age_seconds"] += elapsed
    if facts.get("forecast") is not None:
        older["forecast"] = {**facts["forecast"], "seconds_left": facts["forecast"]["seconds_left"] - elapsed}
    return older


def max_age(agenda: Agenda) -> int:
    """Age of the data (s) from which on they are stale: as configured, or three cycles."""
    config = agenda.arrivals.setting.config
    if config.operations.max_age is not None:
        return int(parse_duration(config.operations.max_age) / _SECOND)
    return int(3 * parse_duration(config.cycles.every) / _SECOND)


def chain_status(store: Store, now: np.datetime64) -> dict[str, Any]:
    """Facts of the newest complete cycle of a chain; raises MissingProduct when its summary is damaged."""
    latest = store.latest()
    if latest is None:
        return {"latest": None, "n_complete": 0}
    folder, summary = store.cycle_folder(latest), _summary(store.cycle_folder(latest))
    return {
        "latest": iso_time(latest),
        "data_age_seconds": int((now - latest) / _SECOND),
        "n_complete": len(store.complete_cycles()),
        "exit_code": summary["exit_code"],
        "degraded": summary["degraded"],
        "delivery": summary.get("delivery", "final"),
        "fallback": summary.get("fallback", {"rung": "full", "level": 0}),
        "counts": summary["counts"],
        "seconds": summary["seconds"],
        "manifest_sha256": sha256_file(folder / MANIFEST),
        "folder": str(folder),
    }


def _served_chain(store: Store, agenda: Agenda, now: np.datetime64) -> dict[str, Any]:
    pending = agenda.pending(store)
    return {
        **chain_status(store, now),
        "n_pending": len(pending),
        "n_due": sum(bool(time <= now) for time in pending),
        "first_due": next((iso_time(time) for time in pending if time <= now), None),
        "waiting": _waiting(store, agenda),
        "failure": read_failure(store.chain_folder),
        "forecast": forecast_facts(store, now),
    }


def _waiting(store: Store, agenda: Agenda) -> dict[str, Any] | None:
    """For which files the next cycle waits, and until when."""
    time = agenda.next_waiting(store)
    if time is None or agenda.arrivals.clock.now() < time:
        return None
    missing = [stream.name for stream in agenda.arrivals.missing(time)]
    return {"cycle": iso_time(time), "streams": missing, "until": iso_time(agenda.arrivals.runs_at(time))}


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "diag" / "summary.json"
    try:
        read: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise MissingProduct(
            f"{path} cannot be read ({error}); see what else is damaged with `cycler verify`, then run the cycle again "
            "with --force"
        ) from error
    return read
