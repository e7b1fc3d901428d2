"""What JSON lists and objects become: collections, tuples, and classes with fields."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from belugawf.model.codec._path import Path, mismatch, quoted_key, unfit, unknown_key
from belugawf.model.codec._shapes import (
    Anything,
    Basic,
    Outer,
    Schema,
    Shape,
    altered,
    construct,
    describe_object,
    is_equal,
    refused_by,
)
from belugawf.model.values import frozen


class ListShape(Shape):
    """A JSON list of any length, as list, tuple, set or frozenset."""

    def __init__(self, kind: Any, item: Shape) -> None:
        self.kind = kind
        self.item = item

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not list:
            raise mismatch(path, self.describe(()), data, list)
        convert = self.item.convert
        if type(self.item) is Basic and self.item.are_all(data):
            return data if self.kind is list else self.kind(data)
        items = [convert(item, (path, index)) for index, item in enumerate(data)]
        if self.kind is list:
            return items
        try:
            return self.kind(items)
        except TypeError:
            raise unfit(path, self.describe(()), "a list with items that no set can hold") from None

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.kind) and all(map(self.item.holds, value))

    def keep(self, value: Any, back: Any, path: Path) -> None:
        ordered = isinstance(value, list | tuple) and isinstance(back, list | tuple)
        if not ordered or len(value) != len(back):
            if not isinstance(value, list | tuple) or not is_equal(self.kind(value), back):
                super().keep(value, back, path)
            return
        for index, (item, other) in enumerate(zip(value, back, strict=True)):
            self.item.keep(item, other, (path, index))

    def describe(self, outer: Outer) -> str:
        if isinstance(self.item, Anything):
            return str(self.kind.__name__)
        more = ", ..." if self.kind is tuple else ""
        return f"{self.kind.__name__}[{self.item.describe(outer)}{more}]"

    def schema(self, outer: Outer) -> Schema:
        items = self.item.schema(outer)
        return {"type": "array", "items": items} if items else {"type": "array"}


class TupleShape(Shape):
    """A JSON list of fixed places: tuple[X, Y], or a NamedTuple (`names`, some with defaults)."""

    def __init__(
        self,
        kind: Any,
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
            raise mismatch(path, self.describe(()), data, list)
        if not self.required <= len(data) <= len(self.items):
            raise unfit(path, self.describe(()), f"a list of {len(data)} items")
        values = [
            shape.convert(item, (path, index))
            for index, (shape, item) in enumerate(zip(self.items, data, strict=False))
        ]
        return construct(self, self.kind, values, path) if self.names else tuple(values)

    def holds(self, value: Any) -> bool:
        return (
            isinstance(value, self.kind)
            and len(value) == len(self.items)
            and all(shape.holds(item) for shape, item in zip(self.items, value, strict=True))
        )

    def keep(self, value: Any, back: Any, path: Path) -> None:
        if not isinstance(value, list | tuple):
            super().keep(value, back, path)
            return
        for index, (shape, item) in enumerate(zip(self.items, value, strict=False)):
            shape.keep(item, back[index], (path, index))

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


class MapShape(Shape):
    """A JSON object with keys of one type and values of another.

    `make` makes a dict the value, if it is to be of another class.
    """

    def __init__(
        self, key: Shape, value: Shape, make: Callable[[dict[Any, Any]], Any] | None = None
    ) -> None:
        self.key = key
        self.value = value
        self.make = make

    def convert(self, data: Any, path: Path) -> Any:
        if type(data) is not dict:
            raise mismatch(path, self.describe(()), data, dict)
        table: dict[Any, Any] = {}
        for text, item in data.items():
            where = (path, text)
            key = self.key.convert_key(text, where)
            if key in table:
                raise unfit(where, "keys that differ", "a key that stands here twice")
            table[key] = self.value.convert(item, where)
        return table if self.make is None else self.make(table)

    def holds(self, value: Any) -> bool:
        return isinstance(value, dict) and all(
            self.key.holds(key) and self.value.holds(item) for key, item in value.items()
        )

    def keep(self, value: Any, back: Any, path: Path) -> None:
        if not isinstance(value, dict):
            super().keep(value, back, path)
            return
        for (key, item), (key_back, item_back) in zip(value.items(), back.items(), strict=True):
            where = (path, str(key))
            # As a key, only a text is JSON data.
            typed = type(key) is not str and not isinstance(self.key, Anything)
            if typed and not is_equal(key, key_back):
                raise altered(key, key_back, where)
            self.value.keep(item, item_back, where)

    def describe(self, outer: Outer) -> str:
        if isinstance(self.key, Anything) and isinstance(self.value, Anything):
            return "dict"
        return f"dict[{self.key.describe(outer)}, {self.value.describe(outer)}]"

    def schema(self, outer: Outer) -> Schema:
        schema: Schema = {"type": "object"}
        values, keys = self.value.schema(outer), self.key.key_schema()
        if values:
            schema["additionalProperties"] = values
        if keys and keys != {"type": "string"}:
            schema["propertyNames"] = keys
        return schema


@frozen()
class Field:
    """One field of a record; `given` is false if `__init__` does not take it."""

    shape: Shape
    required: bool
    given: bool = True


class ObjectShape(Shape):
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
            raise mismatch(path, self.describe(()), data, dict)
        fields = self.fields
        values: dict[str, Any] = {}
        for key, item in data.items():
            field = fields.get(key)
            if field is None:
                raise unknown_key(path, self.describe(()), key, fields)
            values[key] = field.shape.convert(item, (path, key))
        for name in self.required:
            if name not in values:
                raise unfit(path, self.describe(()), f"an object without {quoted_key(name)}")
        return values if self.plain else self._made(values, path)

    def _made(self, values: dict[str, Any], path: Path) -> Any:
        """The object as it was written: also what `__init__` does not take."""
        given = {name: value for name, value in values.items() if self.fields[name].given}
        made = construct(self, self.kind, (), path, given)
        for name in values.keys() - given.keys():
            try:
                object.__setattr__(made, name, values[name])
            except (AttributeError, TypeError) as error:
                raise refused_by(self, self.kind, error, (path, name)) from error
        return made

    def holds(self, value: Any) -> bool:
        if not isinstance(value, dict if self.plain else self.kind):
            return False
        found = value if self.plain else _fields_of(value)
        return set(self.required) <= found.keys() <= self.fields.keys() and all(
            self.fields[name].shape.holds(item) for name, item in found.items()
        )

    def keep(self, value: Any, back: Any, path: Path) -> None:
        if isinstance(value, dict):
            found = value
        elif type(value) is type(back):
            found = _fields_of(value)
        else:
            raise altered(value, back, path)
        after = back if self.plain else _fields_of(back)
        for name, item in found.items():
            self.fields[name].shape.keep(item, after[name], (path, name))

    def describe(self, outer: Outer) -> str:
        fields = ((n, f.required, f.shape) for n, f in self.fields.items() if f.given)
        return describe_object(self.kind, fields, outer)

    def schema(self, outer: Outer) -> Schema:
        if self.kind in outer:
            return {}
        inner = (*outer, self.kind)
        schema: Schema = {
            "type": "object",
            "title": self.kind.__name__,
            "properties": {name: field.shape.schema(inner) for name, field in self.fields.items()},
            "additionalProperties": False,
        }
        if self.required:
            schema["required"] = list(self.required)
        return schema


def _fields_of(value: Any) -> dict[str, Any]:
    return {
        name: getattr(value, name) for name in value.__dataclass_fields__ if hasattr(value, name)
    }
