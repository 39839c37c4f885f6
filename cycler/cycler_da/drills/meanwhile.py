"""Strike something from outside while a command runs: a thread that waits for its moment."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL = 0.05  # s


@contextmanager
def meanwhile(*, once: Callable[[], bool], after: float, strike: Callable[[], object]) -> Iterator[list[str]]:
    """Strike `after` seconds after `once` first holds, unless the block has ended; what failed is in the list."""
    ended = threading.Event()
    failures: list[str] = []

    def work() -> None:
        while not once():
            if ended.wait(POLL):
                return
        if ended.wait(after):
            return
        try:
            strike()
        except Exception as error:  # told by the drill, which would else count a strike that was none
            failures.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=work, name="strike", daemon=True)
    thread.start()
    try:
        yield failures
    finally:
        ended.set()
        thread.join()


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until something holds; raises TimeoutError that says what did not."""
    deadline = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        clock.sleep(POLL)
