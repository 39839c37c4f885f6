"""SIGTERM as a request: the stage that runs is finished, then the run ends.

Prefect answers SIGTERM by itself, at once, wherever a flow stands: it raises TerminationSignal and then sends the
signal again to whoever listened before. So there are two shields, both made here. The one around each stage keeps
the signal until the stage is done. The one around the whole run receives what Prefect sends again after it has
unwound the flows between two stages; without it the process would die there, its locks not given back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Remembers a SIGTERM."""

    def __init__(self) -> None:
        self._came = threading.Event()

    def is_set(self) -> bool:
        """Tell whether SIGTERM came."""
        return self._came.is_set()

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Only remember SIGTERM meanwhile; outside the main thread, where signals are not ours, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, lambda *_: self._came.set())
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
