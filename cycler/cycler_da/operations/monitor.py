"""The monitor of a service: after every look, status, alerts and what the endpoint answers are made anew.

It reads the store, not the memory of who runs cycles, so it works beside any orchestrator and after any restart.
What fails in it is logged and never ends the service.
"""

from __future__ import annotations

import json
import logging
import threading
import time as clock
from collections.abc import Callable
from typing import Any

import numpy as np

from cycler_da.agenda import Agenda
from cycler_da.errors import CyclerError
from cycler_da.operations.alerts import FILE_NAME as ALERTS
from cycler_da.operations.alerts import AlertBook, find_alerts
from cycler_da.operations.current_forecast import retire_forecasts
from cycler_da.operations.endpoint import JSON, Answer, health, metrics, readiness
from cycler_da.operations.limits import excesses
from cycler_da.operations.metrics import exposition
from cycler_da.operations.sinks import make_tell
from cycler_da.operations.status import FILE_NAME as STATUS
from cycler_da.operations.status import experiment_status
from cycler_da.products.atomic import write_json_atomically
from cycler_da.products.store import Store
from cycler_da.times import parse_duration

log = logging.getLogger(__name__)

NOT_YET: Answer = (503, JSON, '{"ready": false, "reasons": ["no look has ended yet"]}\n')


class Monitor:
    """Watches one experiment; `silence_limit` (s) is how long nothing may happen before /healthz says so."""

    def __init__(self, agenda: Callable[[], Agenda], *, silence_limit: float) -> None:
        self._agenda, self._silence_limit = agenda, silence_limit
        self._lock, self._beat = threading.Lock(), clock.monotonic()
        self._status: dict[str, Any] | None = None
        setting = agenda().arrivals.setting
        self._folder = setting.root / setting.config.name
        self._config = setting.config.operations
        tell = make_tell(setting.config.name, self._config.alerts.sinks)
        self._book = AlertBook(self._folder / ALERTS, tell, repeat=parse_duration(self._config.alerts.repeat))

    def beat(self) -> None:
        """Something happened: a stage began or ended, a look ended."""
        self._beat = clock.monotonic()

    def refresh(self) -> None:
        """Make status and alerts anew, tell what is new, write `status.json`."""
        self.beat()
        try:
            status = self._made()
            with self._lock:
                self._status = status
            write_json_atomically(self._folder / STATUS, status)
        except (CyclerError, OSError) as error:
            log.error("event=monitor_failed error=%s", error)
        except Exception:  # a bug of the monitor must not end the service
            log.exception("event=monitor_failed error=a bug")

    def answers(self) -> dict[str, Callable[[], Answer]]:
        """What the endpoint answers, by path."""
        return {
            "/healthz": lambda: health(clock.monotonic() - self._beat, self._silence_limit),
            "/readyz": lambda: self._answer(readiness),
            "/metrics": lambda: self._answer(lambda s: metrics(exposition(s, alerts=s["alerts"]))),
            "/status": lambda: self._answer(lambda s: (200, JSON, json.dumps(s, indent=1) + "\n")),
        }

    def _made(self) -> dict[str, Any]:
        agenda = self._agenda()
        status = experiment_status(agenda)
        setting = agenda.arrivals.setting
        stores = [Store(setting.root, setting.config.name, chain) for chain in status["chains"]]
        for store in stores:
            retire_forecasts(store, agenda.arrivals.clock.now())
        outside = {store.chain: excesses(store, self._config.limits) for store in stores}
        alerts = find_alerts(status, outside, min_free_bytes=self._config.min_free_gb * 1e9)
        status["alerts"] = self._book.update(alerts, np.datetime64("now", "s"))
        return status

    def _answer(self, make: Callable[[dict[str, Any]], Answer]) -> Answer:
        with self._lock:
            status = self._status
        return NOT_YET if status is None else make(status)
