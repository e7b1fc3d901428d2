"""JSON text to data: strictly for what people type, quickly for what was recorded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from types import GenericAlias
from typing import Any, NoReturn

from belugawf.model.codec._encode import encode
from belugawf.model.codec._hints import convert, fits
from belugawf.model.codec._path import DEEPEST, Path, render_path
from belugawf.model.errors import UsageError

_HINT = 'JSON is true, false, null, 12.5, "text in double quotes", [1, 2] or {"key": "value"}'
_MOST_DIGITS = 4_300
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# Compiled when a mistake is looked for: that takes 1 ms.
_PIECE = (
    r'(?s)(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?\d[\d.eE+-]*)'
    r"|(?P<constant>-?Infinity|NaN)|(?P<mark>[][{}:,])"
)


class _Flaw(Exception):
    """json accepts something that JSON does not have, or that cannot be held."""


def _refuse(_: object) -> NoReturn:
    raise _Flaw


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Flaw
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise _Flaw
    return data


_strict = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
).decode
_decoder = json.JSONDecoder(parse_constant=_refuse)
# What we wrote has no blanks around it, which `decode` looks for.
_scan, _recorded = _decoder.scan_once, _decoder.decode  # type: ignore[attr-defined]

_listener: Callable[[Any], object] | None = None


def listen(listener: Callable[[Any], object] | None) -> None:
    """Let `listener` see the data of every payload that is decoded in this process; `None`: nobody.

    It may be called on any thread.
    """
    global _listener
    _listener = listener


def parse_json(text: str, *, what: str = "value") -> Any:
    """The data of a JSON text that a person or a script wrote; `what` names it in messages.

    Raises `UsageError` with line and column for anything that isn't valid JSON, and for what Python
    would let pass: NaN, Infinity, duplicate keys, halves of surrogate pairs, whole numbers of
    more than 4,300 digits, more than 200 levels.
    """
    try:
        data = _strict(text)
        if _has_lone_surrogates(text, data) or _is_too_deep(text, data):
            raise _Flaw
    except json.JSONDecodeError as error:
        raise _not_json(what, text, error.pos, error.msg[:1].lower() + error.msg[1:]) from None
    except (_Flaw, ValueError, RecursionError):
        # The reader says that something is wrong, not where: look once more, token by token.
        offset, reason = next(_flaws(text), (0, "it cannot be read"))
        raise _not_json(what, text, offset, reason) from None
    return data


def decode(text: str, annotation: Any = Any, *, what: str = "value") -> Any:
    """The value of a recorded JSON text, converted to `annotation`.

    Raises `PayloadTypeError` if it does not fit, `UsageError` if it isn't valid JSON.
    """
    try:
        data, end = _scan(text, 0)
        if end != len(text):
            data = _recorded(text)
    except (StopIteration, _Flaw, ValueError, RecursionError):
        data = parse_json(text, what=what)
    if _listener is not None:
        _listener(data)
    if annotation is Any or fits(data, annotation):
        return data
    return convert(data, annotation, path=what)


def of_arguments(types: tuple[Any, ...]) -> Any:
    """The annotation of a JSON array whose items are read by `types`; `Any` if there are none."""
    return GenericAlias(tuple, types) if types else Any


def same(asked: str, recorded: str, annotation: Any = Any) -> bool:
    """Whether two JSON texts mean the same.

    The order of keys and blanks do not count; `true`, `1` and `1.0` are three different values.
    What the classes of `annotation` make of the recorded one counts too: a field that it had not,
    and that now has its default.
    """
    if asked == recorded:
        return True
    try:
        wanted, found = json.loads(asked), json.loads(recorded)
        return _is_same(wanted, found) or _is_same(wanted, _read_again(found, annotation))
    except (ValueError, RecursionError):
        return False


def _is_same(asked: Any, recorded: Any) -> bool:
    return json.dumps(asked, sort_keys=True) == json.dumps(recorded, sort_keys=True)


def _read_again(recorded: Any, annotation: Any) -> Any:
    """The data as the classes of `annotation` would write it today."""
    try:
        return json.loads(encode(convert(recorded, annotation)))
    except UsageError:
        return recorded


_LONGEST_SHOWN = 60
_ABSENT: Any = object()


def difference(asked: str, recorded: str, what: str, annotation: Any = Any) -> str | None:
    """The first place where two JSON texts are not the `same`, in words; `None` if they are."""
    found = _read_again(json.loads(recorded), annotation)
    return _difference(json.loads(asked), found, what)


def _difference(asked: Any, recorded: Any, path: Path) -> str | None:
    if type(asked) is type(recorded) is list:
        asked, recorded = dict(enumerate(asked)), dict(enumerate(recorded))
    if type(asked) is not dict or type(recorded) is not dict:
        absent = asked is _ABSENT or recorded is _ABSENT
        is_same = not absent and _is_same(asked, recorded)
        return None if is_same else _differ(path, asked, recorded)
    for step in dict.fromkeys([*recorded, *asked]):
        now, was = asked.get(step, _ABSENT), recorded.get(step, _ABSENT)
        if found := _difference(now, was, (path, step)):
            return found
    return None


def _differ(path: Path, asked: Any, recorded: Any) -> str:
    return f"{render_path(path)} was {_shown(recorded, path)} and is {_shown(asked, path)}"


def _shown(data: Any, path: Path) -> str:
    """Beside its key, which tells those who mask secrets whether it is one."""
    if data is _ABSENT:
        return "absent"
    keyed = type(path) is tuple and type(path[1]) is str
    text = json.dumps({path[1]: data} if keyed else data, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " ..."


def _has_lone_surrogates(text: str, data: Any) -> bool:
    if text.isascii() and not _SURROGATE_ESCAPE.search(text):
        return False
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_too_deep(text: str, data: Any) -> bool:
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    level = [data]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _containers_in(outer)]
    return bool(level)


def _containers_in(data: Any) -> list[Any]:
    items = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


def _flaws(text: str) -> Iterator[tuple[int, str]]:
    """Offset and reason of what `_strict` refuses in a text that is otherwise JSON."""
    keys: list[set[str] | None] = []
    previous = ""
    for token in re.finditer(_PIECE, text):
        start, found = token.start(), token[0]
        match token.lastgroup:
            case "constant":
                yield start, "JSON has no NaN and no Infinity"
            case "number":
                yield from _number_flaws(start, found)
            case "string":
                yield from _string_flaws(start, found, keys[-1] if keys else None, previous)
            case _ if found in "[{":
                keys.append(set() if found == "{" else None)
                if len(keys) > DEEPEST:
                    yield start, f"nested deeper than {DEEPEST} levels"
            case _ if found in "]}" and keys:
                keys.pop()
        previous = found


def _number_flaws(start: int, found: str) -> Iterator[tuple[int, str]]:
    if found.lstrip("-").isdigit():
        if len(found.lstrip("-")) > _MOST_DIGITS:
            yield start, f"a whole number of more than {_MOST_DIGITS:,} digits"
        return
    try:
        too_large = math.isinf(float(found))
    except ValueError:
        # The reader met another flaw before it came here ("1e999.").
        yield start, "this isn't a number"
    else:
        if too_large:
            yield start, "a number that is too large"


def _string_flaws(
    start: int, found: str, keys: set[str] | None, previous: str
) -> Iterator[tuple[int, str]]:
    try:
        string = json.loads(found, strict=False)
    except ValueError:
        return
    try:
        string.encode()
    except UnicodeEncodeError:
        yield start, "a text with half of a surrogate pair"
    if keys is not None and previous in ("{", ","):
        if string in keys:
            yield start, "the key stands in this object already"
        keys.add(string)


def _not_json(what: str, text: str, offset: int, reason: str) -> UsageError:
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return UsageError(
        f"{what} isn't valid JSON: {reason} (line {line}, column {column})",
        hint=_HINT,
    )
