"""HTTP endpoint of a service: /healthz, /readyz, /metrics and /status, for machines that watch it.

    /healthz   200 while the service looks and works; 503 when it has been silent for too long: restart it
    /readyz    200 while every chain is known to have fresh data; 503 with the reasons otherwise: do not use it
    /metrics   Prometheus text format
    /status    status.json

It only reads; it has no password, and listens on the loopback interface unless it is told otherwise.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cycler_da.errors import ConfigError
from cycler_da.operations.metrics import CONTENT_TYPE

log = logging.getLogger(__name__)

JSON = "application/json; charset=utf-8"

#: What a path answers: status code, type and text.
Answer = tuple[int, str, str]


@contextmanager
def endpoint(address: str, answers: dict[str, Callable[[], Answer]]) -> Iterator[str]:
    """Answer on `HOST:PORT` meanwhile (port 0: a free one); gives the URL. Raises ConfigError when it cannot listen."""
    host, _, port = address.rpartition(":")
    try:
        server = ThreadingHTTPServer((host or "127.0.0.1", int(port)), _handler(answers))
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"--http {address}: cannot listen there ({error}); give HOST:PORT of a free port, such as 127.0.0.1:9464"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield f"http://{host or '127.0.0.1'}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def health(silent_seconds: float, limit: float) -> Answer:
    """Answer of /healthz."""
    facts = {"silent_seconds": round(silent_seconds, 1), "limit_seconds": limit}
    return (200 if silent_seconds <= limit else 503), JSON, json.dumps(facts) + "\n"


def readiness(status: dict[str, Any]) -> Answer:
    """Answer of /readyz: a chain is ready while its data are not stale, or when it has nothing left to do."""
    reasons = [reason for name, facts in status["chains"].items() for reason in _not_ready(name, facts, status)]
    reasons += [f"chain {name}: its state is unknown: {why}" for name, why in status["unknown"].items()]
    return (503 if reasons else 200), JSON, json.dumps({"ready": not reasons, "reasons": reasons}) + "\n"


def metrics(text: str) -> Answer:
    """Answer of /metrics."""
    return 200, CONTENT_TYPE, text


def _not_ready(name: str, facts: dict[str, Any], status: dict[str, Any]) -> Iterator[str]:
    if facts["latest"] is None:
        yield f"chain {name}: no complete cycle"
    elif facts["n_pending"] and facts["data_age_seconds"] > status["max_age_seconds"]:
        yield f"chain {name}: data are {facts['data_age_seconds']} s old, limit {status['max_age_seconds']} s"
    if facts["n_pending"] and (forecast := facts.get("forecast")) and forecast["seconds_left"] < 0:
        yield f"chain {name}: its forecast ended at {forecast['until']}"


def _unknown(answers: dict[str, Callable[[], Answer]]) -> Answer:
    return 404, JSON, json.dumps({"paths": sorted(answers)}) + "\n"


def _handler(answers: dict[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer one of the known paths."""
            found = answers.get(self.path.split("?")[0], lambda: _unknown(answers))
            try:
                code, kind, text = found()
            except Exception:  # a question must not end the service
                log.exception("event=endpoint_failed path=%s", self.path)
                code, kind, text = 500, JSON, '{"error": "see the log"}\n'
            content = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Questions are not logged: there is one every few seconds."""

    return Handler
