"""Exceptions of user code as data: cut to the user's own frames, and without locals."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from typing import Any

from belugawf.model.errors import ActivityError, Failure


def describe_failure(error: BaseException) -> Failure:
    """An exception that left workflow or activity code, as data.

    The traceback is cut to frames that are neither asyncio's nor ours, and has no locals.
    """
    message = _text(error)
    if isinstance(error, BaseExceptionGroup):
        first = _first_leaf(error)
        message = f"{message}: {type(first).__name__}: {_text(first)}"
    type_name = attribute(error, "type")
    return Failure(
        type=_sound(type_name) if isinstance(type_name, str) else type(error).__name__,
        message=_sound(message),
        traceback=_sound(_user_traceback(error)),
        non_retryable=bool(attribute(error, "non_retryable", bool)),
        activity=error.activity if isinstance(error, ActivityError) else None,
        attempts=error.attempts if isinstance(error, ActivityError) else None,
    )


def attribute(error: BaseException, name: str, make: Callable[[Any], Any] | None = None) -> Any:
    """What an exception has under that name, as `make` makes it; `None` where that raises.

    It is the user's, and may be a property: how an attempt ended must be told all the same.
    """
    try:
        found = getattr(error, name, None)
        return found if make is None else make(found)
    except Exception:
        return None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:
        return f"its text cannot be made: {type(failed).__name__}"


def _sound(text: str) -> str:
    """The text with halves of surrogate pairs, which JSON cannot hold, as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _user_traceback(error: BaseException) -> str:
    described = traceback.TracebackException.from_exception(error, capture_locals=False)
    _cut(described)
    text = "".join(described.format()).rstrip()
    cause = error.cause if isinstance(error, ActivityError) else None
    if cause is not None and cause.traceback:
        text = f"{cause.traceback}\n\nThe activity's exception above was raised here:\n\n{text}"
    return text


def _cut(described: traceback.TracebackException) -> None:
    """Keep the frames of the user's code, in this exception and in those it came from."""
    kept = [f for f in described.stack if not _is_machinery(f.filename)]
    described.stack = traceback.StackSummary.from_list(kept)
    if described.__cause__ is not None:
        _cut(described.__cause__)
    if described.__context__ is not None:
        _cut(described.__context__)
    for inner in described.exceptions or ():
        _cut(inner)


_MACHINERY = tuple(
    module.__file__.rpartition("/")[0] + "/"
    for module in (asyncio, sys.modules["belugawf"])
    if module.__file__
)


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY)
