"""A run's activities on the server: how their options become its own, and reach the worker.

The worker keeps the limits itself, so that they mean the same as on the local provider; the server
is told enough to find a dead worker, and to keep what outlives every worker. So:

* It may start attempts without limit, unless `at_most_once`: an attempt whose worker died uses up
  none of `max_attempts`, and the server cannot tell. The worker makes the last failure that counts
  one that is not retried.
* `timeout` is kept by the worker. The server's start-to-close is a little longer.
* Every attempt that takes long is reported alive by its worker, whatever the user's code does. So
  silence on the server means that the worker is dead. `heartbeat_timeout` is kept by the worker.
* `total_timeout` is kept by the server's schedule-to-close: it may pass while no worker is there.
  It is a little longer: a worker that is there ends the attempt before that, and says more.
* Delays between attempts are the server's own, by its policy, unless it cannot know them.
* What is changed on the server while an activity is open counts (`options_now`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import FunctionType
from typing import Any

from temporalio import workflow
from temporalio.activity import Info
from temporalio.common import Priority, RawValue, RetryPolicy as TemporalRetryPolicy
from temporalio.worker import StartActivityInput

from belugawf.authoring.activity import ActivityMark
from belugawf.host.calling import address_of
from belugawf.host.test_hooks import number
from belugawf.model.durations import format_duration, parse_duration
from belugawf.model.errors import TurnError
from belugawf.model.policy import ActivityOptions, RetryPolicy
from belugawf.temporal.headers import header
from belugawf.temporal.instance import Instance
from belugawf.temporal.payloads import activity_error, split, to_text

# After this silence of a worker the server takes its attempts for dead.
LIVENESS = timedelta(seconds=number("BELUGAWF_TEST_LIVENESS", 10))
# How often a worker reports each of its attempts, in seconds.
PULSE_S = LIVENESS.total_seconds() / 4
# How much longer than the worker the server waits: it counts from when a worker took the attempt,
# the worker from when there was a thread for it.
_SLACK = timedelta(hours=1)
# How much longer it waits for all attempts: the worker's own word says more.
_TOTAL_SLACK = timedelta(seconds=5)
# No timeout at all is none that the server knows: it wants one.
_ENDLESS = timedelta(days=36_500)
# What the server takes with one turn is 4 MiB; so much of it for activities and the result.
_MOST_BYTES = 4 * 1024 * 1024 - 128 * 1024
# It takes no more than 2,000 activities of one run that are open.
_MOST_OPEN = 2_000
# What stands beside an activity's arguments, about.
_BESIDE = 512
# The shortest delay that the server can keep.
_SHORTEST = timedelta(milliseconds=1)


class UnknownActivityError(TurnError):
    """The code names an activity that this worker does not have."""

    code = "activity_not_found"


class Activities:
    """The activities of one run: scheduled on the server, their results as futures of its loop."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._environment = instance.environment
        self._handles: dict[asyncio.Future[str], workflow.ActivityHandle[Any]] = {}
        self._count = 0
        self._ids: set[str] = set()
        self._asked_bytes = 0
        self._later: deque[tuple[int, Callable[[], None]]] = deque()

    def schedule(
        self,
        mark: ActivityMark,
        function: Callable[..., Any] | None,
        arguments: str,
        types: tuple[Any, ...],
        activity_id: str | None,
        location: str,
    ) -> asyncio.Future[str]:
        instance, functions = self._instance, self._environment.functions
        instance.check_may_ask()
        options = mark.options(self._environment.options.defaults)
        name, queue = mark.name, mark.task_queue
        if queue == instance.workflow_info().task_queue:
            queue = None
        path = None if function is None else import_path(function) or ""
        ours = self._know(name, function, path, queue)
        result: asyncio.Future[str] = instance.create_future()
        if not instance.open:
            return result
        unique_id = self._unique(activity_id)
        run_timeout = instance.workflow_info().run_timeout
        fields = {
            **options_header(options, self._environment.options.max_crashes),
            "id": None if activity_id is None else unique_id,
            "function": path,
            "run": instance.workflow_info().original_execution_run_id,
            "run_timeout": "" if run_timeout is None else format_duration(run_timeout),
        }
        own = f"{instance.workflow_info().run_id}:{unique_id}"
        if function is not None:
            functions[path or own] = function
        if ours:
            asked = _asked_of_server(name, arguments, unique_id, options, fields)
        else:
            asked = _asked_of_others(name, arguments, unique_id, options, run_timeout)
        asked = replace(asked, task_queue=queue)

        def ask() -> None:
            if not result.done():
                self._ask(asked, result, location, types, own)

        self._in_a_turn(len(arguments.encode()) + _BESIDE, ask)
        return result

    def _ask(
        self,
        asked: StartActivityInput,
        result: asyncio.Future[str],
        location: str,
        types: tuple[Any, ...],
        own: str,
    ) -> None:
        handle = self._instance.start_activity(asked, location, types)
        self._handles[result] = handle

        def ended(task: asyncio.Task[Any]) -> None:
            if len(self._handles) == _MOST_OPEN and self._instance.open:
                self._instance.call_soon(self._go_on)
            self._handles.pop(result, None)
            self._environment.functions.pop(own, None)
            error = None if task.cancelled() else task.exception()
            if result.done():
                return
            if task.cancelled():
                result.cancel()
            elif error is None:
                result.set_result(to_text(task.result().payload))
            else:
                result.set_exception(activity_error(error, asked.activity))

        handle.add_done_callback(ended)

    # -- what the server takes -------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Whether the server takes so many bytes more with this turn."""
        return not self._asked_bytes or self._asked_bytes + size <= _MOST_BYTES

    def turn_taken(self) -> None:
        """What is asked for from now on is of the next turn."""
        self._asked_bytes = 0

    def _in_a_turn(self, size: int, ask: Callable[[], None]) -> None:
        """Ask in this turn if there is room, else as soon as there is."""
        self._later.append((size, ask))
        if len(self._later) == 1:
            self._go_on()

    def _go_on(self) -> None:
        while self._later and len(self._handles) < _MOST_OPEN:
            size, ask = self._later[0]
            if not self.has_room(size):
                # The timer brings about another turn.
                self._instance.call_later(_SHORTEST.total_seconds(), self._go_on)
                return
            self._later.popleft()
            self._asked_bytes += size
            ask()

    def cancel(self, result: asyncio.Future[str]) -> None:
        handle = self._handles.get(result)
        if handle is None:
            result.cancel()  # it was not asked for yet, if it has not ended
        elif self._instance.hears():
            handle.cancel()

    def _unique(self, requested: str | None) -> str:
        """An id that the run has not used yet: the server refuses one that is open already."""
        self._count += 1
        base = requested or str(self._count)
        chosen, more = base, 1
        while chosen in self._ids:
            more += 1
            chosen = f"{base}#{more}"
        self._ids.add(chosen)
        return chosen

    def _know(
        self, name: str, function: Callable[..., Any] | None, path: str | None, queue: str | None
    ) -> bool:
        """Whether it is one of ours; on another queue it may be another SDK's."""
        catalog, instance = self._environment.catalog, self._instance
        if function is not None:
            catalog.check_activity(name)
            if path or queue is None or instance.workflow_is_replaying():
                return True
            what = f"is a function that no worker of task queue {queue!r} can find"
            hint = "define it at the top level of a module, or leave out task_queue"
        elif catalog.activity(name) is not None:
            return True
        elif queue is not None or instance.workflow_is_replaying():
            return False
        else:
            what = "no module defines"
            hint = "define it with @activity, or pass the function instead of its name"
        workflow_type = instance.workflow_info().workflow_type
        raise instance.refuse(
            UnknownActivityError(
                f"workflow {workflow_type!r} asks for activity {name!r}, which {what}", hint=hint
            )
        )


def _asked_of_server(
    name: str, arguments: str, activity_id: str, options: ActivityOptions, fields: Mapping[str, Any]
) -> StartActivityInput:
    """The activity as the server is told of it; what is in `fields` travels in a header."""
    policy = options.retry
    initial_interval = max(policy.initial_delay, _SHORTEST)
    start_to_close, schedule_to_close = _limits(options, _duration(fields.get("run_timeout")))
    return StartActivityInput(
        activity=name,
        args=split(arguments),
        activity_id=activity_id,
        task_queue=None,
        schedule_to_close_timeout=schedule_to_close,
        schedule_to_start_timeout=None,
        start_to_close_timeout=start_to_close,
        heartbeat_timeout=LIVENESS,
        retry_policy=TemporalRetryPolicy(
            initial_interval=initial_interval,
            backoff_coefficient=policy.backoff_coefficient,
            maximum_interval=max(policy.max_delay, initial_interval),
            maximum_attempts=1 if options.at_most_once else 0,
            non_retryable_error_types=policy.non_retryable or None,
        ),
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        headers=header(fields),
        disable_eager_execution=False,
        versioning_intent=None,
        summary=None,
        priority=Priority.default,
        arg_types=None,
        ret_type=RawValue,
    )


def _asked_of_others(
    name: str,
    arguments: str,
    activity_id: str,
    options: ActivityOptions,
    run_timeout: timedelta | None,
) -> StartActivityInput:
    """An activity that no module of ours defines: its limits are all the server's to keep.

    A worker of another SDK reads no header, and reports nothing that its code does not.
    """
    asked = _asked_of_server(name, arguments, activity_id, options, {})
    ends = [end for end in (options.total_timeout, run_timeout) if end]
    assert asked.retry_policy is not None
    attempts = 1 if options.at_most_once else options.retry.max_attempts
    return replace(
        asked,
        schedule_to_close_timeout=min(ends, default=None),
        start_to_close_timeout=min([options.timeout or _ENDLESS, *ends]),
        heartbeat_timeout=options.heartbeat_timeout,
        retry_policy=replace(asked.retry_policy, maximum_attempts=attempts),
    )


def import_path(function: Callable[..., Any]) -> str | None:
    """How another worker finds a function, as "module:name"; `None` if it cannot."""
    address = address_of(function)
    if address is None and type(function) is FunctionType and "<" not in function.__qualname__:
        # The module has another function of that name, made of this one.
        address = function.__module__, function.__qualname__
    return None if address is None else ":".join(address)


def options_header(options: ActivityOptions, max_crashes: int) -> dict[str, Any]:
    """The options as JSON, without what has its default. The inverse is `read_options`."""
    retry, usual = options.retry, RetryPolicy()
    fields: dict[str, Any] = {"max_attempts": retry.max_attempts, "max_crashes": max_crashes}
    for name in ("timeout", "total_timeout", "heartbeat_timeout"):
        limit = getattr(options, name)
        if limit is not None:
            fields[name] = format_duration(limit)
    for name in ("initial_delay", "max_delay"):
        if getattr(retry, name) != getattr(usual, name):
            fields[name] = format_duration(getattr(retry, name))
    for name in ("backoff_coefficient", "jitter"):
        if getattr(retry, name) != getattr(usual, name):
            fields[name] = getattr(retry, name)
    if retry.non_retryable:
        fields["non_retryable"] = list(retry.non_retryable)
    if options.at_most_once:
        fields["at_most_once"] = True
    if options.isolation != "none":
        fields["isolation"] = options.isolation
    return fields


def options_now(data: Mapping[str, Any], info: Info) -> ActivityOptions:
    """The options of an activity's header, with what was changed on the server since.

    Without a header another SDK has scheduled it: then the server keeps all limits.
    """
    options = read_options(data)
    if not data:
        return options
    changed: dict[str, Any] = {}
    asked = _limits(options, _duration(data.get("run_timeout")))
    now = (info.start_to_close_timeout, info.schedule_to_close_timeout)
    for name, before, after in zip(("timeout", "total_timeout"), asked, now, strict=True):
        if "run_timeout" in data and after and after != before:
            changed[name] = after
    policy = info.retry_policy
    if policy is not None:
        changed["retry"] = RetryPolicy(
            # Of attempts that may be started, it is the server that counts them.
            options.retry.max_attempts if policy.maximum_attempts < 2 else 0,
            policy.initial_interval,
            policy.backoff_coefficient,
            policy.maximum_interval,
            options.retry.jitter,
            options.retry.non_retryable,
        )
    return replace(options, **changed)


def _limits(
    options: ActivityOptions, run_timeout: timedelta | None
) -> tuple[timedelta, timedelta | None]:
    """The server's start-to-close and schedule-to-close, neither longer than what is around it."""
    timeout, total = options.timeout, options.total_timeout
    ends = [end for end in (total and total + _TOTAL_SLACK, run_timeout) if end]
    schedule_to_close = min(ends, default=None)
    start_to_close = _ENDLESS if timeout is None else timeout + _SLACK
    return min([start_to_close, *ends]), schedule_to_close


def read_options(data: Mapping[str, Any]) -> ActivityOptions:
    """The options of a header."""
    retry = {
        name: data[name]
        for name in (
            "initial_delay",
            "max_delay",
            "backoff_coefficient",
            "jitter",
            "non_retryable",
        )
        if name in data
    }
    if "max_delay" not in retry:
        retry["max_delay"] = RetryPolicy().max_delay
    return ActivityOptions(
        retry=RetryPolicy(max_attempts=data.get("max_attempts", 0), **retry),
        timeout=_duration(data.get("timeout")),
        total_timeout=_duration(data.get("total_timeout")),
        heartbeat_timeout=_duration(data.get("heartbeat_timeout")),
        at_most_once=bool(data.get("at_most_once", False)),
        isolation=data.get("isolation", "none"),
    )


def _duration(text: str | None) -> timedelta | None:
    return parse_duration(text) if text else None
