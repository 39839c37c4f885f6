"""Clocks: what time it is for the data, and how to wait.

A cycle is due by data time, never by the time at which a program happens to run. In service data time is the
time of the wall; a replay lets it pass faster, a file lets somebody else set it (drills, demonstrations), and
a test moves it by hand:

    wall             now
    replay:60        from the start of the experiment, 60 seconds for every second
    file:PATH        the ISO time that stands in a file; it never goes back

Limit: data time is UTC without leap seconds, as in `times`.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.times import parse_time

log = logging.getLogger(__name__)

_SECOND = np.timedelta64(1, "s")


class Clock(Protocol):
    """Says what time it is for the data."""

    def now(self) -> np.datetime64:
        """Data time, whole seconds UTC."""
        ...


@dataclass(frozen=True)
class WallClock:
    """Data time is the time of this host, which NTP must keep."""

    def now(self) -> np.datetime64:
        """The time of the host."""
        return np.datetime64("now", "s")


@dataclass(frozen=True)
class ReplayClock:
    """Data time starts at `start` and passes `speed` times as fast as `seconds`, a monotonic counter."""

    start: np.datetime64
    speed: float
    seconds: Callable[[], float] = clock.monotonic
    began: float = field(default_factory=clock.monotonic)

    def now(self) -> np.datetime64:
        """The time the replay has reached."""
        return self.start + int(self.speed * (self.seconds() - self.began)) * _SECOND


class FileClock:
    """Data time is what stands in a file; while it cannot be read, the last time read holds."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._latest = self._read()

    def now(self) -> np.datetime64:
        """The latest time that was ever read."""
        try:
            self._latest = max(self._latest, self._read())
        except ConfigError as error:
            log.warning("clock file is not read now: %s", error)
        return self._latest

    def _read(self) -> np.datetime64:
        try:
            return parse_time(self._path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"clock file {self._path} cannot be read: {error}; write an ISO time into it") from error


@dataclass
class HandClock:
    """Data time is moved by hand, in tests."""

    time: np.datetime64

    def now(self) -> np.datetime64:
        """The time it was set to."""
        return self.time


def make_clock(text: str, *, start: np.datetime64) -> Clock:
    """Read `wall`, `replay:SPEED` or `file:PATH`; raises ConfigError for anything else."""
    kind, _, value = text.partition(":")
    if text == "wall":
        return WallClock()
    if kind == "file" and value:
        return FileClock(Path(value))
    if kind == "replay":
        return ReplayClock(start, _speed(value))
    raise ConfigError(f"clock {text!r} is not understood; write wall, replay:SPEED (replay:60) or file:PATH")


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0.0 < speed < 1e9:
        raise ConfigError(f"clock replay:{text}: expected a number > 0, seconds of data time for every second")
    return speed
