"""Text for people: escaping, times, tables, colours. Plain text needs no rich at all."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import datetime
from typing import Any

from belugawf.cli.streams import STREAMS
from belugawf.model.durations import SECOND_NS, ns_datetime

# Everything that moves a cursor, changes a colour or reorders text: control characters, line and
# paragraph separators, direction overrides, and halves of characters that no encoding can write.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_STYLES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}
STATUS_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "timed_out": "red",
    "cancelled": "yellow",
    "terminated": "yellow",
    "continued_as_new": "dim",
}


# -- escaping ------------------------------------------------------------------------------------


def escape(text: object) -> str:
    """Users' data on one line: whatever could steer a terminal is written as an escape."""
    shown = str(text)
    # To compile the pattern takes 1 ms.
    return shown if shown.isprintable() else re.sub(f"[{_UNSAFE}]", _escaped, shown)


def escape_lines(text: str) -> str:
    """As `escape`, keeping line ends; for tracebacks and results."""
    return "\n".join(escape(line) for line in text.replace("\t", "    ").splitlines())


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in _NAMED:
        return _NAMED[character]
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON that every terminal and every encoding can carry."""
    encoding = (getattr(STREAMS.data, "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(value, indent=indent, ensure_ascii=encoding != "utf8")
    if text.replace("\n", "").isprintable():
        return text
    # What lays it out stays; dumps has escaped all other control characters of ASCII but one.
    return re.sub(f"(?!\n)[{_UNSAFE}]", lambda match: f"\\u{ord(match[0]):04x}", text)


def json_line(value: Any) -> str:
    """The value as JSON on one line, for people."""
    return json_text(value, indent=None)


# -- colour --------------------------------------------------------------------------------------


class Paint:
    """Colours text or leaves it alone. `mode` is auto, always or never."""

    def __init__(self, mode: str, terminal: bool) -> None:
        wanted = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = mode == "always" or (mode == "auto" and wanted)

    def __call__(self, text: str, style: str) -> str:
        code = _STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and code else text

    def status(self, status: str) -> str:
        return self(status, STATUS_STYLES.get(status, ""))


# -- times ---------------------------------------------------------------------------------------


def now_ns() -> int:
    """The present instant."""
    return time.time_ns()


def local(instant: int) -> datetime:
    """The instant on the clock of the person who reads it."""
    return ns_datetime(instant).astimezone()


def iso_local(instant: int) -> str:
    """ISO 8601 in local time with its offset, to seconds; what pipes get."""
    return local(instant).isoformat(timespec="seconds")


def short_duration(seconds: float) -> str:
    """The two largest units: 5s, 1.2s, 3m 20s, 23h, 4d 2h."""
    if seconds < 0.0005:
        return "0s"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, name, smaller, small_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{name}" + (f" {rest}{small_name}" if rest else "")
    return f"{whole}s"


def relative(instant: int, now: int | None = None) -> str:
    """ "2h 10m ago", "in 23h 59m", "now"."""
    seconds = (instant - (now_ns() if now is None else now)) / SECOND_NS
    if abs(seconds) < 1:
        return "now"
    shown = short_duration(round(abs(seconds)))
    return f"in {shown}" if seconds > 0 else f"{shown} ago"


def clock(instant: int, now: int | None = None) -> str:
    """Local time as people say it: "14:02", "tomorrow 14:02", "Fri 14:02", "2026-12-24 14:02"."""
    moment = local(instant)
    today = local(now_ns() if now is None else now).date()
    days = (moment.date() - today).days
    if days == 0:
        soon = abs(instant - (now_ns() if now is None else now)) < 3_600 * SECOND_NS
        return f"{moment:%H:%M:%S}" if soon else f"{moment:%H:%M}"
    if days == 1:
        return f"tomorrow {moment:%H:%M}"
    if days == -1:
        return f"yesterday {moment:%H:%M}"
    if 1 < days < 7:
        return f"{moment:%a %H:%M}"
    return f"{moment:%Y-%m-%d %H:%M}"


def moment(instant: int, terminal: bool, now: int | None = None) -> str:
    """An instant with its distance: on a terminal as people say it, in a pipe ISO 8601."""
    shown = clock(instant, now) if terminal else iso_local(instant)
    return f"{shown} ({relative(instant, now)})"


def progress_text(progress: Any, *, unicode: bool = True) -> str:
    """A fraction from 0 to 1 as a bar with per cent, anything else as text."""
    if isinstance(progress, int | float) and not isinstance(progress, bool):
        if not 0 <= progress <= 1:
            return escape(progress)
        filled = round(progress * 20)
        full, empty = ("█", "░") if unicode else ("#", ".")
        return f"{full * filled}{empty * (20 - filled)} {progress:.0%}"
    return escape(progress)
