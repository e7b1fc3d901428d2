"""The `@workflow` decorator, and what can be read off a marked function.

The decorator only marks: the function stays callable as it is, and nothing is registered.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar, overload

from belugawf.model import checking, codec
from belugawf.model.durations import Duration, parse_duration
from belugawf.model.errors import PayloadTypeError, UsageError
from belugawf.model.messages import UNSET
from belugawf.model.values import frozen

MARK = "__belugawf_workflow__"

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@frozen()
class WorkflowMark:
    """What the decorator was given. `timeout` bounds a run from its start to its end.

    `park`: if its code is wrong, a run waits until it is mended.
    """

    name: str
    timeout: timedelta | None
    park: bool = True


@overload
def workflow(function: F, /) -> F: ...
@overload
def workflow(
    *, name: str | None = None, timeout: Duration | None = None, park: bool = True
) -> Callable[[F], F]: ...
def workflow(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    timeout: Duration | None = None,
    park: bool = True,
) -> F | Callable[[F], F]:
    """Mark an `async def` with `ctx` as its first parameter as a workflow.

    `name` defaults to the function's. `timeout` (a duration) bounds a run that was started
    without one. If the code raises what says that the code is wrong (`NameError`, `TypeError` ...),
    its run is parked until it is mended; with `park=False` it fails.
    Raises `UsageError` for a function that cannot be a workflow.
    """
    given = None if name is None else checking.text("name of @workflow", name)
    limit = None if timeout is None else parse_duration(timeout, what="timeout of @workflow")
    parks = checking.flag("park of @workflow", park)

    def mark(target: F) -> F:
        _check_shape(target)
        setattr(target, MARK, WorkflowMark(given or target.__name__, limit, parks))
        return target

    return mark if function is None else mark(function)


def _check_shape(function: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise UsageError(
            f"workflow {checking.named(function)} must be an async def",
            hint="write: @workflow async def name(ctx, ...)",
        )
    label = function.__name__
    parameters = list(inspect.signature(function).parameters.values())
    kinds = {p.kind for p in parameters}
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise UsageError(
            f"workflow {label!r} takes no context", hint=f"write: async def {label}(ctx, ...)"
        )
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise UsageError(
            f"workflow {label!r} takes *args or **kwargs",
            hint="name each parameter, so that inputs can be checked",
        )
    if any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters[1:]):
        raise UsageError(
            f"workflow {label!r} has positional-only parameters",
            hint="inputs are passed by name: leave the / out",
        )


@frozen()
class Parameter:
    """One parameter of a workflow besides `ctx`, for people and for decoding."""

    name: str
    annotation: Any
    required: bool
    default: Any

    @property
    def annotation_text(self) -> str:
        """The type as a person writes it; "" if none was given."""
        if self.annotation is inspect.Parameter.empty:
            return ""
        return codec.describe(self.annotation)

    @property
    def default_text(self) -> str | None:
        """The default as Python writes it, `None` if the parameter is required."""
        return None if self.required else repr(self.default)


class WorkflowDefinition:
    """A marked function: its names, its parameters, and its payloads in both directions."""

    def __init__(self, function: Callable[..., Any]) -> None:
        mark = getattr(function, MARK, None)
        if mark is None:
            label = getattr(function, "__qualname__", repr(function))
            raise UsageError(f"{label!r} isn't a workflow", hint="decorate it with @workflow")
        self.function = function
        self.name: str = mark.name
        self.timeout: timedelta | None = mark.timeout
        self.parks: bool = mark.park

    def __repr__(self) -> str:
        return f"WorkflowDefinition({self.name!r}, {self.location})"

    @property
    def location(self) -> str:
        """Where it is defined, as "file:line"."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @property
    def doc(self) -> str:
        """The first paragraph of its docstring on one line, or ""."""
        text = inspect.getdoc(self.function) or ""
        return " ".join(text.split("\n\n")[0].split())

    @cached_property
    def _signature(self) -> inspect.Signature:
        return codec.signature_of(self.function)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters besides `ctx`, in order."""
        return tuple(
            Parameter(p.name, p.annotation, p.default is inspect.Parameter.empty, p.default)
            for p in list(self._signature.parameters.values())[1:]
        )

    @property
    def result_annotation(self) -> Any:
        """What it says to return; `Parameter.empty` if it says nothing."""
        return self._signature.return_annotation

    # -- inputs ----------------------------------------------------------------------------------

    def encode_input(self, value: Any, *, limit: int | None = None) -> str | None:
        """The input as JSON text, checked against the annotations; `None` if none is given.

        Raises `UsageError` if it does not fit, with the path to what does not.
        """
        if value is UNSET:
            self._require(())
            return None
        if not self.parameters:
            if value is None:
                return None
            raise UsageError(f"workflow {self.name!r} takes no input", hint="leave the input out")
        text = codec.encode(value, what="input", limit=limit)
        if len(self.parameters) == 1:
            codec.require(value, self.parameters[0].annotation, json.loads(text), "input")
            return text
        self.arguments(text)
        if isinstance(value, Mapping):
            data = json.loads(text)
            for name, item in value.items():
                codec.require(item, self._annotation_of(name), data[name], f"input.{name}")
        return text

    def encode_result(self, value: Any, *, limit: int) -> str:
        """The result as JSON text, from which `decode_result` makes an equal one.

        A value that JSON gives back as it is need not be what the annotation says: no run fails
        over that. Raises `PayloadEncodeError` or `PayloadTypeError` for any other.
        """
        annotation = self.result_annotation
        if isinstance(annotation, codec.Unresolved):
            annotation = Any
        try:
            return codec.encode_as(value, annotation, what="result", limit=limit)
        except PayloadTypeError:
            text = codec.encode(value, what="result", limit=limit)
            if not codec.is_equal(value, codec.decode(text)):
                raise
            return text

    def decode_result(self, text: str) -> Any:
        """The result that was recorded. Raises `UsageError` if it is no JSON."""
        try:
            return codec.decode(text, self.result_annotation, what="result")
        except PayloadTypeError:
            return codec.decode(text, what="result")

    def arguments(self, text: str | None) -> dict[str, Any]:
        """The keyword arguments that a recorded input stands for.

        Raises `PayloadTypeError` or `UsageError` if it does not fit the parameters.
        """
        if text is None:
            self._require(())
            return {}
        if len(self.parameters) == 1:
            only = self.parameters[0]
            return {only.name: codec.decode(text, only.annotation, what="input")}
        data = codec.decode(text, dict[str, Any], what="input")
        annotations = {name: self._annotation_of(name) for name in data}
        self._require(data)
        return {
            name: codec.convert(item, annotations[name], path=f"input.{name}")
            for name, item in data.items()
        }

    def _annotation_of(self, name: str) -> Any:
        known = {p.name: p for p in self.parameters}
        if name not in known:
            names = ", ".join(known) or "none"
            raise UsageError(
                f"workflow {self.name!r} has no parameter {name!r}",
                hint=f"its parameters are: {names}",
            )
        return known[name].annotation

    def _require(self, given: Any) -> None:
        missing = [p.name for p in self.parameters if p.required and p.name not in given]
        if missing:
            raise UsageError(
                f"workflow {self.name!r} needs {', '.join(missing)}",
                hint="give it with --input, or each with --arg name=value; in Python with input=",
            )

    def parse_input(self, text: str) -> Any:
        """The value of `--input TEXT`: text as typed for a `str`, else JSON, else text if it fits.

        It is the one parameter's. If others have been added beside it that have defaults, it still
        is, unless it is a JSON object that names all that are required. Raises `UsageError` if it
        fits in no way.
        """
        if len(self.parameters) == 1:
            return _parse_text(text, self.parameters[0].annotation, "input")
        if self.parameters and not any(p.required for p in self.parameters[1:]):
            first = self.parameters[0]
            if not self._is_mapping(text):
                return {first.name: _parse_text(text, first.annotation, "input")}
        value = codec.parse_json(text, what="input")
        self.encode_input(value)
        return value

    def _is_mapping(self, text: str) -> bool:
        """Whether it is a JSON object that gives what is required by name."""
        try:
            value = codec.parse_json(text, what="input")
        except UsageError:
            return False
        required = {p.name for p in self.parameters if p.required}
        return isinstance(value, dict) and bool(value) and required <= value.keys()

    def parse_arguments(self, pairs: Mapping[str, str], others: Any = None) -> Any:
        """The input that `--arg name=value` pairs stand for, each by the rule of `parse_input`.

        `others` is the plain JSON of an earlier input, whose other parameters stay.
        """
        values = {
            name: _parse_text(text, self._annotation_of(name), name) for name, text in pairs.items()
        }
        if len(self.parameters) > 1 and isinstance(others, Mapping):
            values = {**others, **values}
        self._require(values)
        if len(self.parameters) == 1:
            return next(iter(values.values()), UNSET)
        return values


def _parse_text(text: str, annotation: Any, what: str) -> Any:
    if annotation is str:
        return text
    try:
        value = codec.parse_json(text, what=what)
        codec.convert(value, annotation, path=what)
    except PayloadTypeError:
        with suppress(PayloadTypeError):
            codec.convert(text, annotation)
            return text
        raise
    except UsageError as no_json:
        # No JSON: then it is a text, and fits or is told what would.
        try:
            codec.convert(text, annotation, path=what)
        except PayloadTypeError:
            if text.lstrip().startswith(("{", "[")):
                raise no_json from None  # meant as JSON: what is wrong with that says more
            raise
        return text
    return value
