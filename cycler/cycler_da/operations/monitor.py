"""The monitor of a service: after every look, status, alerts and what the endpoint answers are made anew.

It reads the store, not the memory of who runs cycles, so it works beside any orchestrator and after any restart.
What fails in it is logged, is an alert `monitor`, makes /readyz say no, and never ends the service.
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
from cycler_da.operations.alerts import Alert, AlertBook, blindness, find_alerts
from cycler_da.operations.current_forecast import retire_forecasts
from cycler_da.operations.endpoint import JSON, Answer, health, metrics, readiness
from cycler_da.operations.limits import Excess, excesses
from cycler_da.operations.metrics import exposition
from cycler_da.operations.signs import signs_of_life
from cycler_da.operations.sinks import make_tell
from cycler_da.operations.status import FILE_NAME as STATUS
from cycler_da.operations.status import aged, experiment_status
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
        self._not_ready, self._unwritten, self._signs_seen = NOT_YET, "", 0
        arrivals = agenda().arrivals
        setting, self._clock = arrivals.setting, arrivals.clock
        self._folder = setting.root / setting.config.name
        self._config = setting.config.operations
        tells = [make_tell(setting.config.name, [sink]) for sink in self._config.alerts.sinks]
        self._book = AlertBook(self._folder / ALERTS, *tells, repeat=parse_duration(self._config.alerts.repeat))

    def beat(self) -> None:
        """Something happened: a stage began or ended, a look ended. Watching alone is no sign of life."""
        self._beat = clock.monotonic()

    def follow(self) -> None:
        """Beat when a look in another process has given a sign of life since the last call."""
        signs = signs_of_life(self._folder)
        if signs != self._signs_seen:
            self._signs_seen = signs
            self.beat()

    def refresh(self) -> None:
        """Make status and alerts anew, tell what is new, write `status.json`."""
        try:
            status = self._made()
        except Exception as error:  # nor may a bug of the monitor end the service
            is_bug = not isinstance(error, CyclerError | OSError)
            log.error("event=monitor_failed error=%r", error, exc_info=is_bug)
            self._go_blind(f"{type(error).__name__}: {error}" if is_bug else str(error))
            return
        with self._lock:
            self._status = status
        self._write(status)

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
        outside: dict[str, list[Excess]] = {}
        for chain in status["chains"]:
            store = Store(setting.root, setting.config.name, chain)
            try:
                retire_forecasts(store, agenda.arrivals.clock.now())
                outside[chain] = list(excesses(store, self._config.limits))
            except (CyclerError, OSError) as error:
                status["unknown"][chain] = str(error)
        for chain, why in status["unknown"].items():
            log.error("event=monitor_failed chain=%s error=%s", chain, why)
        alerts = self._book.lasting(status["unknown"])  # they last until the chain is seen again
        alerts += find_alerts(status, outside, min_free_bytes=self._config.min_free_gb * 1e9)
        if self._unwritten:
            alerts.append(blindness("", self._unwritten))
        status["alerts"] = self._book.update(alerts, np.datetime64("now", "s"))
        return status

    def _go_blind(self, why: str) -> None:
        """Answer that nothing is known, and tell so, beside what was the matter before."""
        reason = {"ready": False, "reasons": [f"the state is unknown: {why}"]}
        with self._lock:
            self._status, self._not_ready = None, (503, JSON, json.dumps(reason) + "\n")
        alerts: list[Alert] = [*self._book.lasting(), blindness("", why)]
        self._book.update(alerts, np.datetime64("now", "s"))

    def _write(self, status: dict[str, Any]) -> None:
        try:
            write_json_atomically(self._folder / STATUS, status)
            self._unwritten = ""
        except (CyclerError, OSError) as error:
            self._unwritten = str(error)  # an alert of the next time
            log.error("event=monitor_failed error=%s", error)

    def _answer(self, make: Callable[[dict[str, Any]], Answer]) -> Answer:
        with self._lock:
            status, not_ready = self._status, self._not_ready
        return not_ready if status is None else make(aged(status, self._clock.now()))
