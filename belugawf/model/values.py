"""Values: dataclasses that cost next to nothing to define.

`@dataclass(frozen=True, slots=True)` compiles six methods for each class, half a millisecond of
every start. `@frozen()` gives the same class to its users: fields, defaults, `replace`, pattern
matching, equality, hash, repr, pickling, `FrozenInstanceError`; `@mutable()` gives one whose fields
change and that equals itself only. All values share the methods for that. Only `__init__` is a
class's own: it is compiled when there are some instances, and most processes make few of most
classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from functools import partial
from typing import Any, NoReturn, TypeVar, dataclass_transform

# So many instances are filled without an `__init__` of their class.
_FEW = 4

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A class decorator: `dataclass(frozen=True, slots=True)`, with the same field specifiers."""
    return partial(_with_slots, kw_only=kw_only, methods=_FROZEN)


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
def mutable(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A class decorator: `dataclass(eq=False, slots=True)`, with the same field specifiers."""
    return partial(_with_slots, kw_only=kw_only, methods=_MUTABLE)


# What dataclasses marks its classes and their fields with; it has no public names for that.
_MARKED: Any = dataclasses.make_dataclass(
    "_Marked", ["field"], init=False, repr=False, eq=False, namespace={"__doc__": "One field."}
)
_PARAMS = _MARKED.__dataclass_params__
_KIND = _MARKED.__dataclass_fields__["field"]._field_type


def _with_slots(cls: Any, kw_only: bool, methods: dict[str, Any]) -> Any:
    """The class made anew, with slots for its fields: annotations are texts, as everywhere here."""
    fields: dict[str, Any] = {}
    for base in cls.__mro__[:0:-1]:
        fields |= getattr(base, "__dataclass_fields__", {})
    inherited = frozenset(fields)
    body = dict(vars(cls))
    for name, annotation in cls.__annotations__.items():
        if annotation.startswith("ClassVar"):
            continue
        default = body.pop(name, MISSING)
        field: Any = default if isinstance(default, Field) else dataclasses.field(default=default)
        known = {"name": name, "type": annotation, "kw_only": kw_only, "_field_type": _KIND}
        for slot, value in known.items():
            setattr(field, slot, value)
        fields[name] = field
    body.pop("__dict__", None)
    body.pop("__weakref__", None)
    body |= {name: method for name, method in methods.items() if name not in body}
    body |= {
        "__doc__": cls.__doc__ or cls.__name__,
        "__qualname__": cls.__qualname__,
        "__slots__": tuple(name for name in fields if name not in inherited),
        "__match_args__": tuple(f.name for f in fields.values() if f.init and not f.kw_only),
        "__dataclass_fields__": fields,
        "__dataclass_params__": _PARAMS,
    }
    made = type(cls)(cls.__name__, cls.__bases__, body)
    if "__init__" not in body:
        made.__init__ = _late_init(made)
    return made


def _late_init(cls: Any) -> Any:
    """An `__init__` that a compiled one replaces, if there are many instances.

    To compile it takes as long as to fill ten without it.
    """
    left = _FEW

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 or not _fill(cls, self, args, kwargs):
            cls.__init__ = compiled = _compile_init(cls)
            compiled(self, *args, **kwargs)

    return __init__


def _fill(cls: Any, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Do as `__init__`; or answer `False` if the arguments are wrong: the compiled one says how."""
    given = dict(zip(cls.__match_args__, args, strict=False)) | kwargs
    if len(given) < len(args) + len(kwargs):
        return False
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        if field.name in given:
            value = given.pop(field.name)
        elif field.default is not MISSING:
            value = field.default
        elif field.default_factory is not MISSING:
            value = field.default_factory()
        else:
            return False
        object.__setattr__(self, field.name, value)
    if given:
        return False
    if hasattr(cls, "__post_init__"):
        self.__post_init__()
    return True


def _compile_init(cls: type[Any]) -> Any:
    """`__init__` as dataclass would write it: one assignment a field."""
    is_frozen = "__setattr__" in vars(cls)
    names: dict[str, Any] = {}
    given: list[str] = []
    keywords: list[str] = []
    body = ""
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        parameter, assigned = field.name, field.name
        if field.default is not MISSING:
            parameter += f"=_{field.name}"
            names[f"_{field.name}"] = field.default
        elif field.default_factory is not MISSING:
            parameter += "=_missing"
            names["_missing"] = MISSING
            names[f"_{field.name}"] = field.default_factory
            assigned = f"_{field.name}() if {field.name} is _missing else {field.name}"
        (keywords if field.kw_only else given).append(parameter)
        if is_frozen:
            # The slot's setter: twice as fast as object.__setattr__, which dataclass calls.
            names[f"_set_{field.name}"] = getattr(cls, field.name).__set__
            body += f" _set_{field.name}(self, {assigned})\n"
        else:
            body += f" self.{field.name} = {assigned}\n"
    if hasattr(cls, "__post_init__"):
        body += " self.__post_init__()"
    star = ["*", *keywords] if keywords else []
    exec(  # noqa: S102 - as dataclasses does: the text is made of field names
        f"def __init__(self, {', '.join(given + star)}):\n{body or ' pass'}", names
    )
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    return init


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.compare)


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _compared(self) == _compared(other)


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_set(self: Any, name: str, value: Any) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, item in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, item)


_MUTABLE: dict[str, Any] = {"__repr__": _repr}
_FROZEN: dict[str, Any] = _MUTABLE | {
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
