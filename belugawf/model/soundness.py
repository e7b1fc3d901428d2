"""Whether a history can have been written by us: what a person's hand or a bad disk leaves.

It costs as much as writing and reading the whole history. So it is asked only where a history is
shown, or where something has failed that may be the history's fault; the hot path trusts the disk.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import timedelta

from belugawf.model import events as e
from belugawf.model.errors import UsageError
from belugawf.model.history import OpenWork, effective

_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "timedelta": (timedelta,),
    "tuple[str, ...]": (tuple,),
    "dict[str, int]": (dict,),
}
# What reading data of another form may raise; DurationError is a UsageError.
UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, RecursionError, UsageError),
)


def check_history(history: Sequence[e.Event]) -> None:
    """Raise `ValueError` that names the first event which cannot have been written so."""
    if not history or not isinstance(history[0], e.WorkflowStarted):
        raise ValueError("event 1 is no WorkflowStarted")
    for position, event in enumerate(history, 1):
        if event.position != position:
            raise ValueError(f"event {position} is missing")
        _checked(event, _check_event)
    work = OpenWork()
    for event in effective(history):
        _checked(event, work.fold)


def _checked(event: e.Event, check: Callable[[e.Event], None]) -> None:
    try:
        check(event)
    except UNREADABLE as error:
        raise ValueError(
            f"event {event.position} ({type(event).__name__}) is not as it was written"
        ) from error


def _check_event(event: e.Event) -> None:
    for name, types in _FIELDS[type(event)]:
        value = getattr(event, name)
        if type(value) not in types:
            raise TypeError(name)
        if types == (tuple,) and not all(type(item) is str for item in value):
            raise TypeError(name)
    row = e.to_row(event)
    payload = getattr(event, "payload", None)
    data = None if payload is None else json.loads(payload)
    if payload is not None and event.payload_key == "error" and not isinstance(data, dict):
        raise TypeError("error")
    if isinstance(event, e.ActivityScheduled) and not isinstance(data, list):
        raise TypeError("arguments")
    if e.from_row(row) != event:
        raise ValueError("it is read as another")


_FIELDS: dict[type[e.Event], tuple[tuple[str, tuple[type, ...]], ...]] = {
    event_type: tuple(
        (
            field.name,
            tuple(kind for word in str(field.type).split("|") for kind in _TYPES[word.strip()]),
        )
        for field in dataclasses.fields(event_type)
    )
    for event_type in e.EVENT_TYPES.values()
}
