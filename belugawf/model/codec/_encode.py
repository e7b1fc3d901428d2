"""Values to JSON text.

Nearly every payload is plain JSON data. So a quick look (`_is_plain`) comes first, and the walk
that knows every type and every reason (`_Walk`) only for what is left.
"""

from __future__ import annotations

import copy
import dataclasses
import json.encoder
import math
from collections.abc import Callable
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, TypeAlias

from belugawf.model.checking import an
from belugawf.model.codec._forms import form_of
from belugawf.model.codec._path import DEEPEST, LARGEST_INT_BITS, Path, render_path
from belugawf.model.errors import PayloadEncodeError, PayloadTooLargeError

# What `JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))` makes anew for each
# text. It looks for no circles (the first `None`): what it is given is not that deep.
_chunks = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    *(None, json.JSONEncoder().default, json.encoder.encode_basestring, None),
    *(":", ",", False, False, False),
)
_SMALL = 10**15  # far below the number of digits that is refused
_are_scalars = frozenset({str, int, float, bool, type(None)}).issuperset
_are_texts = frozenset({str}).issuperset


def encode(value: Any, *, what: str = "value", limit: int | None = None) -> str:
    """The value as compact JSON text.

    `what` names it in messages, `limit` bounds the UTF-8 text in bytes (`None`: no limit).
    Beside JSON's own types: tuple, set (sorted), dataclass, NamedTuple, Enum, datetime, date,
    time, timedelta, UUID, Decimal, bytes, Path and pydantic models.
    Raises `PayloadEncodeError` with the path to what has no JSON form, `PayloadTooLargeError`.
    """
    kind, text = type(value), None
    try:
        if kind is int and -_SMALL < value < _SMALL:
            text = repr(value)
        elif (kind is tuple and _are_scalars(map(type, value))) or _is_plain(value, DEEPEST):
            text = "".join(_chunks(value, 0))
            if not text.isascii():
                text.encode()  # fails for lone surrogates
    except (ValueError, RecursionError):
        text = None
    if text is None:
        text = _encode_any(value, what)
    if limit is not None:
        size = len(text) if text.isascii() else len(text.encode())
        if size > limit:
            raise PayloadTooLargeError(what, size, limit)
    return text


def _is_plain(value: Any, levels: int) -> bool:
    """Whether it is plain JSON data, of so many levels at most."""
    kind = type(value)
    if kind is dict:
        if not _are_texts(map(type, value)):
            return False
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return _are_scalars((kind,))
    if not levels:
        return False
    if not _are_scalars(map(type, items)):
        for item in items:
            if not _is_plain(item, levels - 1):
                return False
    return True


def _dump(value: Any) -> str:
    return "".join(_chunks(value, 0))


def _encode_any(value: Any, what: str) -> str:
    try:
        return _dump(_Walk().plain(value, what))
    except RecursionError:
        raise PayloadEncodeError(what, "nested too deep to be encoded here") from None


class _Walk:
    """One walk through a value: `open` are the containers it stands in at the moment."""

    def __init__(self) -> None:
        self.open: set[int] = set()

    def plain(self, value: Any, path: Path) -> Any:
        """The value as dicts, lists and scalars that json.dumps writes as we mean them."""
        if value is None or value is True or value is False:
            return value
        kind: Any = type(value)
        return _rule_for(kind)(self, value, path)

    def enter(self, value: Any, path: Path) -> None:
        if id(value) in self.open:
            raise _refusal(path, f"{an(type(value).__name__)} that contains itself")
        if len(self.open) >= DEEPEST:
            # The path would be as long as the nesting is deep, and say nothing more.
            while not isinstance(path, str):
                path = path[0]
            raise PayloadEncodeError(path, f"nested deeper than {DEEPEST} levels")
        self.open.add(id(value))

    def text(self, value: str, path: Path) -> str:
        text = str.__str__(value)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise _refusal(path, "a text with half of a surrogate pair") from None
        return text

    def integer(self, value: int, path: Path) -> int:
        if value.bit_length() > LARGEST_INT_BITS:
            raise _refusal(path, "a whole number of more than 4,300 digits")
        return int.__int__(value)

    def floating(self, value: float, path: Path) -> float:
        if not math.isfinite(value):
            raise _refusal(path, "a float that is not finite (NaN or Infinity)")
        return float.__float__(value)

    def member(self, value: Enum, path: Path) -> Any:
        if value._name_ in _hidden_members(type(value)):
            raise _refusal(path, f"a {type(value).__name__} that reads as another of its members")
        return self.plain(value.value, path)

    def sequence(self, value: list[Any] | tuple[Any, ...], path: Path) -> list[Any]:
        self.enter(value, path)
        items = [self.plain(item, (path, index)) for index, item in enumerate(value)]
        self.open.discard(id(value))
        return items

    def unordered(self, value: set[Any] | frozenset[Any], path: Path) -> list[Any]:
        self.enter(value, path)
        items = [self.plain(item, (path, "an item")) for item in value]
        self.open.discard(id(value))
        return sorted(items, key=_dump)

    def mapping(self, value: dict[Any, Any], path: Path) -> dict[str, Any]:
        self.enter(value, path)
        plain: dict[str, Any] = {}
        for key, item in value.items():
            text = self.key(key, path)
            if text in plain:
                raise PayloadEncodeError(
                    render_path((path, text)), "two keys of the dict become this same text"
                )
            plain[text] = self.plain(item, (path, text))
        self.open.discard(id(value))
        return plain

    def key(self, key: Any, path: Path) -> str:
        if isinstance(key, Enum):
            key = key.value
        if isinstance(key, str):
            return self.text(key, path)
        if isinstance(key, int) and not isinstance(key, bool):
            return str(self.integer(key, path))
        form = form_of(type(key))
        if form is None or not form.key:
            raise PayloadEncodeError(
                render_path(path),
                f"{an(type(key).__name__)} cannot be a key in JSON "
                "(text, int, Enum, UUID, date and datetime can)",
            )
        return form.write(key)

    def record(self, value: Any, path: Path) -> dict[str, Any]:
        self.enter(value, path)
        plain = {}
        for field in dataclasses.fields(value):
            where = (path, field.name)
            try:
                item = getattr(value, field.name)
            except AttributeError:
                raise PayloadEncodeError(render_path(where), "the field was never set") from None
            plain[field.name] = self.plain(item, where)
        kind: Any = type(value)
        if not _is_made_of_fields(kind):
            self.make_again(value, plain, path)
        self.open.discard(id(value))
        return plain

    def make_again(self, value: Any, plain: dict[str, Any], path: Path) -> None:
        """Require that its class makes the same of its fields, as it will when this is read."""
        kind: Any = type(value)
        given = [field.name for field in dataclasses.fields(value) if field.init]
        try:
            # Copies, because `__post_init__` may change what it is given.
            made = kind(**{name: copy.deepcopy(getattr(value, name)) for name in given})
            items = {name: getattr(made, name) for name in given}
        except RecursionError:
            raise
        except Exception as error:
            raise PayloadEncodeError(
                render_path(path),
                f"{kind.__name__} cannot be made again of its fields ({type(error).__name__}): "
                "what an InitVar was given, for instance, is not kept",
            ) from error
        walk = _Walk()
        for name in given:
            where = (path, name)
            if walk.plain(items[name], where) != plain[name]:
                raise PayloadEncodeError(
                    render_path(where),
                    f"{kind.__name__} changes it whenever it is made of its fields",
                )

    def model(self, value: Any, path: Path) -> Any:
        """What a pydantic model dumps, in the first way in which it reads itself back."""
        from belugawf.model.codec._models import differs_in

        self.enter(value, path)
        where = path
        # By alias, because that is what the model's own validation reads back. Without computed
        # fields only if it does not read them: people want to see them.
        for way in (
            {"by_alias": True},
            {"by_alias": True, "round_trip": True},
            {"round_trip": True},
        ):
            try:
                data = value.model_dump(mode="json", **way)
            except RecursionError:
                raise
            except Exception as error:
                name = type(value).__name__
                raise _refusal(
                    path, f"{an(name)} ({type(error).__name__} in model_dump)"
                ) from error
            plain = self.plain(data, path)
            found = differs_in(value, plain, path)
            if found is None:
                self.open.discard(id(value))
                return plain
            where = found if where == path else where
        raise PayloadEncodeError(
            render_path(where),
            f"{type(value).__name__} does not read back what it writes here "
            "(a secret is written as ***, an excluded field not at all)",
        )

    def formed(self, value: Any, path: Path) -> str:
        form = form_of(type(value))
        assert form is not None
        try:
            return self.text(form.write(value), path)
        except ValueError as error:
            raise PayloadEncodeError(render_path(path), str(error)) from None

    def refused(self, value: Any, path: Path) -> Any:
        name = type(value).__name__
        raise _refusal(path, an(name) + (" (an await is missing)" if name == "coroutine" else ""))


def _refusal(path: Path, noun: str) -> PayloadEncodeError:
    return PayloadEncodeError(render_path(path), f"{noun} has no JSON form")


_Rule: TypeAlias = Callable[[_Walk, Any, Path], Any]

_RULES: tuple[tuple[type | tuple[type, ...], _Rule], ...] = (
    (Enum, _Walk.member),  # before str and int: a StrEnum is both
    (str, _Walk.text),
    (int, _Walk.integer),
    (float, _Walk.floating),
    (dict, _Walk.mapping),
    ((list, tuple), _Walk.sequence),
    ((set, frozenset), _Walk.unordered),
)
_COLLECTIONS = (str, int, float, dict, list, tuple, set, frozenset)


@lru_cache(maxsize=1024)
def _hidden_members(kind: type[Enum]) -> frozenset[str]:
    """The members of an Enum whose JSON is that of an earlier one, as `(1, 2)` and `[1, 2]`."""
    first: dict[str, Enum] = {}
    hidden = set()
    for member in kind if not issubclass(kind, Flag) else ():
        try:
            text = encode(member.value)
        except PayloadEncodeError:
            continue
        if first.setdefault(text, member) is not member:
            hidden.add(member._name_)
    return frozenset(hidden)


@lru_cache(maxsize=1024)
def _is_made_of_fields(kind: Any) -> bool:
    """Whether its `__init__` only sets the fields that it is given."""
    written = getattr(getattr(kind.__init__, "__code__", None), "co_filename", "") == "<string>"
    kinds = {field._field_type.name for field in kind.__dataclass_fields__.values()}
    return written and not hasattr(kind, "__post_init__") and "_FIELD_INITVAR" not in kinds


@lru_cache(maxsize=1024)
def _rule_for(kind: type) -> _Rule:
    if dataclasses.is_dataclass(kind) and issubclass(kind, _COLLECTIONS):
        return _Walk.refused  # one of both would be lost
    for base, rule in _RULES:
        if issubclass(kind, base):
            return rule
    if dataclasses.is_dataclass(kind):
        return _Walk.record
    if form_of(kind) is not None:
        return _Walk.formed
    if not issubclass(kind, type) and callable(getattr(kind, "model_dump", None)):
        return _Walk.model
    return _Walk.refused
