"""Activities on Temporal: each attempt runs in `host.attempts`, as on the local provider."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from belugawf.host.attempt import AttemptSpec
from belugawf.host.attempts import AttemptRunner
from belugawf.host.clock import Clock
from belugawf.host.suspects import Order, is_suspect, manner_of
from belugawf.model import codec
from belugawf.model.durations import duration_ns, format_instant, ns_duration
from belugawf.model.errors import Failure, PayloadTypeError
from belugawf.model.outcomes import Outcome, interrupted, next_attempt_at, out_of_time
from belugawf.model.policy import ActivityOptions
from belugawf.temporal.environment import Environment
from belugawf.temporal.headers import headers_of_message, read_header
from belugawf.temporal.ledger import AttemptLedger
from belugawf.temporal.payloads import ATTEMPTS, RecordedFailure, join, to_payload
from belugawf.temporal.scheduling import PULSE_S, options_now

_LARGE = 1_500_000
_SHORTEST = timedelta(milliseconds=1)
_RETRY_ELSEWHERE = timedelta(seconds=1)
_NO_ROOM = timedelta(seconds=10)
# How many activities are remembered that ran here.
_REMEMBERED = 10_000


@dataclass
class _Running:
    """One attempt of one activity in this worker.

    `ours`: a workflow of ours asks for it. What another SDK's does is the server's to retry, its
    heartbeats are the code's own, and it has no ledger. `expires_at` is when `total_timeout` is
    over by our clock, `None` for never. `run_id` is that of its run before any reset.
    """

    info: activity.Info
    options: ActivityOptions
    run_id: str
    activity_id: str
    ledger: AttemptLedger
    ours: bool
    expires_at: int | None
    details: str = "null"
    ended: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _context: Context = field(default_factory=copy_context)

    def report(self) -> None:
        """Tell the server that the attempt lives; the next one is handed details and ledger."""
        payloads: list[Payload] = [to_payload(self.details)]
        if self.ours:
            payloads.append(to_payload(codec.encode(self.ledger.to_json())))
        self._context.run(activity.heartbeat, *(RawValue(payload) for payload in payloads))


class ActivityHost:
    """Runs the attempts that the server hands to this worker.

    `isolates`: what may take its process down runs in one of its own, if that is possible.
    """

    def __init__(
        self,
        environment: Environment,
        clock: Clock,
        context: Context | None = None,
        *,
        isolates: bool = False,
    ) -> None:
        options = environment.options
        self._isolates = isolates
        self._environment = environment
        self._clock = clock
        self._running: dict[int, _Running] = {}
        self._numbers = count(1)
        # Suspects in processes of their own.
        self._isolated = 0
        self._most_isolated = max(Order(options.concurrency).most_isolated, 1)
        # Activities that ran here, and have not taken this process down.
        self._survived: dict[str, None] = {}
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
        key = f"{info.workflow_run_id}:{info.activity_id}"
        running = self._opened(info, data, key)
        path = data.get("function")
        function = self._environment.find_activity(info.activity_type, path, key)
        if function is None:
            raise self._elsewhere(running, f"this worker has no activity {info.activity_type!r}")
        isolated = self._is_to_be_isolated(running, function, data)
        if isolated and self._isolated >= self._most_isolated:
            # Waiting here would keep others from being handed out to us.
            raise self._elsewhere(running, "others are by themselves already", _NO_ROOM)
        # What may run only once was handed out to us, and would be to nobody else.
        if self._stopping and not running.options.at_most_once:
            raise self._elsewhere(running, "the worker is shutting down")
        self._environment.active(info.workflow_id or "", info.workflow_run_id or "")
        self._call_hooks("on_activity_start", running)
        self._remember(key)
        self._isolated += isolated
        try:
            outcome = await self._run(running, function, self._arguments(running, args), isolated)
        finally:
            self._isolated -= isolated
            self._environment.active(info.workflow_id or "", info.workflow_run_id or "")
        if outcome.status == "completed":
            self._call_hooks("on_activity_complete", running)
            return self._result(running, outcome)
        raise self._failure(running, outcome)

    def _opened(self, info: activity.Info, data: dict[str, Any], key: str) -> _Running:
        options, expires_at = options_now(data, info), None
        if options.total_timeout is not None:
            # Both moments are the server's: our clock may be another.
            left = options.total_timeout - (info.started_time - info.scheduled_time)
            expires_at = self._clock.now() + duration_ns(left)
        ledger = AttemptLedger.read(info.heartbeat_details)
        running = _Running(
            info=info,
            options=options,
            run_id=data.get("run") or info.workflow_run_id or "",
            activity_id=data.get("id") or info.activity_id,
            ledger=ledger.opened(info.attempt, data.get("max_crashes", 0), key in self._survived),
            ours=bool(data),
            expires_at=expires_at,
        )
        if info.heartbeat_details:
            running.details = codec.encode(info.heartbeat_details[0])
        return running

    def _is_to_be_isolated(
        self, running: _Running, function: Callable[..., Any], data: dict[str, Any]
    ) -> bool:
        """Whether one more death would be its last, and can be seen to be its own."""
        if not self._isolates or running.options.isolation == "process":
            return False
        if not is_suspect(running.ledger.crashes, data.get("max_crashes", 0)):
            return False
        return manner_of(function, running.options, isolates=True) == "isolated"

    def _remember(self, key: str) -> None:
        self._survived[key] = None
        if len(self._survived) > _REMEMBERED:
            self._survived.pop(next(iter(self._survived)))

    def _arguments(self, running: _Running, args: Sequence[RawValue]) -> str:
        try:
            return join([arg.payload for arg in args])
        except PayloadTypeError as error:
            failure = Failure(type(error).__name__, str(error), non_retryable=True)
            raise self._for_good(running, failure) from None

    # -- one attempt -----------------------------------------------------------------------------

    async def _run(
        self, running: _Running, function: Callable[..., Any], arguments: str, isolated: bool
    ) -> Outcome:
        number, info = next(self._numbers), running.info
        self._running[number] = running
        self._runner.start(
            AttemptSpec(
                run=number,
                seq=0,
                workflow_id=info.workflow_id or "",
                run_id=running.run_id,
                activity_id=running.activity_id,
                name=info.activity_type,
                function=function,
                arguments=arguments,
                options=running.options,
                attempt=info.attempt,
                expires_at=running.expires_at,
                heartbeat_details=json.loads(running.details),
                crashes=running.ledger.crashes if isolated else None,
            )
        )
        self._wake.set()
        try:
            return await self._supervise(running)
        except asyncio.CancelledError:
            self._runner.cancel(number, 0)
            raise
        finally:
            del self._running[number]

    async def _supervise(self, running: _Running) -> Outcome:
        """Report it alive, if it takes long, until it ends."""
        while True:
            await asyncio.wait([running.ended], timeout=PULSE_S)
            if running.ended.done():
                self._take_heartbeats()
                return running.ended.result()
            if running.ours:
                running.report()

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
                running.report()

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
        self._call_hooks("on_retry", running)
        if not running.ours:
            return RecordedFailure(
                failure, non_retryable=False, next_retry_delay=outcome.retry_after
            )
        running.ledger = running.ledger.failed(outcome, retry_at)
        running.report()
        delay = None
        if (
            outcome.retry_after is not None
            or options.retry.jitter
            or failures != running.info.attempt
        ):
            # What the server's own policy does not know; it counts deaths as well.
            delay = max(ns_duration(retry_at - self._clock.now()), _SHORTEST)
        return RecordedFailure(
            replace(failure, attempts=failures), non_retryable=False, next_retry_delay=delay
        )

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
        if running.ours:
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
