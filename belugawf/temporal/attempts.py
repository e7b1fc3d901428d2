"""Activities on Temporal: each attempt runs in `host.attempts`, as on the local provider."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any, TypeAlias

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from belugawf.host.attempt import AttemptSpec
from belugawf.host.attempts import AttemptRunner
from belugawf.host.clock import Clock
from belugawf.host.suspects import Manner, Order, manner_of
from belugawf.model import codec
from belugawf.model.durations import (
    datetime_ns,
    duration_ns,
    format_instant,
    ns_duration,
)
from belugawf.model.errors import BelugaError, Failure, PayloadTypeError
from belugawf.model.outcomes import (
    Outcome,
    died_with_it,
    interrupted,
    next_attempt_at,
    out_of_time,
)
from belugawf.model.policy import ActivityOptions
from belugawf.temporal.environment import Environment
from belugawf.temporal.headers import headers_of_message, read_header
from belugawf.temporal.ledger import AttemptLedger
from belugawf.temporal.payloads import ATTEMPTS, RecordedFailure, join, to_payload
from belugawf.temporal.scheduling import PULSE_S, read_options

# Records a heartbeat at once; answers whether nobody waits for the attempt any more.
RecordHeartbeat: TypeAlias = Callable[[bytes, Sequence[Payload]], Awaitable[bool]]

_LARGE = 1_500_000
_SHORTEST = timedelta(milliseconds=1)
_RETRY_ELSEWHERE = timedelta(seconds=1)
_NO_ROOM = timedelta(seconds=10)


@dataclass
class _Running:
    """One attempt of one activity in this worker."""

    info: activity.Info
    options: ActivityOptions
    activity_id: str
    ledger: AttemptLedger
    manner: Manner = "shared"
    details: str = "null"
    ended: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def expires_at(self) -> int | None:
        """When `total_timeout` is over; `None`: never."""
        if self.options.total_timeout is None:
            return None
        return datetime_ns(self.info.scheduled_time) + duration_ns(self.options.total_timeout)

    def report(self) -> None:
        """Tell the server that the attempt lives; the next one is handed details and ledger."""
        activity.heartbeat(*(RawValue(payload) for payload in self.payloads()))

    def payloads(self) -> list[Payload]:
        """What the next attempt is handed: the user's details, and the ledger."""
        return [to_payload(self.details), to_payload(codec.encode(self.ledger.to_json()))]


class ExclusiveGate:
    """Where so many attempts run at a time, in the order that `host/suspects.py` says."""

    def __init__(self, size: int) -> None:
        self._order = Order(size)
        self._inside: Counter[Manner] = Counter()
        self._waiting: Counter[Manner] = Counter()
        self._changed = asyncio.Event()

    def takes(self, manner: Manner) -> bool:
        """Whether one more may come and wait: those by themselves only if they can run soon."""
        most = self._order.most_isolated if manner == "isolated" else 0
        return manner == "shared" or self._inside[manner] + self._waiting[manner] < max(most, 1)

    @asynccontextmanager
    async def entered(
        self, manner: Manner, wait: Callable[[asyncio.Event], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Inside, once there is room; `wait` passes the time until something has changed."""
        self._waiting[manner] += 1
        try:
            while not self._order.admit(manner, self._inside, self._waiting, time.monotonic_ns()):
                self._changed.clear()
                await wait(self._changed)
        finally:
            self._waiting[manner] -= 1
            self._changed.set()
        self._inside[manner] += 1
        try:
            yield
        finally:
            self._inside[manner] -= 1
            self._changed.set()


class ActivityHost:
    """Runs the attempts that the server hands to this worker.

    `isolates`: suspects run in processes of their own, if that is possible.
    """

    def __init__(
        self,
        environment: Environment,
        clock: Clock,
        record: RecordHeartbeat,
        context: Context | None = None,
        *,
        isolates: bool = False,
    ) -> None:
        options = environment.options
        self._isolates = isolates
        self._record = record
        self._environment = environment
        self._clock = clock
        self._running: dict[int, _Running] = {}
        self._numbers = count(1)
        self._gate = ExclusiveGate(options.concurrency)
        self._stopping = False
        self._wake = asyncio.Event()
        self._runner = AttemptRunner(
            self._deliver,
            clock,
            threads=options.threads,
            payload_limit=options.payload_limit,
            on_begun=self._wake.set,
            context=context,
        )
        self._watcher = asyncio.create_task(self._watch())

    @property
    def count(self) -> int:
        """How many attempts are in flight."""
        return self._runner.count

    def stop_starting(self) -> None:
        """What has not begun yet is left to other workers."""
        self._stopping = True

    def interrupt(self) -> None:
        """A signal has come that ends this process: what fails from now on is tried elsewhere."""
        self._runner.interrupt()

    def cut(self) -> None:
        """Stop every attempt; each is tried again elsewhere, and none of it counts."""
        self._runner.cut()

    async def close(self) -> None:
        """Stop what is left."""
        self._watcher.cancel()
        await self._runner.close()

    @activity.defn(dynamic=True)
    async def execute(self, args: Sequence[RawValue]) -> RawValue:
        """One attempt of any activity."""
        info = activity.info()
        data = read_header(headers_of_message.get())
        running = _Running(
            info=info,
            options=read_options(data),
            activity_id=data.get("id") or info.activity_id,
            ledger=AttemptLedger.read(info.heartbeat_details),
        )
        if info.heartbeat_details:
            running.details = codec.encode(info.heartbeat_details[0])
        max_crashes = data.get("max_crashes", 0)
        running.ledger = running.ledger.opened(info.attempt, max_crashes)
        if running.ledger.is_deadly(max_crashes):
            failure = died_with_it(running.ledger.crashes)
            raise self._for_good(running, failure)
        key = f"{info.workflow_run_id}:{info.activity_id}"
        path = data.get("function")
        function = self._environment.find_activity(info.activity_type, path, key)
        if function is None:
            raise self._elsewhere(running, f"this worker has no activity {info.activity_type!r}")
        if running.ledger.mode == "waiting":
            running.manner = manner_of(function, running.options, isolates=self._isolates)
            if not self._gate.takes(running.manner):
                # Waiting here would keep others from being handed out to us.
                raise self._elsewhere(running, "others are by themselves already", _NO_ROOM)
        self._environment.active(info.workflow_id or "", info.workflow_run_id or "")
        self._call_hooks("on_activity_start", running)
        try:
            outcome = await self._run(running, function, self._arguments(running, args))
        finally:
            self._environment.active(info.workflow_id or "", info.workflow_run_id or "")
        if outcome.status == "completed":
            self._call_hooks("on_activity_complete", running)
            return self._result(running, outcome)
        raise self._failure(running, outcome)

    def _arguments(self, running: _Running, args: Sequence[RawValue]) -> str:
        try:
            return join([arg.payload for arg in args])
        except PayloadTypeError as error:
            failure = Failure(type(error).__name__, str(error), non_retryable=True)
            raise self._for_good(running, failure) from None

    # -- one attempt -----------------------------------------------------------------------------

    async def _run(
        self, running: _Running, function: Callable[..., Any], arguments: str
    ) -> Outcome:
        number = next(self._numbers)

        async def wait(changed: asyncio.Event) -> None:
            running.report()
            with suppress(TimeoutError):
                async with asyncio.timeout(PULSE_S):
                    await changed.wait()

        async with self._gate.entered(running.manner, wait):
            # What may run only once was handed out to us, and would be to nobody else.
            if self._stopping and not running.options.at_most_once:
                raise self._elsewhere(running, "the worker is shutting down")
            return await self._run_here(number, running, function, arguments)

    async def _run_here(
        self, number: int, running: _Running, function: Callable[..., Any], arguments: str
    ) -> Outcome:
        info = running.info
        if running.manner == "alone":
            running.ledger = replace(running.ledger, mode="alone")
            await self._hand_on_ledger(running)
        elif running.manner == "isolated":
            running.ledger = replace(running.ledger, mode="shared")
        self._running[number] = running
        self._runner.start(
            AttemptSpec(
                run=number,
                seq=0,
                workflow_id=info.workflow_id or "",
                run_id=info.workflow_run_id or "",
                activity_id=running.activity_id,
                name=info.activity_type,
                function=function,
                arguments=arguments,
                options=running.options,
                attempt=info.attempt,
                expires_at=running.expires_at,
                heartbeat_details=json.loads(running.details),
                crashes=running.ledger.crashes if running.manner == "isolated" else None,
            )
        )
        self._wake.set()
        try:
            outcome = await self._supervise(running)
            if running.manner == "alone":
                # Before anyone else may kill this process: it was not this one.
                running.ledger = running.ledger.ended(info.attempt)
                with suppress(BelugaError, asyncio.CancelledError):  # then there is no next one
                    await self._hand_on_ledger(running)
            return outcome
        except asyncio.CancelledError:
            self._runner.cancel(number, 0)
            raise
        finally:
            del self._running[number]

    async def _hand_on_ledger(self, running: _Running) -> None:
        """Hand on the ledger at once: whoever finds this attempt dead then knows the culprit.

        The SDK may hold a heartbeat back, and send it when it says what is true no more. So it is
        told as well: what it holds back is always the last that it was told. Raises
        `CancelledError` if nobody waits for the attempt any more.
        """
        running.report()
        if await self._record(running.info.task_token, running.payloads()):
            raise asyncio.CancelledError

    async def _supervise(self, running: _Running) -> Outcome:
        """Report it alive until it ends."""
        while True:
            running.report()
            await asyncio.wait([running.ended], timeout=PULSE_S)
            if running.ended.done():
                self._take_heartbeats()
                return running.ended.result()

    def _deliver(self, outcome: Outcome) -> None:
        running = self._running.get(outcome.run)
        if running is not None and not running.ended.done():
            running.ended.set_result(outcome)

    async def _watch(self) -> None:
        """Keep the limits of what runs, by the wall clock; pass heartbeats on."""
        while True:
            if not self._running:
                self._wake.clear()
                await self._wake.wait()
            self._runner.expire(self._clock.now())
            self._take_heartbeats()
            limit = self._runner.next_limit()
            pause = 0.25
            if limit is not None:
                pause = min(pause, max((limit - self._clock.now()) / 1e9, 0.005))
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _take_heartbeats(self) -> None:
        for number, _, text in self._runner.take_heartbeats():
            running = self._running.get(number)
            if running is not None:
                running.details = text

    # -- how it ends -----------------------------------------------------------------------------

    def _result(self, running: _Running, outcome: Outcome) -> RawValue:
        ended = {
            "attempt": outcome.attempt,
            "at": format_instant(outcome.at),
            "started_at": format_instant(outcome.started_at),
            "attempts": list(running.ledger.attempts),
        }
        if len(outcome.payload) > _LARGE:
            # The server's limit is for both together.
            ended["attempts"] = []
        metadata = {ATTEMPTS: codec.encode(ended).encode()}
        return RawValue(to_payload(outcome.payload, **metadata))

    def _failure(self, running: _Running, outcome: Outcome) -> RecordedFailure:
        """The failure that the server retries, or does not."""
        if outcome.status == "interrupted":
            if running.options.at_most_once:
                failure = interrupted("it was stopped in the middle of it")
                return self._for_good(running, failure, at=outcome.at)
            return self._elsewhere(running, "the worker was shut down")
        failures = running.ledger.failures + 1
        options, expires_at = running.options, running.expires_at
        chance = random.random()  # noqa: S311 - spreads retries
        retry_at = next_attempt_at(outcome, options, failures, chance)
        if retry_at is not None and expires_at is not None and retry_at >= expires_at:
            retry_at, outcome = None, out_of_time(outcome, options)
        assert outcome.failure is not None
        failure = outcome.failure
        if retry_at is None:
            running.ledger = replace(running.ledger, failures=failures)
            return self._for_good(
                running, failure, limit=outcome.limit, at=outcome.at, started_at=outcome.started_at
            )
        running.ledger = running.ledger.failed(outcome, retry_at)
        running.report()
        self._call_hooks("on_retry", running)
        delay = max(ns_duration(retry_at - self._clock.now()), _SHORTEST)
        return RecordedFailure(failure, non_retryable=False, next_retry_delay=delay)

    def _for_good(
        self,
        running: _Running,
        failure: Failure,
        *,
        limit: str = "",
        at: int | None = None,
        started_at: int | None = None,
    ) -> RecordedFailure:
        attempts = max(running.ledger.failures, 1)
        failure = replace(failure, activity=running.info.activity_type, attempts=attempts)
        beside = {
            "limit": limit,
            "attempt": running.info.attempt,
            "at": format_instant(self._clock.now() if at is None else at),
            "started_at": None if started_at is None else format_instant(started_at),
            "attempts": list(running.ledger.attempts),
        }
        return RecordedFailure(failure, beside=beside)

    def _elsewhere(
        self, running: _Running, message: str, delay: timedelta = _RETRY_ELSEWHERE
    ) -> RecordedFailure:
        """Not the activity's fault: it is tried again, here or elsewhere, and this counts not."""
        running.ledger = running.ledger.interrupted(running.info.attempt)
        running.report()
        failure = Failure("Interrupted", message, kind="interrupted")
        return RecordedFailure(failure, non_retryable=False, next_retry_delay=delay)

    def _call_hooks(self, hook: str, running: _Running) -> None:
        info = running.info
        self._environment.call_hooks(
            hook,
            info.workflow_id,
            info.workflow_run_id,
            info.workflow_type,
            activity=info.activity_type,
            attempt=info.attempt,
        )
