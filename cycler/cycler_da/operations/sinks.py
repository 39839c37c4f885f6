"""Where alerts go: a webhook (JSON by POST), a command (e-mail, SMS), or the log alone.

    - {kind: webhook, url_env: CYCLER_WEBHOOK}            # the address, a secret, stands in the environment
    - {kind: command, command: [mail, -s, "{title}", ops@example.org], at_least: error}

A command gets the text on standard input and the whole alert as JSON in `CYCLER_ALERT`; its arguments are filled in
with {title}, {kind}, {chain} and {severity}, and no shell is involved.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict

from cycler_da.errors import ConfigError
from cycler_da.operations.alerts import ERROR, Alert, Tell
from cycler_da.operations_blocks import SinkBlock

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # s
COMMAND_TIMEOUT = 60.0  # s


def make_tell(experiment: str, sinks: Sequence[SinkBlock]) -> Tell:
    """Tell all sinks; told means that each one was. Raises ConfigError for an address that is not set."""
    targets = [(sink, _url(sink)) for sink in sinks]

    def tell(alert: Alert, phase: str) -> bool:
        told = [_tell_one(sink, url, experiment, alert, phase) for sink, url in targets if _wants(sink, alert)]
        return all(told)

    return tell


def title_of(experiment: str, alert: Alert, phase: str) -> str:
    """One line for the subject of a mail."""
    where = f" {alert.chain}" if alert.chain else ""
    return f"[cycler] {experiment}{where}: {alert.kind} {phase} ({alert.severity})"


def text_of(experiment: str, alert: Alert, phase: str) -> str:
    """The whole alert for people."""
    lines = [title_of(experiment, alert, phase), f"stage: {alert.stage or '-'}", f"cause: {alert.cause}"]
    return "\n".join([*lines, f"what to do: {alert.action}", ""])


def _wants(sink: SinkBlock, alert: Alert) -> bool:
    return sink.at_least != ERROR or alert.severity == ERROR


def _tell_one(sink: SinkBlock, url: str, experiment: str, alert: Alert, phase: str) -> bool:
    content = {
        "experiment": experiment,
        "phase": phase,
        "title": title_of(experiment, alert, phase),
        "text": text_of(experiment, alert, phase),
        **asdict(alert),
    }
    try:
        if sink.kind == "webhook":
            _post(url, content)
        else:
            _run(sink.command, content)
    except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
        # Without the address: it may be a secret.
        log.warning("event=alert_not_told sink=%s kind=%s error=%s", sink.kind, alert.kind, _short(error))
        return False
    return True


def _post(url: str, content: dict[str, str]) -> None:
    request = urllib.request.Request(
        url, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT):
        pass


def _run(command: Sequence[str], content: dict[str, str]) -> None:
    filled = [_fill(word, content) for word in command]
    subprocess.run(
        filled,
        input=content["text"].encode(),
        env={**os.environ, "CYCLER_ALERT": json.dumps(content)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=COMMAND_TIMEOUT,
        check=True,
    )


def _fill(word: str, content: dict[str, str]) -> str:
    for name in ("title", "kind", "chain", "severity"):
        word = word.replace(f"{{{name}}}", content[name])
    return word


def _url(sink: SinkBlock) -> str:
    if sink.kind != "webhook" or sink.url is not None:
        return sink.url or ""
    url = os.environ.get(sink.url_env or "", "")
    if not url:
        raise ConfigError(
            f"operations.alerts: url_env is {sink.url_env}, and no such variable is set; set it for the service"
        )
    return url


def _short(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit code {error.returncode}"
    return type(error).__name__
