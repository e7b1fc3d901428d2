"""Type hints to shapes: once for each hint, lazily where a type may stand in itself."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from enum import Enum, Flag
from typing import Any, Literal, TypeVar, Union

from belugawf.model.codec._containers import Field, ListShape, MapShape, ObjectShape, TupleShape
from belugawf.model.codec._forms import form_of
from belugawf.model.codec._shapes import (
    BASIC_SCHEMA_TYPES,
    AnyOf,
    Anything,
    Basic,
    Choice,
    Float,
    LazyShape,
    Shape,
    Text,
    Unsupported,
    Wrapped,
)
from belugawf.model.errors import PayloadTypeError

# The hints of a program are few; only `list[int]` written anew at each call fills this.
_MOST_SHAPES = 4096
_shapes: dict[int, tuple[Any, Shape]] = {}


# Types whose values fit them, whatever they are.
_EXACT = frozenset({str, int, bool})


def fits(value: Any, annotation: Any) -> bool:
    """Whether it is a value of that very type, of those that JSON gives back as they were."""
    return type(value) is annotation and annotation in _EXACT


def convert(data: Any, annotation: Any, *, path: str = "value") -> Any:
    """JSON data as a value of the type `annotation`; `path` names the data in messages.

    Strict: a bool isn't an int, and neither is 3.0; only an int is taken where a float is wanted.
    `Any`, `object`, a TypeVar or no annotation take the data as it is.
    Raises `PayloadTypeError`.
    """
    try:
        return shape_of(annotation).convert(data, path)
    except RecursionError:
        raise PayloadTypeError(path, "less nesting", "data that is nested too deep") from None


def describe(annotation: Any) -> str:
    """The type for people: `bool`, `str | None`, `Approval {ok: bool, note: str}`."""
    return shape_of(annotation).describe(())


def schema(annotation: Any) -> dict[str, Any] | None:
    """A small JSON Schema of what `convert` accepts; `None` if it cannot say.

    It uses type, enum, const, anyOf, items, prefixItems, minItems, properties, propertyNames,
    required, additionalProperties, format and title.
    """
    return shape_of(annotation).schema(()) or None


def shape_of(annotation: Any) -> Shape:
    """The shape of a type hint. It never fails: what JSON cannot give has a shape that refuses.

    Kept by identity: `int | str` and `str | int` are equal to Python, and differ here.
    """
    known = _shapes.get(id(annotation))
    if known is not None:
        return known[1]
    shape = _build(annotation)
    if len(_shapes) >= _MOST_SHAPES:
        _shapes.clear()
    _shapes[id(annotation)] = (annotation, shape)
    return shape


_ANYTHING = Anything()
_LISTS = (
    *(list, collections.abc.Sequence, collections.abc.MutableSequence),
    *(collections.abc.Iterable, collections.abc.Collection),
)
_SETS = (set, collections.abc.Set, collections.abc.MutableSet)
_TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_TRANSPARENT = (typing.Annotated, typing.Final, typing.Required, typing.NotRequired)


def _build(hint: Any) -> Shape:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return _build_bare(hint)
    if origin is Union or origin is types.UnionType:
        return AnyOf([shape_of(member) for member in arguments])
    if origin is Literal:
        return Choice(None, [(value, value) for value in arguments])
    if origin in _TRANSPARENT:
        return shape_of(arguments[0])
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return ListShape(tuple, shape_of(arguments[0]))
        return TupleShape(tuple, [shape_of(item) for item in arguments])
    many = _build_many(origin, arguments)
    if many is not None:
        return many
    if dataclasses.is_dataclass(origin) or typing.is_typeddict(origin):
        parameters = getattr(origin, "__parameters__", ())
        return _record(origin, dict(zip(parameters, arguments, strict=False)))
    return _unsupported(hint)


def _build_many(origin: Any, arguments: tuple[Any, ...] = ()) -> Shape | None:
    """The shape of a collection, bare or with parameters; `None` for anything else."""
    first = shape_of(arguments[0]) if arguments else _ANYTHING
    if origin in _LISTS:
        return ListShape(list, first)
    if origin in _SETS:
        return ListShape(set, first)
    if origin is frozenset:
        return ListShape(frozenset, first)
    if origin in _TABLES:
        return MapShape(first, shape_of(arguments[1]) if arguments else _ANYTHING)
    return None


def _build_bare(hint: Any) -> Shape:
    """The shape of a hint without parameters."""
    if hint is None:
        return Basic(types.NoneType)
    if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, TypeVar):
        return _ANYTHING
    if hint is typing.LiteralString:
        return Basic(str)
    if isinstance(hint, typing.NewType):
        return shape_of(hint.__supertype__)
    if hasattr(hint, "__value__"):
        return LazyShape(hint, lambda: shape_of(hint.__value__))
    return _build_class(hint) if isinstance(hint, type) else _unsupported(hint)


def _build_class(kind: Any) -> Shape:
    if kind is float:
        return Float()
    if kind in BASIC_SCHEMA_TYPES:
        return Basic(kind)
    many = _build_many(kind)
    if many is not None:
        return many
    if kind is tuple:
        return ListShape(tuple, _ANYTHING)
    if issubclass(kind, Flag):
        return Wrapped(kind, Basic(int))
    if issubclass(kind, Enum):
        return Choice(kind.__name__, [(member.value, member) for member in kind])
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _record(kind, {})
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind)
    form = form_of(kind)
    if form is not None:
        return Text(kind, form)
    for base in (str, int, float):
        if issubclass(kind, base):
            return Wrapped(kind, shape_of(base))
    if hasattr(kind, "model_validate_json"):
        from belugawf.model.codec._models import ModelShape

        return ModelShape(kind, shape_of)
    return _unsupported(kind)


def _named_tuple(kind: Any) -> Shape:
    hints = _hints(kind)
    return TupleShape(
        kind,
        [shape_of(hints.get(name, Any)) for name in kind._fields],
        names=kind._fields,
        required=len(kind._fields) - len(kind._field_defaults),
    )


def _unsupported(hint: Any) -> Shape:
    if isinstance(hint, str | typing.ForwardRef):
        name = hint if isinstance(hint, str) else hint.__forward_arg__
        return Unsupported(
            f"{name} (a type hint that cannot be resolved)",
            "define or import the type where the hint is evaluated, "
            "not inside a function or under TYPE_CHECKING",
        )
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return Unsupported(
        f"{name} (a type that JSON data cannot become)", "declare a type that JSON can hold"
    )


def _record(kind: Any, arguments: Mapping[Any, Any]) -> Shape:
    """A dataclass or TypedDict; `arguments` are its type parameters' values (`Box[int]`)."""
    plain = typing.is_typeddict(kind)
    fields_of = _typed_dict_fields if plain else _dataclass_fields

    def resolve() -> dict[str, Field]:
        hints = {name: _substitute(hint, arguments) for name, hint in _hints(kind).items()}
        return fields_of(kind, hints)

    return ObjectShape(kind, resolve, plain=plain)


def _dataclass_fields(kind: Any, hints: Mapping[str, Any]) -> dict[str, Field]:
    return {
        field.name: Field(
            shape_of(hints.get(field.name, Any)),
            required=field.init
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING,
            given=field.init,
        )
        for field in dataclasses.fields(kind)
    }


def _typed_dict_fields(kind: Any, hints: Mapping[str, Any]) -> dict[str, Field]:
    fields = {}
    for name, hint in hints.items():
        required = name in kind.__required_keys__
        # Under `from __future__ import annotations` the class does not know its qualifiers.
        if typing.get_origin(hint) is typing.NotRequired:
            required = False
        elif typing.get_origin(hint) is typing.Required:
            required = True
        fields[name] = Field(shape_of(hint), required)
    return fields


def _substitute(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    """The hint with the parameters of a generic class (`Box[int]`) put in."""
    if not arguments:
        return hint
    if isinstance(hint, TypeVar):
        return arguments.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(arguments.get(parameter, Any) for parameter in parameters)]


def _hints(kind: Any) -> dict[str, Any]:
    """The resolved type hints of a class; one that cannot be resolved stays a text."""
    names = {kind.__name__: kind}
    try:
        return typing.get_type_hints(kind, localns=names, include_extras=True)
    except Exception:
        return {
            name: _resolved(name, hint, base, names)
            for base in reversed(kind.__mro__)
            for name, hint in inspect.get_annotations(base).items()
        }


def _resolved(name: str, hint: Any, base: type, names: dict[str, Any]) -> Any:
    """One hint by itself, so that one that fails does not take the others with it."""
    module = sys.modules.get(base.__module__)
    holder = types.SimpleNamespace(__annotations__={name: hint})
    try:
        resolved = typing.get_type_hints(
            holder, globalns=vars(module) if module else {}, localns=names, include_extras=True
        )
    except Exception:
        return hint
    return resolved[name]
