"""What JSON lists and objects become: collections, tuples, and classes with fields."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from belugawf.model.codec._path import Path, mismatch, quoted_key, unfit, unknown_key
from belugawf.model.codec._shapes import (
    Anything,
    Outer,
    Schema,
    Shape,
    construct,
    describe_object,
)
from belugawf.model.values import frozen


class ListShape(Shape):
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
            raise unfit(path, self.describe(()), "a list with items that no set can hold") from None

    def describe(self, outer: Outer) -> str:
        if isinstance(self.item, Anything):
            return self.kind.__name__
        more = ", ..." if self.kind is tuple else ""
        return f"{self.kind.__name__}[{self.item.describe(outer)}{more}]"

    def schema(self, outer: Outer) -> Schema:
        items = self.item.schema(outer)
        return {"type": "array", "items": items} if items else {"type": "array"}


class TupleShape(Shape):
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
            raise unfit(path, self.describe(()), f"a list of {len(data)} items")
        values = [
            shape.convert(item, (path, index))
            for index, (shape, item) in enumerate(zip(self.items, data, strict=False))
        ]
        return construct(self, self.kind, values, path) if self.names else tuple(values)

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
                raise unfit(where, "keys that differ", "a key that stands here twice")
            table[key] = self.value.convert(item, where)
        return table

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
    """One field of a record; `given` is false if the class makes the value itself."""

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
            raise mismatch(path, self.describe(()), data)
        fields = self.fields
        values: dict[str, Any] = {}
        for key, item in data.items():
            field = fields.get(key)
            if field is None:
                raise unknown_key(path, self.describe(()), key, fields)
            if field.given:
                values[key] = field.shape.convert(item, (path, key))
        for name in self.required:
            if name not in values:
                raise unfit(path, self.describe(()), f"an object without {quoted_key(name)}")
        return values if self.plain else construct(self, self.kind, (), path, values)

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
            "properties": {
                name: field.shape.schema(inner) if field.given else {}
                for name, field in self.fields.items()
            },
            "additionalProperties": False,
        }
        if self.required:
            schema["required"] = list(self.required)
        return schema
