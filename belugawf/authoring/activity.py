"""The `@activity` decorator, and what code inside an activity may ask.

`activity` is both: `@activity` marks a function, `activity.info()` and its companions answer
inside a running attempt.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import FunctionType
from typing import Any, Protocol, TypeAlias, TypeVar, overload

from belugawf.model import codec
from belugawf.model.durations import Duration, parse_duration
from belugawf.model.errors import UsageError, WorkflowCodeError
from belugawf.model.policy import (
    ONE_ATTEMPT,
    ActivityDefaults,
    ActivityOptions,
    Isolation,
    RetryPolicy,
)
from belugawf.model.values import frozen

MARK = "__belugawf_activity__"
_ANNOTATIONS = "__belugawf_annotations__"

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
    ) -> F | Callable[[F], F]:
        """Mark a plain or async function as an activity.

        `timeout` bounds one attempt, `total_timeout` all of them with their delays,
        `heartbeat_timeout` the silence between heartbeats. `at_most_once=True` never starts it
        a second time, and excludes `retry`. `isolation="process"` runs each attempt in a child
        process. The function stays callable, except in workflow code, where a direct call raises
        `WorkflowCodeError`: it would not be recorded.

        Raises `UsageError` if these contradict each other, or if it isn't a function.
        """
        if at_most_once and retry is not None:
            raise UsageError(
                "an activity cannot have at_most_once and a retry policy",
                hint="leave one of them out",
            )
        if isolation not in ("none", "process"):
            raise UsageError(f"isolation is {isolation!r}", hint="use 'none' or 'process'")

        def mark(target: F) -> F:
            _check_shape(target)
            given = ActivityMark(
                name=name or target.__name__,
                retry=retry,
                timeout=_optional(timeout),
                total_timeout=_optional(total_timeout),
                heartbeat_timeout=_optional(heartbeat_timeout),
                at_most_once=at_most_once,
                isolation=isolation,
            )
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


def _check_shape(function: Any) -> None:
    label = getattr(function, "__name__", function)
    if inspect.isclass(function) or not callable(function) or not hasattr(function, "__name__"):
        raise UsageError(
            f"activity {label!r} isn't a function",
            hint="decorate a def or async def; a name is given by @activity(name=...)",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"activity {label!r} is a generator, which has no result",
            hint="return a list in place of yield",
        )


def _optional(duration: Duration | None) -> timedelta | None:
    return None if duration is None else parse_duration(duration)


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
    return ActivityMark(name=function.__name__)


Annotations: TypeAlias = tuple[tuple[Any, ...], Any, Any]


def annotations_of(function: Callable[..., Any]) -> Annotations:
    """The annotations of the positional parameters, of `*args` (or None), and of the result.

    What has none is `Any`, which nothing has to be converted to.
    They are kept with the function: a closure lives no longer than its run, with all it holds.
    """
    known: Annotations | None = None
    if type(function) is FunctionType:
        known = function.__dict__.get(_ANNOTATIONS)
    if known is None:
        known = _read_annotations(function)
        if type(function) is FunctionType:
            setattr(function, _ANNOTATIONS, known)
    return known


def _read_annotations(function: Callable[..., Any]) -> Annotations:
    signature = codec.signature_of(function)
    positional, rest = [], None
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(_or_any(parameter.annotation))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = _or_any(parameter.annotation)
    return tuple(positional), rest, _or_any(signature.return_annotation)


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
