"""The `@activity` decorator, and what code inside an activity may ask.

`activity` is both: `@activity` marks a function, `activity.info()` and its companions answer
inside a running attempt.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from types import FunctionType, MethodType
from typing import Any, Protocol, TypeVar, overload

from belugawf.model import checking, codec
from belugawf.model.durations import Duration, parse_duration
from belugawf.model.errors import PayloadEncodeError, UsageError, WorkflowCodeError
from belugawf.model.policy import (
    ISOLATIONS,
    ONE_ATTEMPT,
    ActivityDefaults,
    ActivityOptions,
    Isolation,
    RetryPolicy,
)
from belugawf.model.values import frozen

MARK = "__belugawf_activity__"
KNOWN = "__belugawf_annotations__"

F = TypeVar("F", bound=Callable[..., Any])


@frozen()
class ActivityMark:
    """What the decorator was given; `None`: nothing."""

    name: str
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    heartbeat_timeout: timedelta | None = None
    at_most_once: bool = False
    isolation: Isolation = "none"
    task_queue: str | None = None

    def options(self, defaults: ActivityDefaults) -> ActivityOptions:
        """The limits in force, with these defaults for what was not given."""
        retry = self.retry
        if retry is None and not self.at_most_once:
            retry = defaults.retry
        return ActivityOptions(
            retry=retry or ONE_ATTEMPT,
            timeout=defaults.timeout if self.timeout is None else self.timeout,
            total_timeout=self.total_timeout,
            heartbeat_timeout=self.heartbeat_timeout,
            at_most_once=self.at_most_once,
            isolation=self.isolation,
        )


@frozen()
class ActivityInfo:
    """Which attempt this is.

    `attempt` counts from 1. `idempotency_key` is the same for all attempts of the activity.
    `deadline` (UTC) is when this attempt times out, `heartbeat_details` what the attempt before
    last reported; both may be `None`.
    """

    workflow_id: str
    run_id: str
    activity_id: str
    activity: str
    attempt: int
    idempotency_key: str
    deadline: datetime | None = None
    heartbeat_details: Any = None


class Attempt(Protocol):
    """A running attempt, as the provider sees it from inside."""

    @property
    def info(self) -> ActivityInfo: ...

    def heartbeat(self, details: Any) -> None: ...

    def cancelled(self) -> bool: ...

    def log(self, record: logging.LogRecord, logger: logging.Logger) -> bool:
        """Its code has logged this with that logger.

        Whether nobody else is to show it. Raises nothing of what the record's own code raises.
        """
        ...


current_attempt: ContextVar[Attempt] = ContextVar("belugawf_attempt")


class ActivityDecorator:
    """The public name `activity`."""

    logger = logging.getLogger("belugawf.activity")

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        heartbeat_timeout: Duration | None = None,
        at_most_once: bool = False,
        isolation: Isolation = "none",
        task_queue: str | None = None,
    ) -> Callable[[F], F]: ...
    def __call__(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        heartbeat_timeout: Duration | None = None,
        at_most_once: bool = False,
        isolation: Isolation = "none",
        task_queue: str | None = None,
    ) -> F | Callable[[F], F]:
        """Mark a plain or async function as an activity.

        `timeout` bounds one attempt, `total_timeout` all of them with their delays,
        `heartbeat_timeout` the silence between heartbeats. `at_most_once=True` never starts it
        a second time, and excludes `retry`. `isolation="process"` runs each attempt in a child
        process. `task_queue` is whose workers take it; a provider with one queue has no use for
        it. The function stays callable, except in workflow code, where a direct call raises
        `WorkflowCodeError`: it would not be recorded.

        Raises `UsageError` if these contradict each other, or if it isn't a function.
        """
        limits = ActivityMark(
            name="" if name is None else checking.text("name of @activity", name),
            retry=checked_policy("retry of @activity", retry),
            timeout=checked_limit("timeout of @activity", timeout),
            total_timeout=checked_limit("total_timeout of @activity", total_timeout),
            heartbeat_timeout=checked_limit("heartbeat_timeout of @activity", heartbeat_timeout),
            at_most_once=checking.flag("at_most_once of @activity", at_most_once),
            isolation=checking.choice("isolation of @activity", isolation, ISOLATIONS),
            task_queue=checked_queue("task_queue of @activity", task_queue),
        )
        if at_most_once and retry is not None:
            raise UsageError(
                "an activity cannot have at_most_once and a retry policy",
                hint="leave one of them out",
            )

        def mark(target: F) -> F:
            _check_shape(target, name)
            given = replace(limits, name=name or target.__name__)
            marked = _guarded(target, given.name) if type(target) is FunctionType else target
            setattr(marked, MARK, given)
            return marked

        return mark if function is None else mark(function)

    def info(self) -> ActivityInfo:
        """Which attempt this is. Raises `UsageError` outside of an activity."""
        return _attempt().info

    def heartbeat(self, details: Any = None) -> None:
        """Say that the attempt is alive; `details` (JSON) are handed to the next attempt."""
        _attempt().heartbeat(details)

    def cancelled(self) -> bool:
        """Whether nobody waits for this attempt any more: it may stop."""
        return _attempt().cancelled()


activity = ActivityDecorator()


def _check_shape(function: Any, name: str | None) -> None:
    label = checking.named(function)
    is_named = name or hasattr(function, "__name__")
    if inspect.isclass(function) or not callable(function) or not is_named:
        raise UsageError(
            f"activity {label} isn't a function",
            hint="decorate a def or async def; a name is given by @activity(name=...)",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"activity {label} is a generator, which has no result",
            hint="return a list in place of yield",
        )


def checked_policy(what: str, retry: RetryPolicy | None) -> RetryPolicy | None:
    """A retry policy, or none. Raises `UsageError`."""
    if retry is None:
        return None
    hint = "write it as RetryPolicy(max_attempts=3)"
    return checking.instance(what, retry, RetryPolicy, hint)


def checked_limit(what: str, duration: Duration | None) -> timedelta | None:
    """A duration, or none. Raises `UsageError`."""
    return None if duration is None else parse_duration(duration, what=what)


def checked_queue(what: str, task_queue: str | None) -> str | None:
    """The name of a task queue, or none. Raises `UsageError`."""
    return None if task_queue is None else checking.text(what, task_queue)


def _attempt() -> Attempt:
    attempt = current_attempt.get(None)
    if attempt is None:
        raise UsageError(
            "there is no activity running here",
            hint="call activity.info(), heartbeat() and cancelled() inside an activity",
        )
    return attempt


def mark_of(function: Callable[..., Any]) -> ActivityMark:
    """What the decorator was given; a function without it is an activity of its own name."""
    mark = getattr(function, MARK, None)
    if isinstance(mark, ActivityMark):
        return mark
    return ActivityMark(name=_name_of(function))


def _name_of(function: Any) -> str:
    """Its name; of a `partial` that of its function, of another object that of its class."""
    while type(function) is functools.partial:
        function = function.func
    name = getattr(function, "__name__", None)
    return name if name and isinstance(name, str) else type(function).__name__


@frozen()
class Annotations:
    """What an activity's function takes and returns; what has no annotation is `Any`.

    `positional` are the annotations of its parameters, `names` their names, `rest` that of `*args`
    (`None`: it has none). It can be called with `least` to `most` arguments (`None`: any number),
    unless `keyword` names a parameter that no position can give.
    """

    positional: tuple[Any, ...] = ()
    rest: Any = Any
    result: Any = Any
    names: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    keyword: str | None = None

    def of(self, index: int) -> Any:
        """The annotation of the argument at that place."""
        return self.positional[index] if index < len(self.positional) else self.rest


_UNKNOWN = Annotations()


def annotations_of(function: Callable[..., Any]) -> Annotations:
    """The annotations of an activity's function.

    They are kept with the function: a closure lives no longer than its run, with all it holds.
    """
    known: Annotations | None = None
    if type(function) is FunctionType:
        known = function.__dict__.get(KNOWN)
    if known is None:
        known = _read_annotations(function)
        if type(function) is FunctionType:
            setattr(function, KNOWN, known)
    return known


def _read_annotations(function: Callable[..., Any]) -> Annotations:
    try:
        signature = codec.signature_of(function)
        # A decorator's wrapper may be called with more or less than what it wraps.
        called = inspect.signature(_called(function), follow_wrapped=False)
    except (TypeError, ValueError):  # a builtin that has none
        return Annotations()
    positional, rest = _split(signature)
    given, others = _split(called)
    return Annotations(
        positional=tuple(_or_any(p.annotation) for p in positional),
        rest=rest[0] if rest else None,
        result=_or_any(signature.return_annotation),
        names=tuple(p.name for p in positional),
        least=sum(p.default is p.empty for p in given),
        most=None if others else len(given),
        keyword=next((name for name, p in called.parameters.items() if _only_by_name(p)), None),
    )


def _called(function: Any) -> Any:
    """What was marked, without our own wrapper."""
    if getattr(function, "__globals__", None) is not globals():
        return function
    marked = function.__wrapped__
    return MethodType(marked, function.__self__) if type(function) is MethodType else marked


def _split(signature: inspect.Signature) -> tuple[list[inspect.Parameter], list[Any]]:
    """The positional parameters, and the annotation of `*args`, if there is one."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature.parameters.values()
    return (
        [p for p in parameters if p.kind in kinds],
        [_or_any(p.annotation) for p in parameters if p.kind is p.VAR_POSITIONAL],
    )


def _only_by_name(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


def encode_arguments(
    function: Callable[..., Any] | None, name: str, args: tuple[Any, ...], limit: int
) -> tuple[str, tuple[Any, ...]]:
    """The JSON array of an activity's arguments, which its function takes if it is known.

    And what each of them is read by, if they are more than plain values.
    Raises `UsageError`, `PayloadTypeError`, `PayloadEncodeError` or `PayloadTooLargeError`.
    """
    known: Annotations | None = _UNKNOWN
    if function is not None:
        known = function.__dict__.get(KNOWN) if type(function) is FunctionType else None
        known = known or annotations_of(function)
    assert known is not None
    fits = known.keyword is None and known.least <= len(args)
    if not fits or (known.most is not None and known.most < len(args)):
        raise _wrong_number(known, name, len(args))
    try:
        text = codec.encode(args, what=f"arguments of {name}", limit=limit)
    except PayloadEncodeError:
        for index, value in enumerate(args):
            codec.encode(value, what=argument_path(known, index, name))
        raise
    hints, count = known.positional, len(known.positional)
    for index, value in enumerate(args):
        hint = hints[index] if index < count else known.rest
        if type(value) not in _PLAIN or not (type(value) is hint or hint is Any or hint is None):
            break
    else:  # JSON gives them back as they are
        return text, ()
    data = json.loads(text)
    types = []
    for index, value in enumerate(args):
        annotation = known.of(index)
        if annotation is None or annotation is Any:
            types.append(codec.type_of(value))
        else:
            types.append(annotation)
            codec.require(value, annotation, data[index], argument_path(known, index, name))
    return text, tuple(types)


_PLAIN = frozenset({str, int, float, bool, type(None)})


def argument_path(known: Annotations, index: int, name: str) -> str:
    """What names an argument in messages."""
    shown = known.names[index] if index < len(known.names) else f"argument {index + 1}"
    return f"{name}: {shown}"


def _wrong_number(known: Annotations, name: str, count: int) -> UsageError:
    if known.keyword is not None:
        return UsageError(
            f"activity {name!r} needs {known.keyword!r} by name, and is called by position",
            hint="leave out the * in its parameters",
        )
    least, most = known.least, known.most
    takes = f"{least} or more" if most is None else str(least)
    if most is not None and most != least:
        takes += f" to {most}"
    names = f" ({', '.join(known.names)})" if known.names else ""
    plural = "" if takes == "1" else "s"
    return UsageError(
        f"activity {name!r} takes {takes} argument{plural}{names}, and gets {count}",
        hint="pass what its function takes, in that order",
    )


def _or_any(annotation: Any) -> Any:
    return Any if annotation is inspect.Parameter.empty else annotation


# -- direct calls --------------------------------------------------------------------------------


def _guarded(target: Any, name: str) -> Any:
    """The function, which refuses to be called by workflow code.

    For whoever looks at it, it is what was marked: its name, signature and place, and whether it
    is a coroutine function.
    """

    @functools.wraps(target)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        events = sys.modules.get("asyncio.events")
        loop = None if events is None else events._get_running_loop()
        if getattr(loop, "runs_workflow_code", False):
            caller = sys._getframe(1)
            raise WorkflowCodeError(
                f"activity {name!r} is called directly in workflow code "
                f"({caller.f_code.co_filename}:{caller.f_lineno})",
                hint=f"write: await ctx.execute_activity({target.__name__}, ...)",
            )
        return target(*args, **kwargs)

    function: Any = guarded
    code, theirs = function.__code__, target.__code__
    flags = code.co_flags
    if inspect.iscoroutinefunction(target):
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(function)
        else:
            # Python asks the flag what the function is; how it runs is in its instructions.
            flags |= inspect.CO_COROUTINE
    function.__code__ = code.replace(
        co_flags=flags,
        co_filename=theirs.co_filename,
        co_firstlineno=theirs.co_firstlineno,
    )
    return function
