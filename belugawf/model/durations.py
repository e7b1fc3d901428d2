"""Durations and instants: how people write them, how code holds them, how files store them.

A duration is a `timedelta`; people write `"90s"`, `"10m"`, `"2h30m"`, `"7d"`, a number of
seconds, or a `timedelta`. An instant is an integer of nanoseconds since 1970 (UTC), always a
whole number of microseconds, so that its text form loses nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from belugawf.model.checking import shown
from belugawf.model.errors import DurationError

Duration: TypeAlias = timedelta | float | str

MICROSECOND_NS = 1_000
SECOND_NS = 1_000_000_000
# The year 10000, beyond which an instant has no text.
END_NS = 253_402_300_800 * SECOND_NS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(w|d|h|ms|m|us|s)")
_HINT = "write it with units: 90s, 10m, 2h30m, 7d"
# 100 years: longer than any run, and far below what an instant in a text of fixed width can hold.
LONGEST = timedelta(days=36_525)


def parse_duration(value: Duration, *, what: str | None = None) -> timedelta:
    """A duration from a `timedelta`, a number of seconds or a text with units.

    `what` names it in messages. Raises `DurationError` if it is none of these, negative, or longer
    than 100 years.
    """
    try:
        if isinstance(value, timedelta):
            duration = value
        elif isinstance(value, bool) or not isinstance(value, int | float | str):
            raise DurationError(f"{shown(value)} isn't a duration", hint=_HINT)
        elif isinstance(value, str):
            duration = parse_span(value)
        else:
            duration = timedelta(seconds=value)
        if duration < timedelta(0):
            raise DurationError(f"a duration cannot be negative: {shown(value)}", hint=_HINT)
        if duration > LONGEST:
            raise DurationError(f"a duration is at most 100 years: {shown(value)}", hint=_HINT)
        return duration
    except (OverflowError, ValueError) as error:
        if not isinstance(error, DurationError):
            error = DurationError(f"{shown(value)} seconds isn't a duration", hint=_HINT)
        message = error.message if what is None else f"{what}: {error.message}"
        raise DurationError(message, hint=error.hint) from None


def parse_span(text: str) -> timedelta:
    """The `timedelta` that `format_duration` has written, however long; or people, with units.

    Raises `DurationError`.
    """
    compact = text.strip().replace(" ", "")
    position = 0
    total = timedelta(0)
    while position < len(compact):
        part = _PART.match(compact, position)
        if part is None:
            break
        try:
            total += _UNITS[part[2]] * float(part[1])
        except OverflowError:
            raise DurationError(f"{shown(text)} is too long for a duration", hint=_HINT) from None
        position = part.end()
    if position == 0 or position != len(compact):
        raise DurationError(f"{shown(text)} isn't a duration", hint=_HINT)
    return total


@lru_cache(maxsize=256)
def format_duration(duration: timedelta) -> str:
    """The shortest exact text, which `parse_duration` reads back: `"2h30m"`, `"1s500ms"`."""
    rest = duration // timedelta(microseconds=1)
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit] // timedelta(microseconds=1))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def duration_ns(duration: timedelta) -> int:
    """The duration in nanoseconds."""
    return duration // timedelta(microseconds=1) * MICROSECOND_NS


def ns_duration(nanoseconds: int) -> timedelta:
    """The `timedelta` of so many nanoseconds, cut to microseconds."""
    return timedelta(microseconds=nanoseconds // MICROSECOND_NS)


@lru_cache(maxsize=64)  # events of one turn have one time, and often ended at one moment
def format_instant(instant: int) -> str:
    """ISO 8601 in UTC with microseconds and `Z`; texts sort as their instants do."""
    second, rest = divmod(instant, SECOND_NS)
    return f"{_format_second(second)}.{rest // MICROSECOND_NS:06d}Z"


@lru_cache(maxsize=64)  # what is written together is nearly always of the same seconds
def _format_second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).isoformat()[:19]


def parse_instant(text: str) -> int:
    """The inverse of `format_instant`. Raises `ValueError` for anything else."""
    # Histories have thousands of texts of that form, and many in a second.
    if len(text) == _WIDTH and text[19] == "." and text[26] == "Z" and text.isascii():
        fraction = text[20:26]
        if fraction.isdecimal():
            return _second_ns(text[:19]) + int(fraction) * MICROSECOND_NS
    return datetime_ns(datetime.fromisoformat(text))


_WIDTH = len("2000-01-01T00:00:00.000000Z")


@lru_cache(maxsize=256)
def _second_ns(text: str) -> int:
    return datetime_ns(datetime.fromisoformat(f"{text}Z"))


def to_micros(instant: int | None) -> int | None:
    """The instant as the database has it, in microseconds: they reach beyond the year 9999."""
    return None if instant is None else instant // MICROSECOND_NS


def from_micros(stored: int | None) -> int | None:
    """The inverse of `to_micros`. Raises `ValueError` for what is before 1970 or beyond 9999."""
    if stored is None:
        return None
    instant = stored * MICROSECOND_NS
    if not 0 <= instant < END_NS:
        raise ValueError(f"{stored} is no time")
    return instant


def datetime_ns(moment: datetime) -> int:
    """The instant of a timezone-aware datetime. Raises `ValueError` for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no timezone")
    return (moment - _EPOCH) // timedelta(microseconds=1) * MICROSECOND_NS


def ns_datetime(instant: int) -> datetime:
    """The timezone-aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=instant // MICROSECOND_NS)
