"""`WorkflowContext`: what workflow code asks of belugawf.

There is one context for all providers. It stands on plain asyncio and on a small `Runtime`, which
each provider implements; that is what makes a workflow run unedited on all of them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from belugawf.authoring.activity import (
    KNOWN,
    MARK,
    ActivityMark,
    annotations_of,
    checked_limit,
    checked_policy,
    checked_queue,
    encode_arguments,
    mark_of,
)
from belugawf.authoring.failures import cut
from belugawf.authoring.runtime import Runtime, SignalWait, WorkflowLogger
from belugawf.authoring.signals import SignalBuffer
from belugawf.model import checking, codec
from belugawf.model.durations import (
    Duration,
    datetime_ns,
    format_duration,
    ns_datetime,
    parse_duration,
)
from belugawf.model.errors import SignalTimeoutError, UsageError
from belugawf.model.messages import Signal
from belugawf.model.policy import RetryPolicy

if TYPE_CHECKING:
    from random import Random

T = TypeVar("T")


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
        self._ids: set[str] = set()
        self.info = runtime.info

    @cached_property
    def logger(self) -> logging.Logger:
        """A logger whose lines are not repeated on replay."""
        return WorkflowLogger(self._runtime)

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
        task_queue: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Await it for the activity's result, decoded by its return annotation.

        What is given here goes before the decorator's, and that before the configuration's. On
        Temporal `task_queue` is whose workers take it; a provider with one queue has no use for it.
        Raises `ActivityError` (or `ActivityTimeoutError`, `ActivityInterruptedError`) when it has
        failed for good, `PayloadEncodeError` if an argument has no JSON form.
        """
        location = _caller(sys._getframe(1))
        try:
            mark: Any = getattr(activity, MARK, None)
            function: Any = activity
            if not isinstance(mark, ActivityMark):
                mark, function = _activity(activity)
            limits = (retry, timeout, total_timeout, heartbeat_timeout, at_most_once, task_queue)
            for limit in limits:
                if limit is not None:
                    mark = _overridden(mark, *limits)
                    break
            if id is not None:
                self._use_id(id)
            arguments, types = encode_arguments(
                function, mark.name, args, self._runtime.payload_limit
            )
        except UsageError as error:
            error.locate(location)
            raise
        return self._await_activity(mark, function, arguments, types, id, location)

    def _use_id(self, id: str) -> None:
        """One id is one activity: its idempotency key must mean it alone."""
        checking.text("id of an activity", id)
        if id in self._ids:
            raise UsageError(
                f"this run has an activity with id {id!r} already",
                hint="give each its own id, for example with a number, or leave it out",
            )
        self._ids.add(id)

    async def _await_activity(
        self, mark: ActivityMark, function: Callable[..., Any] | None, *asked: Any
    ) -> Any:
        result = self._runtime.schedule_activity(mark, function, *asked)
        try:
            text = await result
        except asyncio.CancelledError:
            self._runtime.cancel_activity(result)
            raise
        annotation = Any
        if function is not None:
            # It was read when the activity was asked for, and stands where `annotations_of` looks.
            known = getattr(function, KNOWN, None) if type(function) is FunctionType else None
            annotation = (known or annotations_of(function)).result
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
        location = _caller(sys._getframe(1))
        try:
            if type is not None or not isinstance(name, str) or not name or not name.isascii():
                _check_signal(name, type)
            if prompt is not None:
                checking.text("prompt of wait_for_signal", prompt, empty=True)
            if timeout is not None:
                timeout = parse_duration(timeout, what="timeout of wait_for_signal")
            schema = None if type is None else codec.schema(type)
            wait = SignalWait(
                name=name,
                timeout=timeout,
                prompt=prompt,
                expected=None if type is None else codec.describe(type),
                schema=None if schema is None else codec.encode(schema),
                location=location,
            )
        except UsageError as error:
            error.locate(location)
            raise
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
        with _located:
            _check_signal(name, type)
        return _SignalIterator(self, name, type)

    # -- time and conditions ---------------------------------------------------------------------

    def sleep(self, duration: Duration) -> Coroutine[Any, Any, None]:
        """A durable sleep, as durable as `asyncio.sleep`, in any form of a duration."""
        with _located:
            delay = parse_duration(duration, what="duration of sleep")
        return asyncio.sleep(delay.total_seconds())

    def sleep_until(self, when: datetime) -> Coroutine[Any, Any, None]:
        """Sleep until a timezone-aware moment; returns at once if it has passed."""
        with _located:
            checking.instance("when of sleep_until", when, datetime, "start from ctx.now()")
            if when.utcoffset() is None:
                raise UsageError(
                    "sleep_until needs a timezone-aware datetime", hint="start from ctx.now()"
                )
        return self._sleep_until(when)

    async def _sleep_until(self, when: datetime) -> None:
        if when <= self.now():
            return
        over = self._runtime.new_future()
        # By the moment and not by the time until then, which a clock that is put back stretches.
        timer = self._runtime.call_at(datetime_ns(when), _wake, over)
        try:
            await over
        finally:
            timer.cancel()

    def wait_until(
        self, predicate: Callable[[], bool], timeout: Duration | None = None
    ) -> Coroutine[Any, Any, None]:
        """Wait until a condition over the workflow's own variables holds.

        The predicate is called whenever workflow code has run. Raises `TimeoutError`.
        """
        with _located:
            checking.function("predicate of wait_until", predicate)
            if inspect.iscoroutinefunction(predicate):
                raise UsageError(
                    "predicate of wait_until is an async def, which cannot be awaited here",
                    hint="give a plain function or a lambda",
                )
            limit = checked_limit("timeout of wait_until", timeout)
        return self._wait_until(predicate, limit)

    async def _wait_until(self, predicate: Callable[[], bool], limit: timedelta | None) -> None:
        if predicate():
            return
        async with asyncio.timeout(None if limit is None else limit.total_seconds()):
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
        with _located:
            checking.text("name of set_query", name)
            checking.function("function of set_query", function)
            if name in BUILT_IN_QUERIES:
                raise UsageError(f"query {name!r} is built in", hint="choose another name")
        self._queries[name] = function

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked this run to stop."""
        return self._runtime.cancel_requested

    def shielded(self, awaitable: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """Run it to its end even when the run is cancelled; the cancellation is raised after."""
        if not inspect.isawaitable(awaitable):
            with _located:
                raise checking.wrong("what is shielded", awaitable, "pass what you would await")
        return self._shielded(awaitable)

    async def _shielded(self, awaitable: Awaitable[T]) -> T:
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
        """What `status` shows of the run: a text, or a fraction from 0 to 1.

        Of a text of more than 1,000 bytes both ends are shown.
        """
        with _located:
            if isinstance(progress, str):
                progress = cut(progress, _MAX_PROGRESS)
            else:
                hint = "give a text, or a fraction from 0 to 1"
                checking.number("progress", progress, least=-math.inf, most=math.inf, hint=hint)
        self._runtime.publish_progress(progress)


# The code of what awaits an activity: by it, others see which one a task waits for.
AWAITING_ACTIVITY = WorkflowContext._await_activity.__code__

BUILT_IN_QUERIES = ("status", "result", "waiting")


# It is one line for people, in bytes, and written whenever it changes.
_MAX_PROGRESS = 1_000


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
        return ActivityMark(name=checking.text("name of an activity", activity)), None
    if not callable(activity):
        raise UsageError(
            f"{checking.shown(activity)} isn't an activity", hint="pass a function or its name"
        )
    return mark_of(activity), activity


def _check_signal(name: str, type: Any) -> None:
    checking.text("name of a signal", name)
    if type is not None and not codec.is_type(type):
        raise UsageError(
            f"type of a signal is {codec.describe(type)}", hint="pass a type such as bool"
        )


def _overridden(
    mark: ActivityMark,
    retry: RetryPolicy | None,
    timeout: Duration | None,
    total_timeout: Duration | None,
    heartbeat_timeout: Duration | None,
    at_most_once: bool | None,
    task_queue: str | None,
) -> ActivityMark:
    """What the decorator was given, except for what the call gives itself."""
    given = f"of activity {mark.name!r}"
    policy = checked_policy(f"retry {given}", retry)
    limits = {
        name: checked_limit(f"{name} {given}", limit)
        for name, limit in (
            ("timeout", timeout),
            ("total_timeout", total_timeout),
            ("heartbeat_timeout", heartbeat_timeout),
        )
    }
    if at_most_once is not None:
        checking.flag(f"at_most_once {given}", at_most_once)
    queue = checked_queue(f"task_queue {given}", task_queue)
    mark = ActivityMark(
        name=mark.name,
        retry=mark.retry if policy is None else policy,
        **{n: getattr(mark, n) if limit is None else limit for n, limit in limits.items()},
        at_most_once=mark.at_most_once if at_most_once is None else at_most_once,
        isolation=mark.isolation,
        task_queue=mark.task_queue if queue is None else queue,
    )
    if mark.at_most_once and mark.retry is not None:
        raise UsageError(
            f"activity {mark.name!r} cannot have at_most_once and a retry policy",
            hint="leave one of them out",
        )
    return mark


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _expire(waiter: asyncio.Future[None], wait: SignalWait) -> None:
    if not waiter.done():
        assert wait.timeout is not None
        waiter.set_exception(SignalTimeoutError(wait.name, format_duration(wait.timeout)))


class _Located:
    """Adds the caller's line to what a method of the context says of its arguments."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, UsageError):
            error.locate(_caller(sys._getframe(1)))


_located = _Located()


def _caller(frame: Any) -> str:
    """ "file:line" of the workflow code that called; one method here may call another."""
    while frame.f_globals is globals() and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
