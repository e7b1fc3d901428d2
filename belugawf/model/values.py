"""Frozen values: dataclasses that cost next to nothing to define.

`@dataclass(frozen=True, slots=True)` compiles six methods for each class, half a millisecond of
every start. `@frozen()` gives the same class to its users: fields, defaults, `replace`, pattern
matching, equality, hash, repr, pickling, `FrozenInstanceError`. All values share the methods for
that. Only `__init__` is a class's own: it is compiled with the first instance, and most processes
make instances of few classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from typing import Any, NoReturn, TypeVar, cast, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A class decorator: `dataclass(frozen=True, slots=True)`, with the same field specifiers."""

    def decorate(cls: type[T]) -> type[T]:
        own = frozenset(cls.__dict__)
        # Else dataclass composes one of the signature, which takes longer than all the rest.
        cls.__doc__ = cls.__doc__ or cls.__name__
        made: Any = dataclasses.dataclass(
            init=False, repr=False, eq=False, slots=True, kw_only=kw_only
        )(cls)
        for name, method in _SHARED.items():
            if name not in own:
                setattr(made, name, method)
        if "__init__" not in own:
            made.__init__ = _late_init(made)
        return cast(type[T], made)

    return decorate


def _late_init(cls: Any) -> Any:
    """An `__init__` that the first call replaces by the compiled one."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = compiled = _compile_init(cls)
        compiled(self, *args, **kwargs)

    return __init__


def _compile_init(cls: type[Any]) -> Any:
    """`__init__` as dataclass would write it: one assignment a field."""
    fields = dataclasses.fields(cls)
    # The setters of the slots: twice as fast as object.__setattr__, which dataclass calls.
    names: dict[str, Any] = {f"_set_{f.name}": getattr(cls, f.name).__set__ for f in fields}
    given: list[str] = []
    keywords: list[str] = []
    body = ""
    for field in fields:
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
        body += f" _set_{field.name}(self, {assigned})\n"
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


_SHARED: dict[str, Any] = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
