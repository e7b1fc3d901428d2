"""Escaping, times and durations, as people and terminals get them."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, strategies as st

from belugawf.cli.render import (
    clock,
    escape,
    escape_lines,
    iso_local,
    json_text,
    moment,
    relative,
    short_duration,
)
from belugawf.cli.sentences import user_traceback
from tests.cli.fake import SECOND_NS

NOON = 1_795_608_000 * SECOND_NS  # 2026-11-25 12:00 UTC, a Wednesday


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 東京", "größe 東京"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    """What could steer a terminal is written as an escape, everything else stays."""
    assert escape(text) == shown


def test_escape_lines_keeps_lines() -> None:
    """Tracebacks keep their lines, and lose what is dangerous in them."""
    assert escape_lines("a\n\tb\x07") == "a\n    b\\x07"


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5))
def test_json_is_safe_and_valid(value: object) -> None:
    """JSON text reads back as the value, and no character in it steers a terminal."""
    text = json_text(value)
    assert json.loads(text) == value
    assert escape(text.replace("\n", "")) == text.replace("\n", "")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (1.24, "1.2s"),
        (59, "59s"),
        (200, "3m 20s"),
        (3_600, "1h"),
        (90_000, "1d 1h"),
    ],
)
def test_short_duration(seconds: float, shown: str) -> None:
    """Two units at most."""
    assert short_duration(seconds) == shown


@pytest.mark.parametrize(
    ("offset", "shown", "distance"),
    [
        (0, "12:00:00", "now"),
        (5, "12:00:05", "in 5s"),
        (-90, "11:58:30", "1m 30s ago"),
        (2 * 3_600, "14:00", "in 2h"),
        (-2 * 3_600 - 600, "09:50", "2h 10m ago"),
        (48 * 3_600 - 60, "Fri 11:59", "in 1d 23h"),  # FINDINGS L14
        (23 * 3_600, "tomorrow 11:00", "in 23h"),
        (-24 * 3_600, "yesterday 12:00", "1d ago"),
        (3 * 86_400, "Sat 12:00", "in 3d"),
        (30 * 86_400, "2026-12-25 12:00", "in 30d"),
    ],
)
def test_clock_and_distance(offset: int, shown: str, distance: str) -> None:
    """Near moments by their clock, far ones by their date, all with their distance."""
    instant = NOON + offset * SECOND_NS
    assert clock(instant, NOON) == shown
    assert relative(instant, NOON) == distance
    assert moment(instant, True, NOON) == f"{shown} ({distance})"


def test_pipes_get_iso_times() -> None:
    """In a pipe an instant is ISO 8601 with its offset."""
    assert iso_local(NOON) == "2026-11-25T12:00:00+00:00"


def test_traceback_keeps_the_users_frames() -> None:
    """Frames of belugawf, of the standard library and of packages are left out."""
    import asyncio

    import pytest as package

    import belugawf

    text = (
        "Traceback (most recent call last):\n"
        f'  File "{belugawf.__file__}", line 1, in drive\n    await it\n'
        '  File "/project/workflows/research.py", line 7, in research\n    return 1 / 0\n'
        "           ~~^~~\n"
        f'  File "{asyncio.__file__}", line 3, in run\n    run()\n'
        f'  File "{package.__file__}", line 3, in run\n    run()\n'
        "ZeroDivisionError: division by zero\n"
    )
    assert user_traceback(text) == (
        '  File "/project/workflows/research.py", line 7, in research\n    return 1 / 0\n'
        "           ~~^~~"
    )
    assert user_traceback(None) is None
    group = (
        "Exception Group Traceback (most recent call last):\n"
        f'  File "{asyncio.__file__}", line 3, in run\n    run()\n'
        "ExceptionGroup: several (1 sub-exception)\n"
        "  +-------- 1 of 1 --------\n"
        "  | ExceptionGroup: more (1 sub-exception)\n"
        "  |   +-------- 1 of 1 --------\n"
        "  |   | Traceback (most recent call last):\n"
        '  |   |   File "/project/workflows/research.py", line 7, in last\n'
        "  |   |     return piad\n"
        "  |   | NameError: name 'piad' is not defined\n"
    )
    assert user_traceback(group) == (
        '  File "/project/workflows/research.py", line 7, in last\n    return piad'
    )
