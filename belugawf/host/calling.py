"""Calling an activity's function: its arguments from JSON, its result to JSON, both checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from belugawf.authoring.activity import annotations_of
from belugawf.model import codec
from belugawf.model.errors import ApplicationError, PayloadTypeError

# Types whose values fit them, whatever they are.
_EXACT = (str, int, bool)


def positional(function: Callable[..., Any], arguments: str, name: str) -> list[Any]:
    """The arguments of a JSON array, decoded by the function's annotations.

    Raises an `ApplicationError` that is not retried where they do not fit.
    """
    annotations, rest, _ = annotations_of(function)
    values = codec.decode(arguments, what=f"arguments of {name}")
    decoded = []
    for index, value in enumerate(values):
        annotation = annotations[index] if index < len(annotations) else rest
        if annotation is None:
            decoded.append(value)
            continue
        try:
            path = f"argument {index + 1} of {name}"
            decoded.append(codec.convert(value, annotation, path=path))
        except PayloadTypeError as error:
            raise ApplicationError(
                str(error), type="PayloadTypeError", non_retryable=True
            ) from None
    return decoded


def encode_result(function: Callable[..., Any], value: Any, name: str, limit: int) -> str:
    """The result as JSON text, which fits the function's return annotation.

    Raises an `ApplicationError` that is not retried where it has no JSON form, does not fit, or
    is larger than `limit` bytes: the next attempt would return the same.
    """
    annotation = annotations_of(function)[2]
    try:
        text = codec.encode(value, what=f"result of {name}", limit=limit)
        if annotation is not Any and (type(value) is not annotation or annotation not in _EXACT):
            codec.decode(text, annotation, what=f"result of {name}")
    except Exception as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from None
    return text
