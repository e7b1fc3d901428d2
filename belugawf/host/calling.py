"""Calling an activity's function: its arguments from JSON, its result to JSON, both checked.

And how it failed, as data, whatever its exception does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from belugawf.authoring.activity import Annotations, argument_path
from belugawf.authoring.failures import attribute, describe_failure, steering
from belugawf.model import codec
from belugawf.model.durations import format_duration, parse_duration
from belugawf.model.errors import ApplicationError, DurationError, Failure, PayloadTypeError
from belugawf.model.policy import is_named


class Whereabouts(TypedDict):
    """Where another process finds a function: its module's name and file, and its name in there."""

    module: str
    file: str
    qualname: str


def whereabouts(function: Callable[..., Any]) -> Whereabouts:
    """Where another process finds an activity's function."""
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    return Whereabouts(
        module=function.__module__,
        file=str(Path(file or function.__code__.co_filename).resolve()),
        qualname=function.__qualname__,
    )


def is_found_elsewhere(function: Callable[..., Any]) -> bool:
    """Whether another process finds this very function: no closure, for instance."""
    found: Any = sys.modules.get(getattr(function, "__module__", ""))
    for part in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found is function


def positional(annotations: Annotations, arguments: str, name: str) -> list[Any]:
    """The arguments of a JSON array, decoded by a function's annotations.

    Raises an `ApplicationError` that is not retried if they do not fit.
    """
    values = codec.decode(arguments, what=f"arguments of {name}")
    hints, count = annotations.positional, len(annotations.positional)
    decoded = []
    for index, value in enumerate(values):
        annotation = hints[index] if index < count else annotations.rest
        if annotation is None or annotation is Any or codec.fits(value, annotation):
            decoded.append(value)
            continue
        try:
            path = argument_path(annotations, index, name)
            decoded.append(codec.convert(value, annotation, path=path))
        except PayloadTypeError as error:
            raise ApplicationError(
                str(error), type="PayloadTypeError", non_retryable=True
            ) from None
    return decoded


def encode_result(annotation: Any, value: Any, name: str, limit: int) -> str:
    """The result as JSON text, which fits a function's return annotation.

    Raises an `ApplicationError` that is not retried if it has no JSON form, does not fit, or
    is larger than `limit` bytes: the next attempt would return the same.
    """
    try:
        text = codec.encode(value, what=f"result of {name}", limit=limit)
        if annotation is not Any and not codec.fits(value, annotation):
            codec.require(value, annotation, json.loads(text), f"result of {name}")
    except Exception as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from None
    return text


def failure_of(
    error: BaseException, non_retryable: Sequence[str] = ()
) -> tuple[Failure, str | None]:
    """An exception that left an activity, as data, and the delay that it asks for.

    `non_retryable` are the types that the activity's policy names.

    Never raises: if the exception cannot be described, and its code is the user's, there is a
    plain text in its place.
    """
    try:
        failure = describe_failure(error)
        if _is_named(error, non_retryable):
            failure = replace(failure, non_retryable=True)
        return failure, requested_retry_delay(error)
    except BaseException as trouble:
        message = f"how it failed cannot be described: {_type_name(trouble)}"
        return Failure(_type_name(error), message), None


def _is_named(error: BaseException, names: Sequence[str]) -> bool:
    try:
        return is_named(error, names)
    except BaseException:  # a class whose own names raise
        return False


def _type_name(error: BaseException) -> str:
    # Past a metaclass that has a `__name__` of its own.
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def requested_retry_delay(error: BaseException) -> str | None:
    """The delay that an exception asks for as `retry_after`, as text; of several the longest.

    `None` if there is none, or only what isn't a duration.
    """
    delays = []
    for one in steering(error):
        requested = attribute(one, "retry_after")
        with suppress(DurationError):
            if requested is not None:
                delays.append(parse_duration(requested))
    return format_duration(max(delays)) if delays else None
