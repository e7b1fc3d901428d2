"""The events of a history, as frozen values and as rows.

Three kinds (`Kind`): *facts* tell the workflow that something happened, *commands* record what
its code asked for, *notes* are kept for people and for the engine and skipped by replay. The
*closing* event ends the history; if it answers a command it is both.

As a row an event is `(position, type, time, at, started_at, seq, name, data, payload)`: `payload`
is the one JSON text an event carries (arguments, result, signal payload, failure), `data` a JSON
object of its remaining fields, without those that have their default value.

Instants are nanoseconds since 1970 in UTC, and in the columns of a row microseconds. `at` is when
a fact happened outside (its order key), `time` when it was applied: never before the event before.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from functools import lru_cache, partial
from typing import Any, ClassVar, TypeAlias

from belugawf.model.durations import (
    MICROSECOND_NS,
    format_duration,
    format_instant,
    from_micros,
    parse_duration,
    parse_instant,
)
from belugawf.model.values import frozen


class Kind(Enum):
    """What replay does with an event."""

    FACT = "fact"
    COMMAND = "command"
    NOTE = "note"
    CLOSING = "closing"


Row: TypeAlias = tuple[
    int,
    str,
    int,
    int | None,
    int | None,
    int | None,
    str | None,
    str | None,
    str | None,
]


@frozen(kw_only=True)
class Event:
    """One line of a history: its `position` counts from 1."""

    kind: ClassVar[Kind]
    payload_key: ClassVar[str] = "payload"
    position: int
    time: int


# -- facts ---------------------------------------------------------------------------------------


@frozen(kw_only=True)
class WorkflowStarted(Event):
    """The first event. `payload` is the input (`None`: none was given).

    `deadline` bounds the whole chain of runs.
    `python` and `belugawf` are the versions it started on, so that a mismatch can name them.
    """

    kind = Kind.FACT
    payload_key = "input"
    name: str
    workflow_id: str
    run_id: str
    payload: str | None = None
    deadline: int | None = None
    python: str = ""
    belugawf: str = ""
    parent: str | None = None


@frozen(kw_only=True)
class SignalReceived(Event):
    """A signal sent at `at`. `unread`: the run ended before its code could see it (a note)."""

    kind = Kind.FACT
    name: str
    payload: str
    at: int
    sender: str | None = None
    key: str | None = None
    unread: bool = False


@frozen(kw_only=True)
class CancelRequested(Event):
    kind = Kind.FACT
    at: int
    reason: str | None = None
    sender: str | None = None


@frozen(kw_only=True)
class TimerFired(Event):
    """Timer `seq` was due at `at`."""

    kind = Kind.FACT
    seq: int
    at: int


@frozen(kw_only=True)
class ActivityCompleted(Event):
    """Activity `seq` returned at `at`, in attempt number `attempt`, begun at `started_at`.

    `unread`: the run ended before its code could see it (a note).
    """

    kind = Kind.FACT
    payload_key = "result"
    seq: int
    payload: str
    at: int
    attempt: int = 1
    started_at: int | None = None
    unread: bool = False


@frozen(kw_only=True)
class ActivityFailed(Event):
    """Activity `seq` failed for good; the payload is a `Failure`.

    `unread` as in ActivityCompleted.
    """

    kind = Kind.FACT
    payload_key = "error"
    seq: int
    payload: str
    at: int
    attempt: int = 1
    started_at: int | None = None
    unread: bool = False


@frozen(kw_only=True)
class ActivityTimedOut(Event):
    """As ActivityFailed, by a limit: "timeout", "total_timeout" or "heartbeat_timeout"."""

    kind = Kind.FACT
    payload_key = "error"
    seq: int
    payload: str
    at: int
    limit: str
    attempt: int = 1
    started_at: int | None = None
    unread: bool = False


# -- recorded commands ---------------------------------------------------------------------------


@frozen(kw_only=True)
class ActivityScheduled(Event):
    """`payload` is the JSON array of arguments; the options are the resolved ones.

    `late`: scheduled while the run caught up after an outage, so that overdue timers wait for it.
    """

    kind = Kind.COMMAND
    payload_key = "arguments"
    seq: int
    name: str
    payload: str
    activity_id: str = ""
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    heartbeat_timeout: timedelta | None = None
    max_attempts: int = 1
    initial_delay: timedelta = timedelta(seconds=1)
    backoff_coefficient: float = 2.0
    max_delay: timedelta = timedelta(seconds=100)
    jitter: float = 0.0
    non_retryable: tuple[str, ...] = ()
    at_most_once: bool = False
    isolation: str = "none"
    late: bool = False


@frozen(kw_only=True)
class ActivityCancelRequested(Event):
    kind = Kind.COMMAND
    seq: int


@frozen(kw_only=True)
class TimerStarted(Event):
    """`due_at` is the engine's clock plus `delay`, and is what the engine fires by."""

    kind = Kind.COMMAND
    seq: int
    delay: timedelta
    due_at: int


@frozen(kw_only=True)
class TimerCancelled(Event):
    kind = Kind.COMMAND
    seq: int


@frozen(kw_only=True)
class WaitStarted(Event):
    """The run waits for signal `name`, until `until` (`None`: for ever)."""

    kind = Kind.COMMAND
    seq: int
    name: str
    until: int | None = None
    prompt: str | None = None
    expected: str | None = None
    schema: str | None = None


@frozen(kw_only=True)
class WaitEnded(Event):
    kind = Kind.COMMAND
    seq: int
    outcome: str = "received"


# -- notes ---------------------------------------------------------------------------------------


@frozen(kw_only=True)
class AttemptStarted(Event):
    """Committed before the attempt starts. First attempts have none, unless `at_most_once`.

    `alone`: a suspect, whose process may die of it.
    """

    kind = Kind.NOTE
    seq: int
    attempt: int
    alone: bool = False


@frozen(kw_only=True)
class AttemptFailed(Event):
    """An attempt failed at `at` and the next one is due at `retry_at`."""

    kind = Kind.NOTE
    payload_key = "error"
    seq: int
    payload: str
    at: int
    attempt: int
    retry_at: int
    started_at: int | None = None


@frozen(kw_only=True)
class AttemptInterrupted(Event):
    """The process of an attempt ended under it; `reason` is "crash", "shutdown" or "reboot".

    `crashes` is how many deaths count against the activity after this one.
    """

    kind = Kind.NOTE
    seq: int
    attempt: int
    reason: str
    crashes: int = 0


@frozen(kw_only=True)
class RunReopened(Event):
    """The run is taken up again after event `to`: what stands between does not count any more.

    `attempts` are the numbers of the next attempts of the activities that were open then, by seq;
    `deadline` is the new one. `reason` and `sender` say why, and who asked for it.
    """

    kind = Kind.NOTE
    to: int
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)
    deadline: int | None = None
    reason: str | None = None
    sender: str | None = None


# -- the end -------------------------------------------------------------------------------------


@frozen(kw_only=True)
class WorkflowCompleted(Event):
    kind = Kind.CLOSING
    payload_key = "result"
    payload: str


@frozen(kw_only=True)
class WorkflowFailed(Event):
    kind = Kind.CLOSING
    payload_key = "error"
    payload: str


@frozen(kw_only=True)
class WorkflowCancelled(Event):
    kind = Kind.CLOSING


@frozen(kw_only=True)
class WorkflowTerminated(Event):
    """Ended from outside, without running its code."""

    kind = Kind.CLOSING
    reason: str | None = None
    sender: str | None = None


@frozen(kw_only=True)
class WorkflowTimedOut(Event):
    """The run's deadline, at `at`, passed; `payload` says why it was parked then, if it was."""

    kind = Kind.CLOSING
    payload_key = "error"
    at: int
    payload: str | None = None


EVENT_TYPES: dict[str, type[Event]] = {
    name: kind
    for name, kind in globals().items()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}

# Which fields stand in columns of their own, and how the other ones are written in `data`.
_COLUMNS = frozenset({"position", "time", "at", "started_at", "seq", "name", "payload"})
_INSTANTS = frozenset({"at", "due_at", "started_at", "retry_at", "until", "deadline"})
_DURATIONS = frozenset(
    {"delay", "timeout", "total_timeout", "heartbeat_timeout", "initial_delay", "max_delay"}
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


def _writer(name: str) -> Callable[[Any], str]:
    """What writes that field of an event as JSON."""
    if name in _INSTANTS:
        return lambda instant: "null" if instant is None else f'"{format_instant(instant)}"'
    if name in _DURATIONS:
        return lambda duration: "null" if duration is None else f'"{format_duration(duration)}"'
    return _encode


# The fields of `data` of each type: name, default, and how the value is written.
_DATA_FIELDS: dict[type[Event], tuple[tuple[str, Any, Callable[[Any], str]], ...]] = {
    event_type: tuple(
        (f.name, f.default, _writer(f.name))
        for f in dataclasses.fields(event_type)
        if f.name not in _COLUMNS
    )
    for event_type in EVENT_TYPES.values()
}


def _write_data(event_type: type[Event], *values: Any) -> str | None:
    """The fields that say something, as JSON."""
    fields = zip(_DATA_FIELDS[event_type], values, strict=True)
    data = ",".join(
        [f'"{name}":{write(value)}' for (name, default, write), value in fields if value != default]
    )
    return f"{{{data}}}" if data else None


def to_row(event: Event) -> Row:
    """The event as the store writes it."""
    return ROW_WRITERS[type(event)](event)


class _RowWriters(dict[type[Event], Callable[[Any], Row]]):
    """What makes a row of an event, by its type: one expression, as it is done for each event."""

    def __missing__(self, event_type: type[Event]) -> Callable[[Any], Row]:
        self[event_type] = write = _row_writer(event_type)
        return write


ROW_WRITERS = _RowWriters()


def _row_writer(event_type: type[Event]) -> Callable[[Any], Row]:
    has = {field.name for field in dataclasses.fields(event_type)}
    cells = ["e.position", f"{event_type.__name__!r}", f"e.time // {MICROSECOND_NS}"]
    cells += [
        f"None if e.{name} is None else e.{name} // {MICROSECOND_NS}" if name in has else "None"
        for name in ("at", "started_at")
    ]
    cells += [f"e.{name}" if name in has else "None" for name in ("seq", "name")]
    names = [name for name, _, _ in _DATA_FIELDS[event_type]]
    cells.append(f"data({', '.join(f'e.{name}' for name in names)})" if names else "None")
    cells.append("e.payload" if "payload" in has else "None")
    data: Callable[..., str | None] = partial(_write_data, event_type)
    if event_type.__name__ not in _OF_THE_MOMENT:
        # The options of all activities of one kind are the same: they are written once.
        data = lru_cache(maxsize=256, typed=True)(data)
    write: Callable[[Any], Row] = eval(f"lambda e: ({', '.join(cells)})", {"data": data})  # noqa: S307
    return write


def from_row(row: Row) -> Event:
    """The inverse of `to_row`.

    Raises `ValueError` for an event type that is not known, and for a time that is none.
    """
    position, type_name, time, at, started_at, seq, name, data, payload = row
    event_type = EVENT_TYPES.get(type_name)
    if event_type is None:
        raise ValueError(f"event {position} has the unknown type {type_name!r}")
    fields: dict[str, Any] = {"position": position, "time": from_micros(time)}
    if at is not None:
        fields["at"] = from_micros(at)
    if started_at is not None:
        fields["started_at"] = from_micros(started_at)
    if seq is not None:
        fields["seq"] = seq
    if name is not None:
        fields["name"] = name
    if payload is not None:
        fields["payload"] = payload
    if data is not None:
        parse = _parse_data if type_name in _OF_THE_MOMENT else _parse_repeated_data
        fields.update(parse(data))
    return event_type(**fields)


# Types whose `data` has instants, so that no two are the same.
_OF_THE_MOMENT = frozenset(
    event_type.__name__
    for event_type, fields in _DATA_FIELDS.items()
    if not _INSTANTS.isdisjoint(name for name, _, _ in fields)
)


def _parse_data(data: str) -> Mapping[str, Any]:
    fields, end = _decode(data)
    if end != len(data):
        raise ValueError(f"data of an event isn't valid JSON: {data!r}")
    for name, value in fields.items():
        if value is None:
            continue
        if name in _INSTANTS:
            fields[name] = parse_instant(value)
        elif name in _DURATIONS:
            fields[name] = parse_duration(value)
        elif isinstance(value, list):
            fields[name] = tuple(value)
    return fields  # type: ignore[no-any-return]


# All activities of one kind have the same options: 2,000 of them are parsed once.
_parse_repeated_data = lru_cache(maxsize=256)(_parse_data)


def to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object for people and scripts (`history --json`).

    Beside `position`, `type` and `time` it has the event's own fields that say something; the
    payload stands under its own name: `input`, `arguments`, `result`, `payload` or `error`.
    """
    shown: dict[str, Any] = {
        "position": event.position,
        "type": type(event).__name__,
        "time": format_instant(event.time),
    }
    for name in ("seq", "name"):
        if (value := getattr(event, name, None)) is not None:
            shown[name] = value
    if (payload := getattr(event, "payload", None)) is not None:
        shown[event.payload_key] = json.loads(payload)
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if field.name not in _SHOWN_FIRST and value != field.default:
            shown[field.name] = json.loads(_writer(field.name)(value))
    return shown


_SHOWN_FIRST = ("position", "time", "seq", "name", "payload")
