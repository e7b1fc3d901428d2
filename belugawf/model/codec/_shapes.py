"""What JSON data a type accepts: in code, in words and as a schema.

Everything about one kind of type (converting, describing, its schema) stands together in one
`Shape`, so that the three cannot drift apart. `_hints` makes shapes of type hints.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from belugawf.model.checking import an, class_name
from belugawf.model.codec._encode import encode
from belugawf.model.codec._forms import TextForm, form_of
from belugawf.model.codec._path import (
    LARGEST_INT_BITS,
    Path,
    first_fit,
    mismatch,
    render_path,
    type_word,
    unfit,
)
from belugawf.model.errors import PayloadEncodeError, PayloadTypeError

Schema: TypeAlias = dict[str, Any]

# The classes that a description or a schema is inside of: a tree would never end.
Outer: TypeAlias = tuple[Any, ...]

# A description is read on one line: what is deeper or longer is named only.
_DESCRIBED_LEVELS = 2
_DESCRIBED_CHOICES = 10


class Shape:
    """What a type hint accepts."""

    def convert(self, data: Any, path: Path) -> Any:
        """The value; raises `PayloadTypeError`."""
        raise NotImplementedError

    def convert_key(self, text: str, path: Path) -> Any:
        """The value of a JSON object's key, which is always a text."""
        return self.convert(text, path)

    def holds(self, value: Any) -> bool:
        """Whether it is a value of this type already, and not only data for one."""
        raise NotImplementedError

    def keep(self, value: Any, back: Any, path: Path) -> None:
        """Require that `back`, which was made of the JSON of `value`, is equal to it.

        JSON data stands for a value of any type: that may have become one. Raises
        `PayloadEncodeError`.
        """
        if not (is_equal(value, back) or is_data(value)):
            raise altered(value, back, path)

    def describe(self, outer: Outer) -> str:
        raise NotImplementedError

    def schema(self, outer: Outer) -> Schema:
        """The schema; an empty one accepts everything."""
        return {}

    def key_schema(self) -> Schema:
        """What `propertyNames` says about keys of this shape."""
        return self.schema(())


class Anything(Shape):
    """Data as it is."""

    def convert(self, data: Any, path: Path) -> Any:
        return data

    def holds(self, value: Any) -> bool:
        return True

    def keep(self, value: Any, back: Any, path: Path) -> None:
        pass

    def describe(self, outer: Outer) -> str:
        return "any value"


class Nameless(Anything):
    """Data as it is, because the hint of a function's parameter cannot be resolved."""

    def __init__(self, text: str) -> None:
        self.text = text

    def keep(self, value: Any, back: Any, path: Path) -> None:
        if not is_data(value):
            reason = f"the type hint {self.text!r} cannot be resolved where the function stands"
            raise altered(value, back, path, reason)

    def describe(self, outer: Outer) -> str:
        return f"{self.text} (a type hint that cannot be resolved)"


class Unsupported(Shape):
    """A type that JSON data cannot become."""

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def convert(self, data: Any, path: Path) -> Any:
        raise unfit(path, self.name, type_word(data), hint=self.hint)

    def holds(self, value: Any) -> bool:
        return False

    def describe(self, outer: Outer) -> str:
        return self.name


_WHOLE = re.compile(r"0|-?[1-9]\d*", re.ASCII)
BASIC_SCHEMA_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    types.NoneType: "null",
}


def int_key(text: str, path: Path) -> int:
    """The whole number that the key of an object stands for."""
    if _WHOLE.fullmatch(text) is None or len(text) > LARGEST_INT_BITS // 4:
        raise unfit(path, "a whole number as key", "another text")
    return int(text)


def to_float(number: float, path: Path) -> float:
    """A JSON number as a float."""
    try:
        return float(number)
    except OverflowError:
        raise unfit(path, "float", "a number that is too large") from None


class Basic(Shape):
    """bool, int, str or None: exactly that type."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "None" if kind is types.NoneType else kind.__name__
        self._of_this = frozenset({kind}).issuperset

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is self.kind:
            return data
        raise mismatch(path, self.name, data, self.kind)

    def are_all(self, data: list[Any]) -> bool:
        """Whether each of them is exactly that."""
        return self._of_this(map(type, data))

    def holds(self, value: Any) -> bool:
        return type(value) is self.kind

    def convert_key(self, text: str, path: Path) -> Any:
        return int_key(text, path) if self.kind is int else self.convert(text, path)

    def describe(self, outer: Outer) -> str:
        return self.name

    def schema(self, outer: Outer) -> Schema:
        return {"type": BASIC_SCHEMA_TYPES[self.kind]}

    def key_schema(self) -> Schema:
        return {"type": "string", "format": "integer"} if self.kind is int else self.schema(())


class Float(Basic):
    """float; takes an int too, because JSON writers drop the `.0`."""

    def __init__(self) -> None:
        super().__init__(float)

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is float:
            return data
        if type(data) is not int:
            raise mismatch(path, "float", data, float)
        return to_float(data, path)

    def holds(self, value: Any) -> bool:
        return type(value) is float or type(value) is int


class Text(Shape):
    """A type that stands in JSON as text: datetime, UUID, Decimal, bytes, Path ..."""

    def __init__(self, kind: type, form: TextForm) -> None:
        self.kind = kind
        self.form = form

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not str:
            raise mismatch(path, self._expected(), data, str, self.form.example)
        try:
            value = self.form.read(data)
            return value if isinstance(value, self.kind) else self._subclass(value, data)
        except (ValueError, TypeError):
            raise unfit(path, self._expected(), "another text") from None

    def _subclass(self, value: Any, data: str) -> Any:
        """What a subclass makes of the text; of bytes, those that it stands for."""
        if hasattr(self.kind, "fromisoformat"):
            return self.kind.fromisoformat(data)
        return self.kind(value if isinstance(value, bytes) else data)

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.kind) and form_of(type(value)) is self.form

    def keep(self, value: Any, back: Any, path: Path) -> None:
        # By their texts: a moment in a zone never equals itself in the hour that comes twice.
        if self.holds(value) and self.form.write(value) == self.form.write(back):
            return
        super().keep(value, back, path)

    def _expected(self) -> str:
        return self.form.described(self.kind)

    def describe(self, outer: Outer) -> str:
        return self.kind.__name__

    def schema(self, outer: Outer) -> Schema:
        return {"type": "string", "format": self.form.format}


class Wrapped(Shape):
    """A subclass of int, float or str (or a Flag): the plain value, then the class."""

    def __init__(self, kind: type, base: Shape) -> None:
        self.kind = kind
        self.base = base

    def convert(self, data: Any, path: Path) -> Any:
        return construct(self, self.kind, (self.base.convert(data, path),), path)

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.kind)

    def convert_key(self, text: str, path: Path) -> Any:
        return construct(self, self.kind, (self.base.convert_key(text, path),), path)

    def describe(self, outer: Outer) -> str:
        return f"{self.kind.__name__} ({self.base.describe(outer)})"

    def schema(self, outer: Outer) -> Schema:
        return self.base.schema(outer)

    def key_schema(self) -> Schema:
        return self.base.key_schema()


class Choice(Shape):
    """Literal or Enum: one of a few values, found by their JSON texts (so True is not 1)."""

    def __init__(self, name: str | None, values: list[tuple[Any, Any]]) -> None:
        self.name = name
        self.ones = [value for _, value in values]
        self.by_text: dict[str, Any] = {}
        self.by_key: dict[str, Any] = {}
        for plain, value in values:
            try:
                text = encode(plain)
            except PayloadEncodeError:
                continue  # a member that JSON cannot name
            self.by_text.setdefault(text, value)
            plain = json.loads(text)
            if type(plain) in (str, int):
                self.by_key.setdefault(str(plain), value)

    def convert(self, data: Any, path: Path) -> Any:
        try:
            return self.by_text[encode(data)]
        except (KeyError, PayloadEncodeError):
            found = "another text" if type(data) is str else type_word(data)
            raise unfit(path, self.describe(()), found) from None

    def holds(self, value: Any) -> bool:
        return any(value is one or (type(value) is type(one) and value == one) for one in self.ones)

    def convert_key(self, text: str, path: Path) -> Any:
        if text not in self.by_key:
            raise unfit(path, self.describe(()), "another text")
        return self.by_key[text]

    def describe(self, outer: Outer) -> str:
        texts = list(self.by_text)
        shown = " | ".join(texts[:_DESCRIBED_CHOICES])
        if len(texts) > _DESCRIBED_CHOICES:
            shown += " | ..."
        return f"{self.name} ({shown})" if self.name else shown

    def schema(self, outer: Outer) -> Schema:
        values = [json.loads(text) for text in self.by_text]
        return {"const": values[0]} if len(values) == 1 else {"enum": values}

    def key_schema(self) -> Schema:
        return {"enum": list(self.by_key)}


class AnyOf(Shape):
    """A union: the member whose basic type the data has exactly, else the first that takes it."""

    def __init__(self, members: list[Shape]) -> None:
        self.members = members
        self.exact = frozenset(m.kind for m in members if isinstance(m, Basic))

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) in self.exact:
            return data
        return self._first(lambda member: member.convert(data, path), data, path, self.members)

    def convert_key(self, text: str, path: Path) -> Any:
        # Every key is a text, so `str` takes what none of the others does.
        members = sorted(self.members, key=lambda m: isinstance(m, Basic) and m.kind is str)
        return self._first(lambda member: member.convert_key(text, path), text, path, members)

    def _first(
        self, take: Callable[[Shape], Any], data: Any, path: Path, members: list[Shape]
    ) -> Any:
        return first_fit(members, take, path, lambda: self.describe(()), data)

    def holds(self, value: Any) -> bool:
        return any(member.holds(value) for member in self.members)

    def keep(self, value: Any, back: Any, path: Path) -> None:
        error = None
        members = [member for member in self.members if member.holds(value)]
        for member in members or self.members:
            if not member.holds(back):
                continue
            try:
                return member.keep(value, back, path)
            except PayloadEncodeError as found:
                error = found
        raise error or altered(value, back, path)

    def describe(self, outer: Outer) -> str:
        return " | ".join(dict.fromkeys(member.describe(outer) for member in self.members))

    def schema(self, outer: Outer) -> Schema:
        return _any_of([member.schema(outer) for member in self.members])

    def key_schema(self) -> Schema:
        return _any_of([member.key_schema() for member in self.members])


def _any_of(schemas: list[Schema]) -> Schema:
    return {"anyOf": schemas} if all(schemas) else {}


class LazyShape(Shape):
    """A named alias (`type Tree = ...`), looked up on first use: it may stand in itself."""

    def __init__(self, alias: Any, resolve: Callable[[], Shape]) -> None:
        self.alias = alias
        self.resolve = resolve

    @cached_property
    def shape(self) -> Shape:
        return self.resolve()

    def convert(self, data: Any, path: Path) -> Any:
        return self.shape.convert(data, path)

    def holds(self, value: Any) -> bool:
        return self.shape.holds(value)

    def keep(self, value: Any, back: Any, path: Path) -> None:
        self.shape.keep(value, back, path)

    def convert_key(self, text: str, path: Path) -> Any:
        return self.shape.convert_key(text, path)

    def describe(self, outer: Outer) -> str:
        if self.alias in outer:
            return str(self.alias)
        return self.shape.describe((*outer, self.alias))

    def schema(self, outer: Outer) -> Schema:
        return {} if self.alias in outer else self.shape.schema((*outer, self.alias))

    def key_schema(self) -> Schema:
        return self.shape.key_schema()


_DATA = (str, int, float, bool, types.NoneType)


def is_data(value: Any) -> bool:
    """Whether it is what JSON has itself: texts, numbers, lists, objects with texts as keys."""
    kind = type(value)
    if kind is list or kind is tuple:
        return all(map(is_data, value))
    if kind is dict:
        return all(type(key) is str and is_data(item) for key, item in value.items())
    return kind in _DATA


def is_equal(value: Any, other: Any) -> bool:
    """As `==` has it; what cannot be compared is not."""
    try:
        return bool(value == other)
    except Exception:
        return False


def altered(value: Any, back: Any, path: Path, reason: str = "") -> PayloadEncodeError:
    """The error for a value that would come back as another one."""
    was, becomes = an(class_name(type(value))), an(class_name(type(back)))
    if was == becomes:
        becomes = "another one"
    text = f"{was} would arrive as {becomes}{': ' if reason else ''}{reason}"
    return PayloadEncodeError(render_path(path), text)


def describe_object(kind: Any, fields: Iterable[tuple[str, bool, Shape]], outer: Outer) -> str:
    """A class with its fields: name, whether it is required, and shape."""
    name: str = kind.__name__
    if kind in outer or len(outer) >= _DESCRIBED_LEVELS:
        return name
    inner = (*outer, kind)
    texts = (f"{n}{'' if required else '?'}: {s.describe(inner)}" for n, required, s in fields)
    return f"{name} {{{', '.join(texts)}}}"


def construct(
    shape: Shape, kind: Any, values: Iterable[Any], path: Path, named: Mapping[str, Any] = {}
) -> Any:
    """Call a user's class; what it refuses (`__post_init__`, `__new__`) is a mismatch."""
    try:
        return kind(*values, **named)
    except RecursionError:
        raise
    except Exception as error:
        raise refused_by(shape, kind, error, path) from error


def refused_by(shape: Shape, kind: Any, error: Exception, path: Path) -> PayloadTypeError:
    return unfit(
        path,
        shape.describe(()),
        f"a value that {kind.__name__} refuses with {an(type(error).__name__)}",
    )
