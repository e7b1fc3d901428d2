"""The types that stand in JSON as text: instants, durations, ids, exact numbers, bytes, paths.

One table for writing, reading, describing and checking them, so that these cannot disagree.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

from belugawf.model.durations import format_duration, parse_span
from belugawf.model.values import frozen


@frozen()
class TextForm:
    """How values of `type` are written as text and read from it.

    `format` is its name in a schema, `example` is shown to people. `write` and `read` raise
    `ValueError` for what has no such form; `key` says whether it may be a key of an object.
    """

    type: type
    format: str
    example: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    key: bool = False

    def described(self, kind: Any) -> str:
        """A type of this form, for people."""
        return f'{kind.__name__}, a text such as "{self.example}"'


# Texts: a pattern is compiled when one is read.
_CLOCK = r"\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d(:\d\d(\.\d+)?)?)?"
_DATE = r"\d{4}-\d\d-\d\d"
_DATETIME = _DATE + "[T ]" + _CLOCK
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DECIMAL = r"(?a)[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?"


def _matching(pattern: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """`read` for texts of one shape: fromisoformat and UUID accept many more than people expect."""

    def read_matching(text: str) -> Any:
        if re.fullmatch(pattern, text) is None:
            raise ValueError
        return read(text)

    return read_matching


def _write_timedelta(value: timedelta) -> str:
    if value < timedelta(0):
        raise ValueError("a negative timedelta has no JSON form")
    return format_duration(value)


def _write_decimal(value: Any) -> str:
    if not value.is_finite():
        raise ValueError("a Decimal that is not finite has no JSON form")
    text = str(value)
    if re.fullmatch(_DECIMAL, text) is None:
        raise ValueError("a Decimal with an exponent of more than 9 digits has no JSON form")
    return text


def _write_clock(value: datetime | time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError("a time whose zone depends on the date has no JSON form")
    return value.isoformat()


def _write_bytes(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


@cache
def text_forms() -> tuple[TextForm, ...]:
    """The table, in the order in which a type is looked up: subclasses first.

    `uuid`, `decimal` and `pathlib` are imported here, when the first value is met that is not
    plain: together they cost more than everything else in the model.
    """
    from decimal import Decimal
    from pathlib import PurePath
    from uuid import UUID

    return (
        TextForm(
            datetime,
            "date-time",
            "2025-12-31T18:00:00+01:00",
            _write_clock,
            _matching(_DATETIME, datetime.fromisoformat),
            key=True,
        ),
        TextForm(
            date, "date", "2025-12-31", date.isoformat, _matching(_DATE, date.fromisoformat), True
        ),
        TextForm(time, "time", "18:00:00", _write_clock, _matching(_CLOCK, time.fromisoformat)),
        TextForm(timedelta, "duration-with-units", "2h30m", _write_timedelta, parse_span),
        TextForm(
            UUID,
            "uuid",
            "123e4567-e89b-12d3-a456-426614174000",
            str,
            _matching(_UUID, UUID),
            key=True,
        ),
        TextForm(Decimal, "decimal", "12.50", _write_decimal, _matching(_DECIMAL, Decimal)),
        TextForm(bytes, "base64", "aGVsbG8=", _write_bytes, _read_bytes),
        TextForm(PurePath, "path", "folder/file.txt", str, PurePath),
    )


def form_of(kind: type) -> TextForm | None:
    """The form for values of `kind`, `None` if it has none."""
    for form in text_forms():
        if issubclass(kind, form.type):
            return form
    return None


@cache
def form_called(name: str) -> TextForm | None:
    """The form that a schema calls by this `format`; `None` for one that is not known here."""
    for form in text_forms():
        if form.format == name:
            return form
    return None
