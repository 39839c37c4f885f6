"""Times are UTC to the second, are written and read without loss, and never guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycler_da.errors import ConfigError
from cycler_da.times import (
    EPOCH,
    Window,
    epoch_seconds,
    format_duration,
    iso_time,
    parse_duration,
    parse_time,
    time_stamp,
)

# Years 1000 to 9999: four digits, as in the names of folders.
seconds_of_time = st.integers(-30_610_224_000, 253_402_300_799)
lengths = st.integers(0, 10**9)


@given(seconds_of_time)
def test_a_time_survives_every_way_of_writing_it(seconds):
    time = EPOCH + np.timedelta64(seconds, "s")
    assert parse_time(time_stamp(time)) == time
    assert parse_time(iso_time(time)) == time
    assert EPOCH + np.timedelta64(epoch_seconds(time), "s") == time


@given(lengths)
def test_a_duration_survives_being_written(seconds):
    length = np.timedelta64(seconds, "s")
    assert parse_duration(format_duration(length)) == length


@given(st.integers(0, 10**6), st.sampled_from(["s", "min", "h", "d"]))
def test_a_hundredth_of_a_unit_is_read_exactly_or_refused(hundredths, unit):
    text = f"{hundredths // 100}.{hundredths % 100:02d}{unit}"
    exact = hundredths * {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
    if exact % 100:
        with pytest.raises(ConfigError, match="whole number of seconds"):
            parse_duration(text)
    else:
        assert parse_duration(text) == np.timedelta64(exact // 100, "s")


def test_times_are_named_as_documented():
    time = np.datetime64("2019-09-17T19:55:00")
    assert time_stamp(time) == "20190917T1955Z"
    assert time_stamp(time + np.timedelta64(7, "s")) == "20190917T195507Z"
    assert iso_time(time) == "2019-09-17T19:55:00Z"
    assert epoch_seconds(time) == 1568750100


def test_names_of_times_sort_like_the_times():
    times = np.datetime64("2019-12-31T23:50:00") + np.arange(6) * np.timedelta64(5, "m")
    names = [time_stamp(time) for time in times]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("seconds", "text"), [(86400, "24h"), (600, "10min"), (45, "45s"), (5400, "90min"), (0, "0s"), (3601, "3601s")]
)
def test_durations_are_written_in_the_largest_unit_that_divides_them(seconds, text):
    assert format_duration(np.timedelta64(seconds, "s")) == text


@pytest.mark.parametrize("text", ["5", 5, "5 minutes", "", "h", "-1h", "1h30min", "1e3s", "٣h", "0.5s"])
def test_a_duration_without_a_clear_unit_is_refused(text):
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("length", [np.timedelta64(1500, "ms"), np.timedelta64("NaT", "s")])
def test_a_duration_that_seconds_cannot_hold_is_refused_not_truncated(length):
    with pytest.raises(ConfigError, match="whole number of seconds"):
        parse_duration(length)


@pytest.mark.parametrize(
    "text",
    [
        "2020-02-29T06:00:00Z",
        "2020-02-29T06:00",
        "2020-02-29 06:00:00+00:00",
        " 20200229T0600Z ",
        "20200229T060000",
        datetime(2020, 2, 29, 6, tzinfo=UTC),
        datetime(2020, 2, 29, 8, tzinfo=timezone(timedelta(hours=2))),
        datetime(2020, 2, 29, 6),
        np.datetime64("2020-02-29T06", "h"),
    ],
)
def test_one_time_may_be_written_in_several_ways(text):
    assert parse_time(text) == np.datetime64("2020-02-29T06:00:00", "s")


def test_a_date_is_its_midnight():
    assert parse_time("2020-01-01") == np.datetime64("2020-01-01T00:00:00", "s")


@pytest.mark.parametrize(
    "text",
    [
        "now",  # would make a run that cannot be run again
        "today",
        "NaT",
        "",
        "2020",
        "2020-01",
        "2020-01-01T25:00",
        "2021-02-29",
        "2020-01-01T00:00+02:00",
        "2020-01-01T00:00:00.7",
        "01.02.2020",
        datetime(2020, 1, 1, microsecond=5),
        np.datetime64("2020-01-01T00:00:00.900"),
        np.datetime64("NaT"),
    ],
)
def test_a_time_that_is_not_one_second_in_utc_is_refused(text):
    with pytest.raises(ConfigError, match="time"):
        parse_time(text)


@given(seconds_of_time, st.integers(1, 10**7), st.integers(-(10**7), 2 * 10**7))
def test_consecutive_windows_share_no_time_and_leave_no_gap(start, length, offset):
    middle = EPOCH + np.timedelta64(start, "s")
    step = np.timedelta64(length, "s")
    first, second = Window.ending(middle, step), Window.ending(middle + step, step)
    time = np.array([middle - step + np.timedelta64(offset, "s")])
    is_in_both_spans = middle - step < time[0] <= middle + step
    assert int(first.holds(time)[0]) + int(second.holds(time)[0]) == int(is_in_both_spans)


def test_a_window_holds_its_valid_time_but_not_its_start():
    window = Window.ending(np.datetime64("2020-01-02T00:00:00"), parse_duration("24h"))
    times = np.array(["2020-01-01T00:00:00", "2020-01-01T00:00:01", "2020-01-02T00:00:00", "NaT"], "datetime64[s]")
    assert window.holds(times).tolist() == [False, True, True, False]
