"""Checking what callers pass: an argument of a wrong type is their mistake, and its name is said.

`what` names the argument in messages. Values that are not Python's own are named by their classes:
their texts are the user's code, and of any length.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from belugawf.model.errors import UsageError

T = TypeVar("T")

_LONGEST_SHOWN = 60
_MOST_BITS = 200


def an(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def shown(value: Any) -> str:
    """A value for a message: itself if it is short and Python's own, else of which class it is."""
    kind = type(value)
    if kind is str:
        cut = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "..."
        return repr(cut)
    if kind is int and value.bit_length() > _MOST_BITS:
        return "a number of many digits"
    if kind in (int, float, bool, types.NoneType, timedelta):
        return repr(value)
    if isinstance(value, type):
        return f"the class {class_name(value)}"
    return an(class_name(kind))


def class_name(kind: type) -> str:
    """Its name, past a metaclass that has one of its own."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name


def named(function: Any) -> str:
    """What is to be a function, for a message: its name."""
    name = getattr(function, "__name__", None)
    return repr(name) if isinstance(name, str) else shown(function)


def wrong(what: str, value: Any, hint: str) -> UsageError:
    """The error for an argument that does not fit."""
    return UsageError(f"{what} is {shown(value)}", hint=hint)


def text(what: str, value: Any, *, empty: bool = False) -> str:
    """A text that can be stored, not an empty one unless `empty`."""
    if not isinstance(value, str):
        raise wrong(what, value, "give a text")
    if not value and not empty:
        raise UsageError(f"{what} is empty", hint="give a text")
    try:
        str.encode(value)
    except UnicodeEncodeError:
        raise UsageError(
            f"{what} is no text that can be written", hint="write it in UTF-8"
        ) from None
    return value


def flag(what: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong(what, value, "give True or False")
    return value


def whole(what: str, value: Any, *, least: int = 0, hint: str | None = None) -> int:
    """A whole number of at least that, and of 64 bits at most."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise wrong(what, value, hint or f"give a whole number, {least} or more")
    return value


def number(what: str, value: Any, *, least: float, most: float, hint: str) -> float:
    """A number in that range, and not infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(what, value, hint)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not least <= found <= most or math.isinf(found):
        raise wrong(what, value, hint)
    return found


def instance(what: str, value: Any, kind: type[T], hint: str) -> T:
    """An instance of that class."""
    if not isinstance(value, kind):
        raise wrong(what, value, hint)
    return value


def function(what: str, value: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if not callable(value):
        raise wrong(what, value, "give a function")
    found: Callable[..., Any] = value
    return found


def choice(what: str, value: T, choices: Sequence[str]) -> T:
    """One of a few texts."""
    if not isinstance(value, str) or value not in choices:
        raise wrong(what, value, f"use one of {', '.join(choices)}")
    return value
