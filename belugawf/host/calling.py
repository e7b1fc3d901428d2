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
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypedDict

from belugawf.authoring.activity import MARK, Annotations, argument_path
from belugawf.authoring.failures import attribute, describe_failure, is_a, steering
from belugawf.model import codec
from belugawf.model.durations import format_duration, parse_duration
from belugawf.model.errors import ApplicationError, DurationError, Failure, PayloadTypeError
from belugawf.model.policy import is_named


class Whereabouts(TypedDict):
    """Where another process finds a function: its module's name and file, and its name in there."""

    module: str
    file: str | None
    qualname: str


def whereabouts(function: Callable[..., Any], name: str) -> Whereabouts:
    """Where another process finds an activity's function.

    Raises an `ApplicationError` that is not retried if no other process can find it.
    """
    address = address_of(function)
    if address is None or not _is_importable(address[0]):
        why = "it isn't at the top of a module" if address is None else "its module has no file"
        raise ApplicationError(
            f"activity {name!r} is isolated, and a process of its own cannot find it: {why}",
            type="UsageError",
            non_retryable=True,
        )
    file = getattr(sys.modules[address[0]], "__file__", None)
    return Whereabouts(
        module=address[0],
        file=None if file is None else str(Path(file).resolve()),
        qualname=address[1],
    )


def is_found_elsewhere(function: Callable[..., Any]) -> bool:
    """Whether another process finds this very function: no closure, for instance."""
    address = address_of(function)
    return address is not None and _is_importable(address[0])


def _is_importable(module: str) -> bool:
    """Whether it comes from a file, or with Python; not what was typed, or made by code."""
    known = sys.modules[module]
    if getattr(known, "__spec__", None) is not None:
        return True
    file = getattr(known, "__file__", None)  # "<stdin>" in one that was read from there
    return file is not None and Path(file).exists()


def address_of(function: Any) -> tuple[str, str] | None:
    """The module and the dotted name under which another process finds it; `None` if it cannot.

    A method that is bound to something is found through that. What has another place than it says,
    as what decorators return, is found under any name that a module has for it, if it is marked.
    """
    if type(function) is MethodType:
        owner = address_of(function.__self__)
        return None if owner is None else (owner[0], f"{owner[1]}.{function.__func__.__name__}")
    module, path = (getattr(function, name, None) for name in ("__module__", "__qualname__"))
    if isinstance(module, str) and isinstance(path, str):
        found: Any = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, "__dict__", {}).get(part)
        if found is function or getattr(found, "__func__", None) is function:
            return module, path
    if type(function) is FunctionType and not hasattr(function, MARK):
        return None
    for module, known in list(sys.modules.items()):
        if is_a(known, ModuleType):
            for path, value in list(vars(known).items()):
                if value is function:
                    return module, path
    return None


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
