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

from belugawf.model.codec._encode import encode
from belugawf.model.codec._forms import TextForm
from belugawf.model.codec._path import (
    LARGEST_INT_BITS,
    Path,
    an,
    mismatch,
    nearest_key,
    quoted_key,
    render_path,
    type_word,
)
from belugawf.model.errors import PayloadEncodeError, PayloadTypeError
from belugawf.model.values import frozen

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

    def describe(self, outer: Outer) -> str:
        raise NotImplementedError

    def schema(self, outer: Outer) -> Schema:
        """The schema; an empty one accepts everything."""
        raise NotImplementedError

    def key_schema(self) -> Schema:
        """What `propertyNames` says about keys of this shape."""
        return self.schema(())


class Anything(Shape):
    """Data as it is."""

    def convert(self, data: Any, path: Path) -> Any:
        return data

    def describe(self, outer: Outer) -> str:
        return "any value"

    def schema(self, outer: Outer) -> Schema:
        return {}


class Unsupported(Shape):
    """A type that JSON data cannot become."""

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def convert(self, data: Any, path: Path) -> Any:
        raise PayloadTypeError(render_path(path), self.name, type_word(data), hint=self.hint)

    def describe(self, outer: Outer) -> str:
        return self.name

    def schema(self, outer: Outer) -> Schema:
        return {}


_WHOLE = re.compile(r"0|-?[1-9]\d*", re.ASCII)
BASIC_SCHEMA_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    types.NoneType: "null",
}


def parse_int_key(text: str) -> int | None:
    """The whole number that the key of an object stands for, `None` where it is none."""
    if _WHOLE.fullmatch(text) is None or len(text) > LARGEST_INT_BITS // 4:
        return None
    return int(text)


class Basic(Shape):
    """bool, int, str or None: exactly that type."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "None" if kind is types.NoneType else kind.__name__

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is self.kind:
            return data
        raise mismatch(path, self.name, data)

    def convert_key(self, text: str, path: Path) -> Any:
        if self.kind is not int:
            return self.convert(text, path)
        number = parse_int_key(text)
        if number is None:
            raise PayloadTypeError(render_path(path), "a whole number as key", "another text")
        return number

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
            raise mismatch(path, "float", data)
        try:
            return float(data)
        except OverflowError:
            raise PayloadTypeError(
                render_path(path), "float", "a number that is too large"
            ) from None


class Text(Shape):
    """A type that stands in JSON as text: datetime, UUID, Decimal, bytes, Path ..."""

    def __init__(self, kind: type, form: TextForm) -> None:
        self.kind = kind
        self.form = form

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not str:
            raise mismatch(path, self._expected(), data)
        try:
            value = self.form.read(data)
            return value if isinstance(value, self.kind) else self.kind(value)
        except (ValueError, TypeError):
            raise PayloadTypeError(render_path(path), self._expected(), "another text") from None

    def _expected(self) -> str:
        return f'{self.kind.__name__}, a text such as "{self.form.example}"'

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
        return _construct(self, self.kind, (self.base.convert(data, path),), path)

    def convert_key(self, text: str, path: Path) -> Any:
        return _construct(self, self.kind, (self.base.convert_key(text, path),), path)

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
        self.by_text: dict[str, Any] = {}
        self.by_key: dict[str, Any] = {}
        for said, value in values:
            try:
                text = encode(said)
            except PayloadEncodeError:
                continue  # a member that JSON cannot name
            self.by_text.setdefault(text, value)
            said = json.loads(text)
            if type(said) in (str, int):
                self.by_key.setdefault(str(said), value)

    def convert(self, data: Any, path: Path) -> Any:
        try:
            return self.by_text[encode(data)]
        except (KeyError, PayloadEncodeError):
            found = "another text" if type(data) is str else type_word(data)
            raise PayloadTypeError(render_path(path), self.describe(()), found) from None

    def convert_key(self, text: str, path: Path) -> Any:
        if text not in self.by_key:
            raise PayloadTypeError(render_path(path), self.describe(()), "another text")
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
        self.takes_all = any(isinstance(m, Anything) for m in members)

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) in self.exact:
            return data
        return self._first(lambda member: member.convert(data, path), data, path)

    def convert_key(self, text: str, path: Path) -> Any:
        # Every key is a text, so `str` takes what none of the others does.
        members = sorted(self.members, key=lambda m: isinstance(m, Basic) and m.kind is str)
        return self._first(lambda member: member.convert_key(text, path), text, path, members)

    def _first(
        self,
        take: Callable[[Shape], Any],
        data: Any,
        path: Path,
        members: list[Shape] | None = None,
    ) -> Any:
        inside: list[PayloadTypeError] = []
        here = render_path(path)
        for member in self.members if members is None else members:
            try:
                return take(member)
            except PayloadTypeError as error:
                if error.path != here or error.hint:
                    inside.append(error)
        if len(inside) == 1:
            # Only one member is alike: what is wrong inside of it says more.
            raise inside[0]
        raise mismatch(here, self.describe(()), data)

    def describe(self, outer: Outer) -> str:
        return " | ".join(dict.fromkeys(member.describe(outer) for member in self.members))

    def schema(self, outer: Outer) -> Schema:
        return _any_of([member.schema(outer) for member in self.members])

    def key_schema(self) -> Schema:
        return _any_of([member.key_schema() for member in self.members])


def _any_of(schemas: list[Schema]) -> Schema:
    return {"anyOf": schemas} if all(schemas) else {}


class Many(Shape):
    """A JSON list of any length, as list, tuple, set or frozenset."""

    def __init__(self, kind: type, item: Shape) -> None:
        self.kind = kind
        self.item = item

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not list:
            raise mismatch(path, self.describe(()), data)
        convert = self.item.convert
        items = [convert(item, (path, index)) for index, item in enumerate(data)]
        if self.kind is list:
            return items
        try:
            return self.kind(items)
        except TypeError:
            raise PayloadTypeError(
                render_path(path), self.describe(()), "a list with items that no set can hold"
            ) from None

    def describe(self, outer: Outer) -> str:
        if isinstance(self.item, Anything):
            return self.kind.__name__
        more = ", ..." if self.kind is tuple else ""
        return f"{self.kind.__name__}[{self.item.describe(outer)}{more}]"

    def schema(self, outer: Outer) -> Schema:
        items = self.item.schema(outer)
        return {"type": "array", "items": items} if items else {"type": "array"}


class Row(Shape):
    """A JSON list of fixed places: tuple[X, Y], or a NamedTuple (`names`, some with defaults)."""

    def __init__(
        self,
        kind: type,
        items: list[Shape],
        *,
        names: tuple[str, ...] = (),
        required: int | None = None,
    ) -> None:
        self.kind = kind
        self.items = items
        self.names = names
        self.required = len(items) if required is None else required

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not list:
            raise mismatch(path, self.describe(()), data)
        if not self.required <= len(data) <= len(self.items):
            raise PayloadTypeError(
                render_path(path), self.describe(()), f"a list of {len(data)} items"
            )
        values = [
            shape.convert(item, (path, index))
            for index, (shape, item) in enumerate(zip(self.items, data, strict=False))
        ]
        return _construct(self, self.kind, values, path) if self.names else tuple(values)

    def describe(self, outer: Outer) -> str:
        inner = [shape.describe(outer) for shape in self.items]
        if self.names:
            fields = ", ".join(f"{n}: {i}" for n, i in zip(self.names, inner, strict=True))
            return f"{self.kind.__name__} [{fields}]"
        return f"tuple[{', '.join(inner) or '()'}]"

    def schema(self, outer: Outer) -> Schema:
        return {
            "type": "array",
            "prefixItems": [shape.schema(outer) for shape in self.items],
            "items": False,
            "minItems": self.required,
        }


class Table(Shape):
    """A JSON object with keys of one type and values of another."""

    def __init__(self, key: Shape, value: Shape) -> None:
        self.key = key
        self.value = value

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not dict:
            raise mismatch(path, self.describe(()), data)
        table: dict[Any, Any] = {}
        for text, item in data.items():
            where = (path, text)
            key = self.key.convert_key(text, where)
            if key in table:
                raise PayloadTypeError(
                    render_path(where), "keys that differ", "a key that stands here twice"
                )
            table[key] = self.value.convert(item, where)
        return table

    def describe(self, outer: Outer) -> str:
        if isinstance(self.key, Anything) and isinstance(self.value, Anything):
            return "dict"
        return f"dict[{self.key.describe(outer)}, {self.value.describe(outer)}]"

    def schema(self, outer: Outer) -> Schema:
        said: Schema = {"type": "object"}
        values, keys = self.value.schema(outer), self.key.key_schema()
        if values:
            said["additionalProperties"] = values
        if keys and keys != {"type": "string"}:
            said["propertyNames"] = keys
        return said


@frozen()
class Field:
    """One field of a record; `given` is false where the class makes the value itself."""

    shape: Shape
    required: bool
    given: bool = True


class Record(Shape):
    """A JSON object with known keys: a dataclass or a TypedDict.

    `resolve` gives its fields on first use, because a tree's own type stands among them.
    `plain`: the value is the dict itself, as for a TypedDict.
    """

    def __init__(self, kind: Any, resolve: Callable[[], dict[str, Field]], *, plain: bool) -> None:
        self.kind = kind
        self.resolve = resolve
        self.plain = plain

    @cached_property
    def fields(self) -> dict[str, Field]:
        return self.resolve()

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(name for name, field in self.fields.items() if field.required)

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not dict:
            raise mismatch(path, self.describe(()), data)
        fields = self.fields
        values: dict[str, Any] = {}
        for key, item in data.items():
            field = fields.get(key)
            if field is None:
                raise self._unknown_key(key, path)
            if field.given:
                values[key] = field.shape.convert(item, (path, key))
        for name in self.required:
            if name not in values:
                raise PayloadTypeError(
                    render_path(path), self.describe(()), f"an object without {quoted_key(name)}"
                )
        return values if self.plain else _construct(self, self.kind, (), path, values)

    def _unknown_key(self, key: str, path: Path) -> PayloadTypeError:
        return PayloadTypeError(
            render_path(path),
            self.describe(()),
            f"an object with the unknown key {quoted_key(key)}",
            hint=nearest_key(key, self.fields),
        )

    def describe(self, outer: Outer) -> str:
        name: str = self.kind.__name__
        if self.kind in outer or len(outer) >= _DESCRIBED_LEVELS:
            return name
        inner = (*outer, self.kind)
        fields = (
            f"{name}{'' if field.required else '?'}: {field.shape.describe(inner)}"
            for name, field in self.fields.items()
            if field.given
        )
        return f"{name} {{{', '.join(fields)}}}"

    def schema(self, outer: Outer) -> Schema:
        if self.kind in outer:
            return {}
        inner = (*outer, self.kind)
        said: Schema = {
            "type": "object",
            "title": self.kind.__name__,
            "properties": {
                name: field.shape.schema(inner) if field.given else {}
                for name, field in self.fields.items()
            },
            "additionalProperties": False,
        }
        if self.required:
            said["required"] = list(self.required)
        return said


class Model(Shape):
    """A pydantic model, which validates itself; strictly, by the rules for JSON."""

    def __init__(self, kind: Any, shape_of: Callable[[Any], Shape]) -> None:
        self.kind = kind
        self.shape_of = shape_of

    def convert(self, data: Any, path: Path) -> Any:
        text = json.dumps(data)
        try:
            return self.kind.model_validate_json(text, strict=True)
        except ValueError as error:
            if not hasattr(error, "errors"):
                raise _refused_by(self, self.kind, error, path) from error
            raise self._translated(error, data, path) from None

    def _translated(self, error: Any, data: Any, path: Path) -> PayloadTypeError:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        problem = problems[0]
        where, found = path, data
        for step in problem["loc"]:
            where = (where, step)
            found = _step_into(found, step)
        return PayloadTypeError(
            render_path(where),
            self._expected(problem),
            "nothing" if problem["type"] == "missing" else type_word(found),
            hint=f"there are {len(problems) - 1} more problems" if len(problems) > 1 else None,
        )

    def _expected(self, problem: Any) -> str:
        """Only messages that are known to hold no value are passed on."""
        kind, message = problem["type"], problem["msg"]
        if kind == "missing":
            return "a value"
        if kind == "extra_forbidden":
            return "no such key"
        if kind.endswith("_type") or kind in _SAFE_PYDANTIC_ERRORS:
            return str(message.removeprefix("Input should be "))
        return f"what {self.kind.__name__} accepts ({kind})"

    def describe(self, outer: Outer) -> str:
        name: str = self.kind.__name__
        if self.kind in outer or len(outer) >= _DESCRIBED_LEVELS:
            return name
        inner = (*outer, self.kind)
        fields = (
            f"{field.alias or name}{'' if field.is_required() else '?'}: "
            f"{self.shape_of(field.annotation).describe(inner)}"
            for name, field in self.kind.model_fields.items()
        )
        return f"{name} {{{', '.join(fields)}}}"

    def schema(self, outer: Outer) -> Schema:
        return {}


_SAFE_PYDANTIC_ERRORS = frozenset(
    {
        "literal_error",
        "enum",
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "multiple_of",
        "finite_number",
        "string_too_short",
        "string_too_long",
        "too_short",
        "too_long",
        "string_pattern_mismatch",
    }
)


def _step_into(data: Any, step: str | int) -> Any:
    """The data one step further in; unions add steps of their own, which lead nowhere."""
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return data


class Later(Shape):
    """A named alias (`type Tree = ...`), looked up on first use: it may stand in itself."""

    def __init__(self, alias: Any, resolve: Callable[[], Shape]) -> None:
        self.alias = alias
        self.resolve = resolve

    @cached_property
    def shape(self) -> Shape:
        return self.resolve()

    def convert(self, data: Any, path: Path) -> Any:
        return self.shape.convert(data, path)

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


def _construct(
    shape: Shape, kind: Any, values: Iterable[Any], path: Path, named: Mapping[str, Any] = {}
) -> Any:
    """Call a user's class; what it refuses (`__post_init__`, `__new__`) is a mismatch."""
    try:
        return kind(*values, **named)
    except RecursionError:
        raise
    except Exception as error:
        raise _refused_by(shape, kind, error, path) from error


def _refused_by(shape: Shape, kind: Any, error: Exception, path: Path) -> PayloadTypeError:
    return PayloadTypeError(
        render_path(path),
        shape.describe(()),
        f"a value that {kind.__name__} refuses with {an(type(error).__name__)}",
    )
