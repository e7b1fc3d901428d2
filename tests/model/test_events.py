"""Events: each type has a row that gives it back, and a JSON form that scripts rely on."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from hypothesis import given, strategies as st

from belugawf.model import events
from belugawf.model.durations import MICROSECOND_NS
from belugawf.model.events import (
    EVENT_TYPES,
    ActivityScheduled,
    Event,
    Kind,
    from_row,
    to_json,
    to_row,
)

INSTANTS = st.integers(0, 4_000_000_000 * 1_000_000).map(lambda us: us * MICROSECOND_NS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PAYLOADS = st.sampled_from(["null", "true", '"ä"', '{"a":[1,2.5]}', "[]"])
INSTANT_FIELDS = {"time", "at", "due_at", "started_at", "retry_at", "until", "deadline"}
# Every other whole number in an event is an instant.
COUNTS = {"position", "to", "attempts", "seq", "attempt", "max_attempts", "crashes"}

BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**53),
    str: TEXTS,
    bool: st.booleans(),
    float: st.floats(0, 1e6),
    timedelta: st.timedeltas(timedelta(0), timedelta(days=36_525)),
    tuple[str, ...]: st.lists(TEXTS, max_size=3).map(tuple),
}


def _values(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name == "payload":
        return PAYLOADS
    options = [h for h in getattr(hint, "__args__", [hint]) if h is not type(None)]
    plain = hint if hint in BY_TYPE else options[0]
    values = INSTANTS if name in INSTANT_FIELDS else BY_TYPE[plain]
    return values | st.none() if type(None) in getattr(hint, "__args__", ()) else values


def _events(event_type: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(event_type)
    fields = {
        field.name: _values(field.name, hints[field.name])
        for field in dataclasses.fields(event_type)
    }
    required = {
        field.name: fields[field.name]
        for field in dataclasses.fields(event_type)
        if field.default is dataclasses.MISSING
    }
    optional = {name: values for name, values in fields.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda f: event_type(**f))


def _named(names: Any) -> Any:
    return pytest.mark.parametrize("event_type", names, ids=lambda t: t.__name__)


every_type = _named(list(EVENT_TYPES.values()))


@every_type
@given(data=st.data())
def test_rows_give_events_back(event_type: type[Event], data: st.DataObject) -> None:
    """Written as a row and read, an event of each type is the same, with whatever fields."""
    event = data.draw(_events(event_type))
    row = to_row(event)
    assert from_row(row) == event
    assert from_row(row) is not event
    assert [type(cell) for cell in row[:3]] == [int, str, int]
    assert all(cell is None or isinstance(cell, int) for cell in row[3:6])
    assert all(cell is None or isinstance(cell, str) for cell in row[6:])


@every_type
@given(data=st.data())
def test_json_has_the_fields_that_say_something(
    event_type: type[Event], data: st.DataObject
) -> None:
    """The JSON form is plain JSON and has no field that only repeats a default."""
    event = data.draw(_events(event_type))
    shown = to_json(event)
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["position"], shown["type"]) == (event.position, event_type.__name__)
    for field in dataclasses.fields(event):
        name = event.payload_key if field.name == "payload" else field.name
        silent = getattr(event, field.name) == field.default
        assert (name in shown) is not silent


def test_every_event_class_is_known() -> None:
    """An event class that from_row does not know could be written, and never read."""
    assert set(EVENT_TYPES.values()) == set(_all_subclasses(Event))
    assert all(name == event_type.__name__ for name, event_type in EVENT_TYPES.items())


def _all_subclasses(base: type[Event]) -> list[type[Event]]:
    # With slots=True dataclass makes a second class; the first one lives on until collected.
    return [c for c in base.__subclasses__() if getattr(events, c.__name__) is c]


@every_type
def test_every_event_has_a_kind(event_type: type[Event]) -> None:
    """Replay asks each event for its kind; those that end a history are the five ends."""
    assert isinstance(event_type.kind, Kind)
    assert event_type.__doc__ is not None
    ends = {"Completed", "Failed", "Cancelled", "Terminated", "TimedOut"}
    is_end = event_type.__name__.removeprefix("Workflow") in ends
    assert (event_type.kind is Kind.CLOSING) is is_end


@every_type
@given(data=st.data())
def test_events_are_values(event_type: type[Event], data: st.DataObject) -> None:
    """Events are frozen, without a dict of their own."""
    event = data.draw(_events(event_type))
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(event, field.name)
    assert not hasattr(event, "__dict__")


@every_type
def test_fields_of_time_are_written_as_such(event_type: type[Event]) -> None:
    """A new field that holds a duration or an instant must be listed, or it has no JSON form."""
    hints = get_type_hints(event_type)
    for field in dataclasses.fields(event_type):
        hint = hints[field.name]
        is_duration = hint is timedelta or timedelta in getattr(hint, "__args__", ())
        assert (field.name in events._DURATIONS) is is_duration
        is_whole = hint is int or int in getattr(hint, "__args__", ())
        is_instant = is_whole and field.name not in COUNTS
        assert (field.name in events._INSTANTS | {"time"}) is is_instant


def test_row_of_a_timer() -> None:
    """Times are microseconds, but for those in `data`; durations have units; defaults no room."""
    event = events.TimerStarted(
        position=3, time=7_000, seq=2, delay=timedelta(hours=24), due_at=24 * 3600 * 10**9
    )
    assert to_row(event) == (
        3,
        "TimerStarted",
        7,
        None,
        None,
        2,
        None,
        '{"delay":"1d","due_at":"1970-01-02T00:00:00.000000Z"}',
        None,
    )
    fired = events.TimerFired(position=4, time=9_000, seq=2, at=8_000)
    assert to_row(fired) == (4, "TimerFired", 9, 8, None, 2, None, None, None)
    assert to_row(events.WorkflowCancelled(position=1, time=0))[3:] == (None,) * 6


def test_json_of_a_payload() -> None:
    """A payload stands under the name that says what it is, as data."""
    start = events.WorkflowStarted(
        position=1, time=0, name="w", payload='{"a":1}', workflow_id="i", run_id="r"
    )
    assert to_json(start) == {
        "position": 1,
        "type": "WorkflowStarted",
        "time": "1970-01-01T00:00:00.000000Z",
        "name": "w",
        "input": {"a": 1},
        "workflow_id": "i",
        "run_id": "r",
    }


def test_unknown_type() -> None:
    """A row of a type from a later version is refused by name."""
    with pytest.raises(ValueError, match="event 4 has the unknown type 'Teleported'"):
        from_row((4, "Teleported", 0, *[None] * 6))


def test_options_that_are_equal_and_written_otherwise_are_kept_apart() -> None:
    """The options of activities are written once; 3 and 3.0 are not the same text."""
    for coefficient in (3, 3.0, 3):
        scheduled = ActivityScheduled(
            position=1, time=0, seq=1, name="x", payload="[]", backoff_coefficient=coefficient
        )
        assert to_row(scheduled)[7] == f'{{"backoff_coefficient":{coefficient}}}'
