"""Durations and instants: what people write is what is meant, and texts lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, strategies as st

from belugawf.model.durations import (
    MICROSECOND_NS,
    SECOND_NS,
    datetime_ns,
    duration_ns,
    format_duration,
    format_instant,
    ns_datetime,
    ns_duration,
    parse_duration,
    parse_instant,
)
from belugawf.model.errors import DurationError, UsageError

LONGEST = timedelta(days=36_525)
DURATIONS = st.timedeltas(timedelta(0), LONGEST)
# From 1970 to 2200; runs live now.
INSTANTS = st.integers(0, 7_258_118_400 * 1_000_000).map(lambda us: us * MICROSECOND_NS)


@pytest.mark.parametrize(
    ("value", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("2h30m", timedelta(hours=2, minutes=30)),
        ("2h 30m ", timedelta(hours=2, minutes=30)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("1.5h", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("3us", timedelta(microseconds=3)),
        ("1m500ms", timedelta(seconds=60.5)),
        ("0s", timedelta(0)),
        (90, timedelta(seconds=90)),
        (0.25, timedelta(milliseconds=250)),
        (timedelta(hours=1), timedelta(hours=1)),
        (LONGEST, LONGEST),
    ],
)
def test_parse_duration(value: Any, duration: timedelta) -> None:
    """A text with units, a number of seconds and a timedelta are durations."""
    assert parse_duration(value) == duration


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "90", "1:30", "h", "5 minutes", "10x", "-5s", "s5", "1h30", "1e3s", ".5s", "5.s",
        -1, -0.5, timedelta(seconds=-1), float("nan"), float("inf"), 10**30, True, None, [], b"5s",
        "101w" * 100, "9" * 400 + "d", LONGEST + timedelta(microseconds=1),
    ],
)  # fmt: skip
def test_parse_duration_refuses(value: Any) -> None:
    """Anything else is a DurationError, which is a usage error, a ValueError, and has a hint."""
    with pytest.raises(DurationError) as caught:
        parse_duration(value)
    assert isinstance(caught.value, UsageError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=2, minutes=30), "2h30m"),
        (timedelta(days=21), "21d"),
        (timedelta(seconds=1.5), "1s500ms"),
        (timedelta(microseconds=1), "1us"),
    ],
)
def test_format_duration(duration: timedelta, text: str) -> None:
    """Durations are shown in the largest units that say them exactly."""
    assert format_duration(duration) == text


@given(DURATIONS)
def test_durations_come_back(duration: timedelta) -> None:
    """Formatted and parsed, a duration is the same to the microsecond."""
    assert parse_duration(format_duration(duration)) == duration
    assert ns_duration(duration_ns(duration)) == duration


@given(INSTANTS)
def test_instants_come_back(instant: int) -> None:
    """Formatted and parsed, an instant is the same."""
    assert parse_instant(format_instant(instant)) == instant
    assert datetime_ns(ns_datetime(instant)) == instant


@given(INSTANTS, INSTANTS)
def test_instant_texts_sort_as_instants(one: int, other: int) -> None:
    """SQL compares the texts: they are in the order of time."""
    assert (format_instant(one) < format_instant(other)) == (one < other)


@given(INSTANTS, st.integers(0, 999))
def test_instants_are_cut_to_microseconds(instant: int, nanoseconds: int) -> None:
    """What is finer than a microsecond is cut off, never rounded up."""
    assert format_instant(instant + nanoseconds) == format_instant(instant)
    assert duration_ns(ns_duration(instant + nanoseconds)) == instant


def test_format_instant() -> None:
    """Instants have microseconds, always, and end in Z."""
    assert format_instant(0) == "1970-01-01T00:00:00.000000Z"
    assert format_instant(1_500 * MICROSECOND_NS + SECOND_NS) == "1970-01-01T00:00:01.001500Z"


def test_parse_instant_reads_other_zones() -> None:
    """An offset is taken into account; no timezone at all is refused."""
    assert parse_instant("1970-01-01T01:00:00+01:00") == 0
    assert parse_instant("1970-01-01T00:00:00Z") == 0
    for text in ("1970-01-01T00:00:00", "yesterday", ""):
        with pytest.raises(ValueError, match=r"timezone|isoformat"):
            parse_instant(text)


def test_datetime_ns() -> None:
    """The same moment in two zones is the same instant."""
    moment = datetime(2025, 6, 1, 12, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=-5, minutes=-30)))
    assert datetime_ns(moment) == datetime_ns(there) == 1_748_779_200 * SECOND_NS


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:01.000002Z", SECOND_NS + 2 * MICROSECOND_NS),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:01+01:00", SECOND_NS),
        ("1969-12-31T23:59:59.000001Z", -SECOND_NS + MICROSECOND_NS),
        ("1970-01-01T00:00:01.1234567Z", SECOND_NS + 123_456_000),
    ],
)
def test_parse_instant(text: str, instant: int) -> None:
    """Any ISO 8601 with a zone is read, of the width that we write and of another."""
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "", "x" * 27, "1970-01-01T00:00:00.00 001Z", "1970-01-01T00:00:00.+00001Z",
        "1970-01-01T00:00:00.00_001Z", "1970-01-01T00:00:60.000001Z",
        "1970-13-01T00:00:00.000001Z", "1970-01-01T00:00:00.00000١Z",
        "1970-01-01T00:00:00.000001", "1970-01-01T00:00:00.000001x",
        "1970-01-01T00:00Z  .000001Z",
    ],
)  # fmt: skip
def test_parse_instant_refuses(text: str) -> None:
    """What only looks like the form that we write is refused as everything else."""
    with pytest.raises(ValueError, match=r"."):
        parse_instant(text)
