"""The journal: every log line once more as one JSON object, for programs that read logs.

    {"time": "2020-01-01T06:00:02.125Z", "level": "INFO", "logger": "...", "text": "event=cycle_finished chain=letkf",
     "event": "cycle_finished", "chain": "letkf"}

`key=value` words of the text stand as fields of their own, as text. The file turns over at 10 MB and five older ones
are kept, so that its size is bounded. A journal that cannot be written does not hold up the service.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

LARGEST, KEPT = 10_000_000, 5

#: Loggers below which all lines of Cycler are.
LOGGERS = ("cycler_da", "cycler_flows")

_FIELD = re.compile(r"(?:^|\s)([a-z_]+)=(\S+)")
_OWN = ("time", "level", "logger", "text", "traceback")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        text = record.getMessage()
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {name: value for name, value in _FIELD.findall(text) if name not in _OWN}
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "text": text,
            **fields,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Quiet(logging.handlers.RotatingFileHandler):
    """Gives a line up when the disk refuses it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the readable log has the line, and alerts tell of the disk."""


@contextmanager
def journal_to(path: Path) -> Iterator[None]:
    """Write all log lines of Cycler to a file meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Quiet(path, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    with lines_sent_to(handler):
        yield


@contextmanager
def lines_sent_to(handler: logging.Handler) -> Iterator[None]:
    """Hand all log lines of Cycler to a handler meanwhile, and close it."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
