"""Where a value stands in a payload, and what it is, in words.

A path is a text (the root: "value", "input") or a pair of the path above and one step: an index
or a key. Pairs cost next to nothing on the way down; the text is made only for a message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from belugawf.model.checking import an
from belugawf.model.errors import PayloadTypeError

M = TypeVar("M")
T = TypeVar("T")

Path: TypeAlias = str | tuple[Any, str | int]

# Deeper than people or programs nest on purpose, and far from Python's own recursion limit.
DEEPEST = 200
# 2 ** 14_284 is the first power of two with more than 4,300 digits: Python's own limit for
# turning text into a whole number, beyond which a payload could be written but never read.
LARGEST_INT_BITS = 14_284

_LONGEST_KEY = 60
_WORDS = {
    bool: "true/false (a boolean)",
    type(None): "null",
    int: "a number",
    float: "a number with a decimal point",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def render_path(path: Path) -> str:
    """`value.items[3].name`; a key that is no identifier stands quoted in brackets."""
    steps: list[str] = []
    while not isinstance(path, str):
        path, step = path
        steps.append(_render_step(step))
    steps.append(path)
    return "".join(reversed(steps))


def _render_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{quoted_key(step)}]"


def quoted_key(key: str) -> str:
    """A key for a message: ASCII, escaped, and cut if it is long."""
    return json.dumps(key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY] + "...")


def _nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The hint for a key that is not known, `None` if no other key is like it."""
    # Imported late: it costs milliseconds, and only this sentence needs it.
    from difflib import get_close_matches

    nearest = get_close_matches(key, list(known), n=1)
    return f"did you mean {quoted_key(nearest[0])}?" if nearest else None


def type_word(data: Any) -> str:
    """What the data is, never the data itself."""
    return _WORDS.get(type(data)) or an(type(data).__name__)


def unfit(path: Path, expected: str, found: str, *, hint: str | None = None) -> PayloadTypeError:
    """The error for what was found where something else was expected, both in words."""
    return PayloadTypeError(render_path(path), expected, found, hint=hint)


def mismatch(
    path: Path, expected: str, data: Any, kind: type | None = None, example: str = ""
) -> PayloadTypeError:
    """The error for `data` where something else was expected.

    `kind` is the type of JSON data that was; `example` is one, if that is a text.
    """
    return unfit(path, expected, type_word(data), hint=_how_to_write(kind, data, example))


# How people write data of a type, where they wrote a text.
_UNQUOTED = {
    int: "a whole number, without quotes: 12",
    float: "a number, without quotes: 12.5",
    bool: "true or false, without quotes",
    list: "a list, without quotes: [1, 2]",
    dict: 'an object, without quotes: {"key": "value"}',
}


def _how_to_write(kind: type | None, data: Any, example: str) -> str | None:
    if kind is str and type(data) in (bool, int, float):
        return f'write it in quotes: "{example or "text"}"'
    if type(data) is str and kind in _UNQUOTED:
        return f"write {_UNQUOTED[kind]}"
    return None


def unknown_key(path: Path, expected: str, key: str, known: Iterable[str]) -> PayloadTypeError:
    """The error for an object with a key that it cannot have."""
    found = f"an object with the unknown key {quoted_key(key)}"
    return unfit(path, expected, found, hint=_nearest_key(key, known))


def first_fit(
    members: Iterable[M], take: Callable[[M], T], path: Path, expected: Callable[[], str], data: Any
) -> T:
    """What the first member of a union that fits makes of the data."""
    inside: list[PayloadTypeError] = []
    hints: set[str] = set()
    here = render_path(path)
    for member in members:
        try:
            return take(member)
        except PayloadTypeError as error:
            if error.path != here or (error.hint and type(data) in (list, dict)):
                inside.append(error)
            elif error.hint:
                hints.add(error.hint)
    if len(inside) == 1:
        # Only one member is alike: what is wrong inside of it says more.
        raise inside[0]
    hint = hints.pop() if len(hints) == 1 else None
    raise unfit(here, expected(), type_word(data), hint=hint)
