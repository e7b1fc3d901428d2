"""`WorkflowContext`: what workflow code asks of belugawf.

There is one context for all providers. It stands on plain asyncio and on a small `Runtime`, which
each provider implements; that is what makes a workflow run unedited on all of them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from belugawf.authoring.activity import MARK, ActivityMark, annotations_of, mark_of
from belugawf.authoring.failures import describe_failure, in_one_line
from belugawf.authoring.signals import SignalBuffer
from belugawf.model import codec
from belugawf.model.durations import (
    Duration,
    datetime_ns,
    format_duration,
    ns_datetime,
    parse_duration,
)
from belugawf.model.errors import CodeInterrupted, SignalTimeoutError, UsageError
from belugawf.model.messages import Signal
from belugawf.model.policy import RetryPolicy
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from random import Random

T = TypeVar("T")


@frozen()
class WorkflowInfo:
    """Which run this is. `deadline` and `parent` may be `None`; times are UTC."""

    workflow_id: str
    run_id: str
    workflow: str
    started_at: datetime
    deadline: datetime | None = None
    parent: str | None = None


@frozen(kw_only=True)
class SignalWait:
    """A wait for a signal, for those who look from outside."""

    name: str
    timeout: timedelta | None
    prompt: str | None
    expected: str | None
    schema: str | None
    location: str


class Runtime(Protocol):
    """What differs between the providers."""

    info: WorkflowInfo
    payload_limit: int

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        ...

    def schedule_activity(
        self,
        mark: ActivityMark,
        function: Callable[..., Any] | None,
        arguments: str,
        activity_id: str | None,
        location: str,
    ) -> asyncio.Future[str]:
        """Schedule it; the future has the result's JSON text, or an `ActivityError`.

        `function` is the callable if one was passed, `arguments` is a JSON array.
        """
        ...

    def cancel_activity(self, result: asyncio.Future[str]) -> None:
        """Nobody waits for that activity any more."""
        ...

    def begin_wait(self, wait: SignalWait) -> int: ...

    def end_wait(self, token: int, outcome: str) -> None: ...

    def wait_condition(self, predicate: Callable[[], bool]) -> asyncio.Future[None]:
        """A future that is done once the predicate holds, looked at whenever code has run."""
        ...

    def new_future(self) -> asyncio.Future[Any]: ...

    def call_at(
        self, moment: int, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """Call it at a moment by the clock on the wall, in nanoseconds since 1970."""
        ...

    def now(self) -> int:
        """Deterministic time, nanoseconds since 1970."""
        ...

    def random(self, purpose: str) -> Random:
        """A generator that gives the same values whenever this run is replayed."""
        ...

    def is_replaying(self) -> bool: ...

    def emit_log(self, record: logging.LogRecord) -> None: ...

    def publish_progress(self, progress: str | float) -> None: ...


class _WorkflowLogger(logging.Logger):
    """Records go to the runtime, which knows whether they were emitted before."""

    def __init__(self, runtime: Runtime) -> None:
        target = logging.getLogger("belugawf.workflow")
        super().__init__(f"{target.name}.{runtime.info.workflow}")
        self.parent = target
        self._runtime = runtime

    def handle(self, record: logging.LogRecord) -> None:
        if self._runtime.is_replaying():
            return
        _make_text(record)
        record.workflow_id = self._runtime.info.workflow_id
        record.run_id = self._runtime.info.run_id
        self._runtime.emit_log(record)


def _make_text(record: logging.LogRecord) -> None:
    """Format the record now: it is emitted after the turn, when its arguments may have changed.

    It also keeps nothing alive: an error would, through its frames, but not when this is replayed.
    """
    try:
        text = record.getMessage()
    except CodeInterrupted:
        raise
    except BaseException as error:
        # Nothing goes on to the code that logs: on replay it would not, as nothing is formatted.
        text = record.msg if type(record.msg) is str else ""
        text += f" (it cannot be formatted: {in_one_line(error)})"
    record.msg, record.args = text, None
    if record.exc_info:
        raised = record.exc_info[1]
        if raised is not None:
            record.exc_text = describe_failure(raised).traceback
        record.exc_info = None


class WorkflowContext:
    """Everything a workflow may ask for; made by the provider, one for each run.

    Durations are a `timedelta`, a number of seconds, or a text such as `"10m"`.
    """

    def __init__(
        self,
        runtime: Runtime,
        signals: SignalBuffer,
        queries: dict[str, Callable[..., Any]],
    ) -> None:
        self._runtime = runtime
        self._signals = signals
        self._queries = queries
        self.info = runtime.info

    @cached_property
    def logger(self) -> logging.Logger:
        """A logger whose lines are not repeated on replay."""
        return _WorkflowLogger(self._runtime)

    @cached_property
    def random(self) -> Random:
        """A generator of random numbers that are the same on every replay."""
        return self._runtime.random("random")

    @cached_property
    def _uuids(self) -> Random:
        return self._runtime.random("uuid4")

    # -- activities ------------------------------------------------------------------------------

    def execute_activity(
        self,
        activity: Callable[..., Any] | str,
        *args: Any,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        heartbeat_timeout: Duration | None = None,
        at_most_once: bool | None = None,
        id: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Await it for the activity's result, decoded by its return annotation.

        Limits given here go before the decorator's, and those before the configuration's.
        Raises `ActivityError` (or `ActivityTimeoutError`, `ActivityInterruptedError`) when it has
        failed for good, `PayloadEncodeError` if an argument has no JSON form.
        """
        mark: Any = getattr(activity, MARK, None)
        function: Any = activity
        if not isinstance(mark, ActivityMark):
            mark, function = _activity(activity)
        limits = (retry, timeout, total_timeout, heartbeat_timeout, at_most_once)
        if limits != _NOTHING_GIVEN:
            mark = _overridden(mark, *limits)
        limit = self._runtime.payload_limit
        arguments = codec.encode(args, what=f"arguments of {mark.name}", limit=limit)
        return self._await_activity(mark, function, arguments, id, _caller(sys._getframe(1)))

    async def _await_activity(
        self, mark: ActivityMark, function: Callable[..., Any] | None, *asked: Any
    ) -> Any:
        result = self._runtime.schedule_activity(mark, function, *asked)
        try:
            text = await result
        except asyncio.CancelledError:
            self._runtime.cancel_activity(result)
            raise
        annotation = Any if function is None else annotations_of(function)[2]
        return codec.decode(text, annotation, what=f"result of {mark.name}")

    def start_activity(
        self, activity: Callable[..., Any] | str, *args: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """As `execute_activity`, scheduled at once; returns an asyncio task to await later."""
        return asyncio.get_running_loop().create_task(
            self.execute_activity(activity, *args, **options)
        )

    # -- signals ---------------------------------------------------------------------------------

    def wait_for_signal(
        self,
        name: str,
        timeout: Duration | None = None,
        type: Any = None,
        prompt: str | None = None,
    ) -> Coroutine[Any, Any, Signal]:
        """Await it for the next signal of that name, first in first out since the run's start.

        `type` decodes the payload strictly, and lets senders be refused early. `prompt` is the
        question that people are shown. Raises `SignalTimeoutError` (a `TimeoutError`) after
        `timeout`, `PayloadTypeError` if the payload does not fit; such a signal is used up.
        """
        if not isinstance(name, str) or not name:
            raise UsageError(f"a signal's name is a text, not {name!r}")
        schema = None if type is None else codec.schema(type)
        wait = SignalWait(
            name=name,
            timeout=None if timeout is None else parse_duration(timeout),
            prompt=prompt,
            expected=None if type is None else codec.describe(type),
            schema=None if schema is None else codec.encode(schema),
            location=_caller(sys._getframe(1)),
        )
        return self._wait_for_signal(wait, type)

    async def _wait_for_signal(self, wait: SignalWait, type: Any) -> Signal:
        token: int | None = None
        timer: asyncio.TimerHandle | None = None

        def new_waiter() -> asyncio.Future[None]:
            nonlocal token, timer
            token = self._runtime.begin_wait(wait)
            waiter: asyncio.Future[None] = self._runtime.new_future()
            if wait.timeout is not None:
                delay = wait.timeout.total_seconds()
                loop = asyncio.get_running_loop()
                timer = loop.call_later(delay, _expire, waiter, wait)
            return waiter

        outcome = "received"
        try:
            signal = await self._signals.take(wait.name, new_waiter)
        except SignalTimeoutError:
            outcome = "timed_out"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if token is not None:
                self._runtime.end_wait(token, outcome)
        annotation = Any if type is None else type
        payload = codec.decode(signal.payload, annotation, what=f"payload of {wait.name}")
        return Signal(signal.name, payload, ns_datetime(signal.sent_at), signal.sender)

    def signals(self, name: str, type: Any = None) -> AsyncIterator[Signal]:
        """All signals of that name, as they come: `async for signal in ctx.signals("item")`."""
        return _SignalIterator(self, name, type)

    # -- time and conditions ---------------------------------------------------------------------

    async def sleep(self, duration: Duration) -> None:
        """A durable sleep, as durable as `asyncio.sleep`, in any form of a duration."""
        await asyncio.sleep(parse_duration(duration).total_seconds())

    async def sleep_until(self, when: datetime) -> None:
        """Sleep until a timezone-aware moment; returns at once if it has passed."""
        if when.tzinfo is None:
            raise UsageError(
                "sleep_until needs a timezone-aware datetime", hint="start from ctx.now()"
            )
        if when <= self.now():
            return
        over = self._runtime.new_future()
        # By the moment and not by the time until then, which a clock that is put back stretches.
        timer = self._runtime.call_at(datetime_ns(when), _wake, over)
        try:
            await over
        finally:
            timer.cancel()

    async def wait_until(
        self, predicate: Callable[[], bool], timeout: Duration | None = None
    ) -> None:
        """Wait until a condition over the workflow's own variables holds.

        The predicate is called whenever workflow code has run. Raises `TimeoutError`.
        """
        if predicate():
            return
        limit = None if timeout is None else parse_duration(timeout).total_seconds()
        async with asyncio.timeout(limit):
            await self._runtime.wait_condition(predicate)

    def now(self) -> datetime:
        """The time of what happened last (UTC): the same on every replay."""
        return ns_datetime(self._runtime.now())

    def uuid4(self) -> uuid.UUID:
        """A random UUID that is the same on every replay."""
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)

    # -- the run itself --------------------------------------------------------------------------

    def set_query(self, name: str, function: Callable[..., Any]) -> None:
        """Let `query NAME` be answered by this function; it must not change anything.

        `status`, `result` and `waiting` are built in and cannot be replaced.
        """
        if name in BUILT_IN_QUERIES:
            raise UsageError(f"query {name!r} is built in", hint="choose another name")
        self._queries[name] = function

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked this run to stop."""
        return self._runtime.cancel_requested

    async def shielded(self, awaitable: Awaitable[T]) -> T:
        """Run it to its end even when the run is cancelled; the cancellation is raised after."""
        inner = asyncio.ensure_future(awaitable)
        cancelled: asyncio.CancelledError | None = None
        while not inner.done():
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError as error:
                if inner.cancelled():
                    raise
                cancelled = error
            except Exception:
                break
        if cancelled is not None:
            if not inner.cancelled():
                inner.exception()  # retrieved, so that asyncio does not complain of it
            raise cancelled
        return inner.result()

    @property
    def is_replaying(self) -> bool:
        """Whether this code has run before and only gets its state back."""
        return self._runtime.is_replaying()

    def set_progress(self, progress: str | float) -> None:
        """What `status` shows of the run: a text, or a fraction from 0 to 1."""
        if isinstance(progress, bool) or not isinstance(progress, str | int | float):
            raise UsageError(f"progress is a text or a fraction, not {type(progress).__name__}")
        self._runtime.publish_progress(progress)


BUILT_IN_QUERIES = ("status", "result", "waiting")


class _SignalIterator:
    def __init__(self, ctx: WorkflowContext, name: str, type: Any) -> None:
        self._ctx = ctx
        self._name = name
        self._type = type

    def __aiter__(self) -> AsyncIterator[Signal]:
        return self

    async def __anext__(self) -> Signal:
        return await self._ctx.wait_for_signal(self._name, type=self._type)


def _activity(
    activity: Callable[..., Any] | str,
) -> tuple[ActivityMark, Callable[..., Any] | None]:
    if isinstance(activity, str):
        return ActivityMark(name=activity), None
    if not callable(activity):
        raise UsageError(f"{activity!r} isn't an activity", hint="pass a function or its name")
    return mark_of(activity), activity


_NOTHING_GIVEN = (None,) * 5


def _overridden(
    mark: ActivityMark,
    retry: RetryPolicy | None,
    timeout: Duration | None,
    total_timeout: Duration | None,
    heartbeat_timeout: Duration | None,
    at_most_once: bool | None,
) -> ActivityMark:
    """What the decorator was given, except for what the call gives itself."""
    mark = ActivityMark(
        name=mark.name,
        retry=retry if retry is not None else mark.retry,
        timeout=_first(timeout, mark.timeout),
        total_timeout=_first(total_timeout, mark.total_timeout),
        heartbeat_timeout=_first(heartbeat_timeout, mark.heartbeat_timeout),
        at_most_once=mark.at_most_once if at_most_once is None else at_most_once,
        isolation=mark.isolation,
    )
    if mark.at_most_once and mark.retry is not None:
        raise UsageError(
            f"activity {mark.name!r} cannot have at_most_once and a retry policy",
            hint="leave one of them out",
        )
    return mark


def _first(given: Duration | None, otherwise: timedelta | None) -> timedelta | None:
    return otherwise if given is None else parse_duration(given)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _expire(waiter: asyncio.Future[None], wait: SignalWait) -> None:
    if not waiter.done():
        assert wait.timeout is not None
        waiter.set_exception(SignalTimeoutError(wait.name, format_duration(wait.timeout)))


def _caller(frame: Any) -> str:
    """ "file:line" of the workflow code that called; one method here may call another."""
    while frame.f_globals is globals() and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
