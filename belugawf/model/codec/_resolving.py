"""Type hints as objects: those of classes with the parameters that they fix, those of functions.

Each hint is resolved by itself, so that one that cannot be does not take the others with it.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Union

from belugawf.model.values import frozen


@frozen()
class Unresolved:
    """A hint of a function that cannot be resolved where it stands; `text` is how it is written."""

    text: str


def is_typed_dict(kind: Any) -> bool:
    """Whether it is a TypedDict, of `typing` or of `typing_extensions`."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def type_arguments(kind: Any, given: tuple[Any, ...]) -> dict[Any, Any]:
    """The type parameters of a generic class and what `kind[given]` puts in their places."""
    return dict(zip(getattr(kind, "__parameters__", ()), given, strict=False))


def hints_of_class(kind: Any, arguments: Mapping[Any, Any]) -> dict[str, Any]:
    """The hints of a class's fields by name; one that cannot be resolved stays a text.

    `arguments` are the type parameters of `kind`; those of its bases are fixed by what it names
    as its bases: `class DateBox(Box[date])`.
    """
    found: dict[str, Any] = {}
    inherited: dict[str, Any] = {}
    for named in reversed(vars(kind).get("__orig_bases__", kind.__bases__)):
        base = typing.get_origin(named) or named
        if not isinstance(base, type) or base.__module__ in ("builtins", "typing"):
            continue
        given = tuple(substitute(argument, arguments) for argument in typing.get_args(named))
        found |= hints_of_class(base, type_arguments(base, given))
        inherited |= _annotations(base)
    names = {kind.__name__: kind}
    names |= {parameter.__name__: parameter for parameter in getattr(kind, "__type_params__", ())}
    own = {**arguments, typing.Self: kind}
    for name, hint in _annotations(kind).items():
        # A TypedDict has those of its bases as its own.
        if inherited.get(name) is hint and is_typed_dict(kind):
            continue
        found[name] = substitute(_resolved(name, hint, kind.__module__, names), own)
    return found


def _annotations(kind: type) -> Mapping[str, Any]:
    try:
        return inspect.get_annotations(kind)
    except Exception:  # from Python 3.14 on they are evaluated only here
        return {}


def _resolved(name: str, hint: Any, module: str, names: Mapping[str, Any]) -> Any:
    known = sys.modules.get(module)
    try:
        return evaluated(name, hint, vars(known) if known else {}, names)
    except Exception:
        return hint


def evaluated(name: str, hint: Any, known: Mapping[str, Any], names: Mapping[str, Any]) -> Any:
    """The hint with every name in it looked up. Whatever the user's text does, it may raise."""
    # As a class's, because there alone ClassVar, Required and their like are allowed.
    holder = type("_", (), {"__annotations__": {name: hint}})
    scope = {**known, **names}
    return typing.get_type_hints(holder, globalns=scope, localns=scope, include_extras=True)[name]


def substitute(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    """The hint with type parameters replaced, wherever in it they stand."""
    if isinstance(hint, typing.TypeVar) or hint is typing.Self:
        return arguments.get(hint, hint)
    inner = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if not inner or not arguments or origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        return _annotated(substitute(inner[0], arguments), hint.__metadata__)
    replaced = tuple(substitute(argument, arguments) for argument in inner)
    if all(new is old for new, old in zip(replaced, inner, strict=True)):
        return hint
    if origin is types.UnionType:
        return Union[replaced]  # noqa: UP007 - of a tuple
    return origin[replaced if len(replaced) > 1 else replaced[0]]


def _annotated(hint: Any, metadata: tuple[Any, ...]) -> Any:
    return typing.Annotated[(hint, *metadata)]


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature with annotations as objects; one that cannot be resolved is `Unresolved`.

    Raises `TypeError` or `ValueError` for what has none.
    """
    signature = _signature(function)
    known = _globals_of(function)
    return signature.replace(
        parameters=[
            p.replace(annotation=_of_function(p.annotation, known))
            for p in signature.parameters.values()
        ],
        return_annotation=_of_function(signature.return_annotation, known),
    )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _globals_of(function: Any) -> Mapping[str, Any]:
    function = inspect.unwrap(function)
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__globals__"):
        function = type(function).__call__
    known: Mapping[str, Any] = getattr(function, "__globals__", {})
    return known


def _of_function(hint: Any, known: Mapping[str, Any]) -> Any:
    if hint is inspect.Parameter.empty:
        return hint
    try:
        return evaluated("hint", hint, known, {})
    except Exception:
        return Unresolved(hint if isinstance(hint, str) else getattr(hint, "__name__", "the type"))
