"""Times: UTC only, seconds resolution, and the names made from them.

A cycle is named by its valid time, `20190917T1955Z`. A window is half open at the early end,
(valid - length, valid], so that consecutive windows share no observation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np

from cycler_da.errors import ConfigError

EPOCH = np.datetime64("1970-01-01T00:00:00", "s")
_SECOND = np.timedelta64(1, "s")
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*", re.ASCII)
_STAMP = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?", re.ASCII)
_UTC_SUFFIX = re.compile(r"(Z|\+00:00)$")


def parse_duration(text: str | int | float | np.timedelta64) -> np.timedelta64:
    """Read "5min", "24h", "1d" or "30s" as a duration in whole seconds.

    Raises ConfigError for anything else, including a bare number (its unit would be a guess) and a length
    that is not a whole number of seconds.
    """
    if isinstance(text, np.timedelta64):
        length = text.astype("timedelta64[s]")
        if length != text:  # true for NaT as well
            raise ConfigError(f"duration {text!r} is not a whole number of seconds")
        return length
    match = _DURATION.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"duration {text!r} is not understood; write a number and one of {', '.join(_UNITS)}")
    seconds = Fraction(match.group(1)) * _UNITS[match.group(2)]  # exact: 2.05 * 60 is not 123 in floating point
    if seconds.denominator != 1:
        raise ConfigError(f"duration {text!r} is not a whole number of seconds")
    return np.timedelta64(int(seconds), "s")


def format_duration(length: np.timedelta64) -> str:
    """Write a duration in the largest of h, min and s that divides it: 24h, 10min, 45s."""
    seconds = int(length / _SECOND)
    for unit in ("h", "min"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def parse_time(text: str | datetime | np.datetime64) -> np.datetime64:
    """Read a date or a time in ISO 8601 (or our own stamp 20200101T0000Z) as UTC, to the second.

    A trailing Z or +00:00 is allowed; another offset is refused in text, where it is more often an error
    than a wish. A `datetime` that knows its zone (YAML makes them) is converted. Raises ConfigError for
    anything else: fractions of a second would be lost, and words such as "now" cannot be run again.
    """
    if isinstance(text, np.datetime64):
        value = text.astype("datetime64[s]")
        if value != text:  # true for NaT as well
            raise ConfigError(f"time {text!r} is not a whole second")
        return value
    if isinstance(text, datetime):
        text = (text.astimezone(UTC) if text.tzinfo else text).replace(tzinfo=None).isoformat()
    cleaned = _UTC_SUFFIX.sub("", str(text).strip())
    if stamp := _STAMP.fullmatch(cleaned):
        year, month, day, hour, minute, second = stamp.groups()
        cleaned = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}"
    try:
        if not _ISO.fullmatch(cleaned):
            raise ValueError("not of the form YYYY-MM-DDTHH:MM:SS")
        return np.datetime64(cleaned.replace(" ", "T"), "s")
    except ValueError as error:
        raise ConfigError(
            f"time {text!r} is not an ISO 8601 time in UTC, such as 2020-01-01T00:00Z ({error})"
        ) from error


def time_stamp(time: np.datetime64) -> str:
    """Name of a time in files and folders: 20190917T1955Z (seconds appear only when they are not zero)."""
    moment = time.astype("datetime64[s]").astype(datetime)
    return moment.strftime("%Y%m%dT%H%MZ" if moment.second == 0 else "%Y%m%dT%H%M%SZ")


def iso_time(time: np.datetime64) -> str:
    """Write a time for people and attributes: 2019-09-17T19:55:00Z."""
    return f"{time.astype('datetime64[s]')}Z"


def epoch_seconds(time: np.datetime64) -> int:
    """Seconds since 1970-01-01T00:00:00 UTC (no leap seconds)."""
    return int((time.astype("datetime64[s]") - EPOCH) / _SECOND)


@dataclass(frozen=True)
class Window:
    """The observing window of one cycle, (start, stop]; `stop` is the cycle's valid time."""

    start: np.datetime64
    stop: np.datetime64

    @staticmethod
    def ending(stop: np.datetime64, length: np.timedelta64) -> Window:
        """Make the window of a given length that ends at a cycle's valid time."""
        return Window(stop - length, stop)

    def holds(self, times: np.ndarray) -> np.ndarray:
        """Tell which times lie in the window."""
        return (times > self.start) & (times <= self.stop)
