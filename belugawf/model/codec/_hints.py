"""Type hints to shapes: once for each hint, lazily where a type may stand in itself."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum, Flag
from functools import partial
from typing import Any, Literal, TypeVar, Union

from belugawf.model import checking
from belugawf.model.codec._containers import Field, ListShape, MapShape, ObjectShape, TupleShape
from belugawf.model.codec._encode import encode
from belugawf.model.codec._forms import form_of
from belugawf.model.codec._resolving import (
    Unresolved,
    hints_of_class,
    is_typed_dict,
    substitute,
    type_arguments,
)
from belugawf.model.codec._shapes import (
    BASIC_SCHEMA_TYPES,
    AnyOf,
    Anything,
    Basic,
    Choice,
    Float,
    LazyShape,
    Nameless,
    Shape,
    Text,
    Unsupported,
    Wrapped,
    is_equal,
)
from belugawf.model.errors import PayloadEncodeError, PayloadTypeError

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


def encode_as(value: Any, annotation: Any, *, what: str = "value", limit: int | None = None) -> str:
    """As `encode`, for a reader who will `decode` it by that annotation, to an equal value.

    JSON data may become a value of the type. Raises `PayloadTypeError` too, if it does not fit.
    """
    text = encode(value, what=what, limit=limit)
    if annotation is not Any and not fits(value, annotation):
        require(value, annotation, json.loads(text), what)
    return text


def require(value: Any, annotation: Any, data: Any, what: str) -> None:
    """Require that the JSON data of a value becomes an equal one. See `encode_as`."""
    shape = shape_of(annotation)
    try:
        back = shape.convert(data, what)
        if not is_equal(value, back):
            shape.keep(value, back, what)
    except RecursionError:
        raise PayloadEncodeError(what, "nested too deep to be read again") from None


def type_of(value: Any) -> Any:
    """A hint by which the JSON of a value, and of others like it, can be read."""
    kind = type(value)
    if (kind is list or kind is tuple) and value:
        item = type_of(value[0])
        return Any if item is Any else types.GenericAlias(list, (item,))
    if kind is dict and value:
        item = type_of(next(iter(value.values())))
        return Any if item is Any else types.GenericAlias(dict, (str, item))
    is_class = dataclasses.is_dataclass(kind) or hasattr(kind, "model_validate_json")
    return kind if is_class or hasattr(kind, "_fields") else Any


def is_type(annotation: Any) -> bool:
    """Whether JSON data can become something of that type at all."""
    return not isinstance(shape_of(annotation), Unsupported)


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
_UNTYPED = (Any, object, inspect.Parameter.empty)
_LISTS = (
    *(list, collections.abc.Sequence, collections.abc.MutableSequence),
    *(collections.abc.Iterable, collections.abc.Collection),
)
_SETS = (set, collections.abc.Set, collections.abc.MutableSet)
_TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_TRANSPARENT = frozenset({"Annotated", "Final", "Required", "NotRequired", "ReadOnly"})


def _is_transparent(origin: Any) -> bool:
    """By name: `typing_extensions` has its own ones of those that its Python does not have."""
    return getattr(origin, "_name", getattr(origin, "__name__", None)) in _TRANSPARENT and (
        getattr(origin, "__module__", None) in ("typing", "typing_extensions")
    )


# Classes of dicts, and what makes one of a dict, given the shape's arguments.
_DICTS: dict[Any, Callable[[tuple[Any, ...]], Callable[[dict[Any, Any]], Any]]] = {
    collections.OrderedDict: lambda arguments: collections.OrderedDict,
    collections.Counter: lambda arguments: collections.Counter,
    collections.defaultdict: lambda arguments: partial(
        collections.defaultdict, _factory(arguments[1:])
    ),
}


def _factory(values: tuple[Any, ...]) -> type | None:
    """What makes a missing value of a defaultdict: its type of values, if that is a plain one."""
    kind = typing.get_origin(values[0]) or values[0] if values else None
    return kind if kind in (int, float, str, bool, list, dict, set, tuple) else None


def _build(hint: Any) -> Shape:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return _build_bare(hint)
    if origin is Union or origin is types.UnionType:
        return AnyOf([shape_of(member) for member in arguments])
    if origin is Literal:
        return Choice(None, [(value, value) for value in arguments])
    if _is_transparent(origin):
        return shape_of(arguments[0])
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return ListShape(tuple, shape_of(arguments[0]))
        return TupleShape(tuple, [shape_of(item) for item in arguments])
    many = _build_many(origin, arguments)
    if many is not None:
        return many
    if hasattr(origin, "__value__"):
        fixed = dict(zip(origin.__type_params__, arguments, strict=False))
        return LazyShape(hint, lambda: shape_of(substitute(origin.__value__, fixed)))
    named = _build_named(origin, type_arguments(origin, arguments))
    return named or _unsupported(hint)


def _build_many(origin: Any, arguments: tuple[Any, ...] = ()) -> Shape | None:
    """The shape of a collection, bare or with parameters; `None` for anything else."""
    first = shape_of(arguments[0]) if arguments else _ANYTHING
    if origin in _LISTS:
        return ListShape(list, first)
    if origin in _SETS:
        return ListShape(set, first)
    if origin is frozenset:
        return ListShape(frozenset, first)
    if origin is collections.Counter:
        return MapShape(first, Basic(int), _DICTS[origin](arguments))
    if origin in _TABLES or origin in _DICTS:
        make = _DICTS[origin](arguments) if origin in _DICTS else None
        return MapShape(first, shape_of(arguments[1]) if arguments else _ANYTHING, make)
    return None


def _build_named(kind: Any, arguments: Mapping[Any, Any]) -> Shape | None:
    """The shape of a class with fields; `arguments` are what its type parameters stand for."""
    if dataclasses.is_dataclass(kind) or is_typed_dict(kind):
        return _record(kind, arguments)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind, arguments)
    return None


def _build_bare(hint: Any) -> Shape:
    """The shape of a hint without parameters."""
    if hint is None:
        return Basic(types.NoneType)
    if any(hint is some for some in _UNTYPED) or isinstance(hint, TypeVar):
        return _ANYTHING
    if isinstance(hint, Unresolved):
        return Nameless(hint.text)
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
    named = _build_named(kind, {})
    if named is not None:
        return named
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


def _named_tuple(kind: Any, arguments: Mapping[Any, Any]) -> Shape:
    hints = hints_of_class(kind, arguments)
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
    if isinstance(hint, type):
        name = hint.__name__
    else:
        named = type(hint).__module__ in ("typing", "typing_extensions", "types")
        name = str(hint) if named else checking.shown(hint)
    return Unsupported(
        f"{name} (a type that JSON data cannot become)", "declare a type that JSON can hold"
    )


def _record(kind: Any, arguments: Mapping[Any, Any]) -> Shape:
    plain = is_typed_dict(kind)
    fields_of = _typed_dict_fields if plain else _dataclass_fields

    def resolve() -> dict[str, Field]:
        return fields_of(kind, hints_of_class(kind, arguments))

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
        fields[name] = Field(shape_of(hint), _is_required(hint, name in kind.__required_keys__))
    return fields


def _is_required(hint: Any, otherwise: bool) -> bool:
    """Under `from __future__ import annotations` the class does not know its qualifiers."""
    while _is_transparent(origin := typing.get_origin(hint)):
        if origin in (typing.Required, typing.NotRequired):
            return origin is typing.Required
        hint = typing.get_args(hint)[0]
    return otherwise
