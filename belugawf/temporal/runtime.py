"""Workflow code on Temporal: the one `WorkflowContext` over `temporalio.workflow`.

A turn here is what the SDK calls an activation: it hands over what happened, lets the code run
until nothing is ready, and takes the commands; `Instance` is its event loop. When a run comes to
rest, what it waits for stands in its memo, for those who look from outside.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from belugawf.authoring.context import WorkflowContext
from belugawf.authoring.failures import describe_failure, is_a
from belugawf.authoring.runtime import SignalWait, WorkflowInfo, emit_later
from belugawf.authoring.signals import BufferedSignal, SignalBuffer
from belugawf.host.hooks import emit
from belugawf.host.logs import mark
from belugawf.model import codec
from belugawf.model.durations import SECOND_NS, duration_ns, format_instant
from belugawf.model.errors import (
    PayloadTypeError,
    QueryNotFoundError,
    TurnError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)
from belugawf.replay.calling import (
    Condition,
    answer,
    input_of,
    log_record,
    unhandled_record,
    wrong_code,
)
from belugawf.replay.locating import left_pending
from belugawf.temporal.headers import headers_of_message, read_header, sent_at
from belugawf.temporal.instance import Instance
from belugawf.temporal.payloads import (
    PROGRESS_MEMO,
    WAIT_MEMO,
    WAITS_MEMO,
    RecordedFailure,
    one,
    raw,
)
from belugawf.temporal.scheduling import Activities

logger = logging.getLogger("belugawf.temporal")


class MissingWorkflowError(TurnError):
    """The run's workflow is not in this worker's modules, or does not import."""

    code = "workflow_load"
    exit_code = 14


class _OpenWaits:
    """The open waits of a run by their numbers, and which of them its memo tells of."""

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[int, dict[str, Any]] = {}
        self._published: set[int] = set()
        self._replayed = False

    def begin(self, wait: dict[str, Any]) -> int:
        """Note a wait; its number."""
        self._count += 1
        self._open[self._count] = {"seq": self._count, **wait}
        return self._count

    def end(self, number: int) -> None:
        """It is over."""
        self._open.pop(number, None)

    def news(self, *, replaying: bool) -> dict[str, Any]:
        """What the memo is to say newly: those that have begun, and `None` for those over."""
        changed = sorted(self._open.keys() ^ self._published)
        self._published = set(self._open)
        news: dict[str, Any] = {
            f"{WAIT_MEMO}{number}": self._open.get(number) for number in changed
        }
        if replaying:
            self._replayed = True
        elif news and self._replayed:
            # An older version may have begun the run, and written all of them in one value.
            self._replayed, news[WAITS_MEMO] = False, None
        return news


class TemporalRuntime:
    """One run in memory. Implements `Runtime` for its context."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._environment = instance.environment
        self.payload_limit = self._environment.options.payload_limit
        info = workflow.info()
        deadline = None
        if info.execution_timeout is not None:
            deadline = info.workflow_start_time + info.execution_timeout
        self.info = WorkflowInfo(
            workflow_id=info.workflow_id,
            # A reset changes the run's id, and its code is replayed with what it was told before.
            run_id=info.original_execution_run_id,
            workflow=info.workflow_type,
            started_at=info.start_time,
            deadline=deadline,
            parent=None if info.parent is None else info.parent.run_id,
        )
        self._signals = SignalBuffer()
        self._keys: set[str] = set()
        self._queries: dict[str, Callable[..., Any]] = {}
        self._activities = Activities(instance)
        self.schedule_activity = self._activities.schedule
        self._waits = _OpenWaits()
        self.wait_location: str | None = None
        self._progress: str | float | None = None
        self._logs: list[logging.LogRecord] = []

    # -- the run's life --------------------------------------------------------------------------

    async def run(self, text: str | None) -> RawValue:
        """Run the workflow's code; its exceptions fail the run, ours only the turn."""
        try:
            definition = self._environment.catalog.workflow(self.info.workflow)
        except (WorkflowNotFoundError, WorkflowLoadError) as error:
            message = f"run {self.info.workflow_id!r} cannot go on: {error.message}"
            raise MissingWorkflowError(message, hint=error.hint) from None
        arguments = input_of(definition, text, self.info.workflow)
        context = WorkflowContext(self, self._signals, self._queries)
        try:
            result = await definition.function(context, **arguments)
            text = definition.encode_result(result, limit=self.payload_limit)
            while not self._activities.has_room(len(text.encode())):
                await asyncio.sleep(0.001)
            _end_as_task()
            return raw(text)
        except (TurnError, workflow.NondeterminismError):
            raise
        except BaseException as error:
            # Not in its turn: it is being let go, or Python's collector has closed it.
            if not self._instance.open:
                raise
            if is_a(error, asyncio.CancelledError) and self.cancel_requested:
                raise
            # Whatever else leaves the code fails the run; even what would end a process. Whether
            # there is another one then is for whoever started it.
            failure = describe_failure(error)
            if definition.parks:
                what_to_do = "mend it, and restart its workers"
                self._instance.park(wrong_code(error, self.info, what_to_do))
            raise RecordedFailure(failure, non_retryable=failure.non_retryable) from None

    def receive(self, name: str, payloads: Sequence[Payload], data: dict[str, Any]) -> None:
        """A signal arrived; `data` is what its sender wrote beside it, if it was one of ours."""
        key = data.get("key")
        if key is not None and key in self._keys:
            return
        if key is not None:
            self._keys.add(key)
        try:
            text = one(payloads) or "null"
        except PayloadTypeError as error:
            # Not ours to read; the wait tells by its type, and the run goes on.
            text = codec.encode({"unreadable": error.found})
        moment = sent_at(data)
        self._signals.deliver(
            BufferedSignal(name, text, self.now() if moment is None else moment, data.get("sender"))
        )
        if not self.is_replaying():
            self.call_hooks("on_signal", signal=name)

    def query(self, name: str, text: str | None) -> RawValue:
        """The answer of the code's query. Raises `QueryNotFoundError`."""
        function = self._queries.get(name)
        if function is None:
            names = ", ".join(sorted(self._queries)) or "none of its own"
            # Only the message comes back to who asks.
            raise QueryNotFoundError(
                f"workflow {self.info.workflow!r} has no query {name!r}; "
                f"it has status, result, waiting, and {names}"
            )
        args = [] if text is None else codec.decode(text, list[Any], what="arguments")
        return raw(answer(name, function, args, self.payload_limit))

    @property
    def _location(self) -> str:
        """Where the workflow is defined; "" if that is not known."""
        known = self._environment.catalog.workflows.get(self.info.workflow)
        return "" if known is None else known.location

    def warn_of(self, pending: Sequence[asyncio.Task[Any]]) -> None:
        """The code has ended: say which of these it has not waited for."""
        left = left_pending(pending)
        if left is not None and not self.is_replaying():
            self._logs.append(log_record(self.info, self._location, logging.WARNING, left))

    def came_to_rest(self) -> dict[str, Any]:
        """A turn was taken: emit its log lines; returns what the memo is to say newly."""
        self._activities.turn_taken()
        if not self.is_replaying():
            for message, traceback in self._instance.unhandled:
                self._logs.append(unhandled_record(self.info, self._location, message, traceback))
        self._instance.unhandled.clear()
        self.show_logs()
        news = self._waits.news(replaying=self.is_replaying())
        if self._progress is not None:
            news[PROGRESS_MEMO], self._progress = self._progress, None
        return news

    def show_logs(self) -> None:
        """Emit the lines of the turn that has come to its end."""
        for record in self._logs:
            mark(record, self.info.workflow_id, self.info.run_id)
        emit(logger, self._logs)
        self._logs.clear()

    def call_hooks(self, hook: str, **details: Any) -> None:
        """Call this worker's hooks of that name."""
        info = self.info
        self._environment.call_hooks(hook, info.workflow_id, info.run_id, info.workflow, **details)

    # -- Runtime: what the context calls ---------------------------------------------------------

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked this run to stop."""
        self._instance.check()
        return self._instance.workflow_cancellation_reason() is not None

    def cancel_activity(self, result: asyncio.Future[str]) -> None:
        self._activities.cancel(result)

    def begin_wait(self, wait: SignalWait) -> int:
        self._instance.check_may_ask()
        now = self.now()
        until = None if wait.timeout is None else format_instant(now + duration_ns(wait.timeout))
        self.wait_location = wait.location
        return self._waits.begin(
            {
                "signal": wait.name,
                "since": format_instant(now),
                "until": until,
                "prompt": wait.prompt,
                "expected": wait.expected,
                "schema": wait.schema,
            }
        )

    def end_wait(self, token: int, outcome: str) -> None:
        if self._instance.hears():
            self._waits.end(token)

    def wait_condition(self, predicate: Callable[[], bool]) -> asyncio.Future[None]:
        self._instance.check_may_ask()
        future: asyncio.Future[None] = self._instance.create_future()
        if self._instance.open:
            self._instance.add_condition(Condition(predicate), future)
        return future

    def new_future(self) -> asyncio.Future[Any]:
        return self._instance.create_future()

    def call_at(
        self, moment: int, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        # The server's timers have delays; it is the server's clock that both are taken from.
        delay = (moment - self.now()) / SECOND_NS
        return self._instance.call_later(delay, callback, *args)

    def now(self) -> int:
        self._instance.check()
        return workflow.time_ns() // 1000 * 1000

    def random(self, purpose: str) -> random.Random:
        return workflow.random()

    def is_replaying(self) -> bool:
        return self._instance.workflow_is_replaying()

    def emit_log(self, record: logging.LogRecord) -> None:
        if self._instance.open and not self.is_replaying():
            self._logs.append(record)

    def log(self, record: logging.LogRecord) -> None:
        """The code has logged this by a logger that is not its context's."""
        emit_later(self, record)

    def publish_progress(self, progress: str | float) -> None:
        self._instance.check_may_ask()
        self._progress = progress


def _end_as_task() -> None:
    """As asyncio has it, a task that was cancelled while it ran is cancelled although it returns.

    For the run's own task: the SDK takes the result before it learns of that.
    """
    task: Any = asyncio.current_task()
    if task._must_cancel:
        raise asyncio.CancelledError


@workflow.defn(dynamic=True)
class DurableRun:
    """Every workflow of a worker, whatever its name."""

    def __init__(self) -> None:
        instance = asyncio.get_running_loop()
        assert isinstance(instance, Instance)
        self.runtime = TemporalRuntime(instance)

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> RawValue:
        """Run the code of the workflow that has the run's name."""
        return await self.runtime.run(one([arg.payload for arg in args]))

    @workflow.signal(dynamic=True)
    def receive(self, name: str, args: Sequence[RawValue]) -> None:
        """Buffer a signal of any name."""
        data = read_header(headers_of_message.get())
        self.runtime.receive(name, [arg.payload for arg in args], data)

    @workflow.query(dynamic=True)
    def ask(self, name: str, args: Sequence[RawValue]) -> RawValue:
        """Answer a query of the workflow's own."""
        return self.runtime.query(name, one([arg.payload for arg in args]))
