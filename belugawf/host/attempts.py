"""Running attempts of activities: on the loop, in threads, in child processes.

An attempt is started once and ends in one `Outcome`, handed to the engine. It can be stopped before
(timed out, cancelled, cut): what it returns after that is ignored. Deadlines are looked at by the
wall clock (`expire`), because the monotonic clock stands still while a laptop sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from belugawf.authoring.activity import ActivityInfo, current_attempt
from belugawf.authoring.failures import attribute, describe_failure
from belugawf.host import masking
from belugawf.host.calling import encode_result, positional
from belugawf.host.clock import Clock
from belugawf.host.threads import DaemonPool
from belugawf.model import codec
from belugawf.model.durations import (
    duration_ns,
    format_duration,
    format_instant,
    ns_datetime,
    parse_duration,
)
from belugawf.model.errors import DurationError, Failure
from belugawf.model.outcomes import Outcome, Status
from belugawf.model.policy import ActivityOptions
from belugawf.model.values import frozen

Key: TypeAlias = tuple[int, int]

# How long an attempt that was told to stop may take to do so when the process ends, in seconds.
_FAREWELL_S = 1.0
# How long it is until a thread is asked for again where the system gave none, in seconds.
_NO_THREAD_S = 1.0
# Results are one line; the limit of payloads is checked in the child, this one only bounds memory.
_CHILD_LINE_LIMIT = 64 * 1024 * 1024
# The child finds modules just where we do.
_CHILD = (
    "import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; "
    "from belugawf.host.isolated import main; main()"
)


@frozen(kw_only=True)
class AttemptSpec:
    """One attempt of one activity: `run` and `seq` name it, `arguments` is a JSON array.

    `expires_at` is when its `total_timeout` is over, in nanoseconds since 1970, `None` for never.
    """

    run: int
    seq: int
    workflow_id: str
    run_id: str
    activity_id: str
    name: str
    function: Callable[..., Any]
    arguments: str
    options: ActivityOptions
    attempt: int
    expires_at: int | None
    heartbeat_details: Any = None

    @property
    def key(self) -> Key:
        """What names it among the attempts in flight."""
        return (self.run, self.seq)


@dataclass(eq=False)
class Attempt:
    """An attempt in flight; what code inside it sees through `activity.info()` and so on."""

    spec: AttemptSpec
    started_at: int
    clock: Clock
    deadline: int | None = None
    limit: str = "total_timeout"
    stop: Callable[[], None] = lambda: None
    task: asyncio.Task[None] | None = None
    stopped: bool = False
    over: bool = False
    beats: dict[Key, str] = field(default_factory=dict)
    alive_at: int = 0
    begun: bool = False

    def begin(self) -> None:
        """It starts now: its limits count from here, not from when it began to queue."""
        now = self.clock.now()
        self.started_at = self.alive_at = now
        options, expires_at = self.spec.options, self.spec.expires_at
        self.deadline, self.limit = expires_at, "total_timeout"
        if options.timeout is not None:
            end = now + duration_ns(options.timeout)
            if expires_at is None or end < expires_at:
                self.deadline, self.limit = end, "timeout"
        self.begun = True

    @property
    def info(self) -> ActivityInfo:
        """What the code inside may know of it."""
        spec = self.spec
        return ActivityInfo(
            workflow_id=spec.workflow_id,
            run_id=spec.run_id,
            activity_id=spec.activity_id,
            activity=spec.name,
            attempt=spec.attempt,
            idempotency_key=f"{spec.run_id}:{spec.activity_id}",
            deadline=None if self.deadline is None else ns_datetime(self.deadline),
            heartbeat_details=spec.heartbeat_details,
        )

    def heartbeat(self, details: Any) -> None:
        """Told by the activity, on any thread: it lives; `details` go to the next attempt."""
        text = codec.encode(details, what="heartbeat details")
        self.alive_at = self.clock.now()
        if not self.stopped:
            self.beats[self.spec.key] = text

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.stopped

    def overdue(self, now: int) -> str | None:
        """The limit that it has run over by now, `None` while it is within all."""
        if self.deadline is not None and self.deadline <= now:
            return self.limit
        silence = self.spec.options.heartbeat_timeout
        if self.begun and silence is not None and self.alive_at + duration_ns(silence) <= now:
            return "heartbeat_timeout"
        return None

    def next_limit(self) -> int | None:
        """The next moment at which it may run over a limit."""
        moments = [] if self.deadline is None else [self.deadline]
        silence = self.spec.options.heartbeat_timeout
        if self.begun and silence is not None:
            moments.append(self.alive_at + duration_ns(silence))
        return min(moments, default=None)


class AttemptRunner:
    """All attempts in flight in this process. Lives on the engine's loop.

    `deliver` is called on the loop with each outcome. `keep` are descriptors that child processes
    hold while they live, so that a run is not taken over before its isolated activity is gone.
    `began` is told when a queued attempt has found a thread, so that its limits are looked at.
    `ended_late` is told of a run for which something has ended at last that nobody waited for.
    """

    def __init__(
        self,
        deliver: Callable[[Outcome], None],
        clock: Clock,
        *,
        threads: int,
        payload_limit: int,
        keep: Callable[[], tuple[int, ...]] = tuple,
        ended_late: Callable[[int], None] = lambda run: None,
        began: Callable[[], None] = lambda: None,
    ) -> None:
        self._began = began
        self._ended_late = ended_late
        self._deliver = deliver
        self._clock = clock
        self._payload_limit = payload_limit
        self._keep = keep
        self._pool = DaemonPool(threads)
        self._growing: asyncio.TimerHandle | None = None
        self._attempts: dict[Key, Attempt] = {}
        self._beats: dict[Key, str] = {}
        self._lingering: dict[int, int] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._next_limit: int | None = None

    # -- what the engine asks --------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many attempts are in flight."""
        return len(self._attempts)

    def running(self, run: int) -> list[Attempt]:
        """The attempts of one run."""
        return [a for a in self._attempts.values() if a.spec.run == run]

    def all(self) -> list[Attempt]:
        """All attempts in flight."""
        return list(self._attempts.values())

    def lingers(self, run: int) -> bool:
        """Whether a thread still runs for that run, though nobody waits for it."""
        return run in self._lingering

    def at_work(self, run: int) -> bool:
        """Whether anything still runs for that run: what was stopped may take its time."""
        return self.lingers(run) or run in self._tasks.values()

    def take_heartbeats(self) -> list[tuple[int, int, str]]:
        """What attempts reported since the last call: (run, seq, JSON) each."""
        beats, waiting = [], self._beats
        while waiting:
            (run, seq), text = waiting.popitem()
            beats.append((run, seq, text))
        return beats

    def put_back_heartbeats(self, beats: Sequence[tuple[int, int, str]]) -> None:
        """They could not be saved: they are taken the next time, unless there are newer ones."""
        for run, seq, text in beats:
            self._beats.setdefault((run, seq), text)

    def next_limit(self) -> int | None:
        """The next moment at which `expire` may have to do something; perhaps too early."""
        return self._next_limit

    def _mind(self, attempt: Attempt) -> None:
        """Its limits are looked at in time."""
        limit = attempt.next_limit()
        if limit is not None and (self._next_limit is None or limit < self._next_limit):
            self._next_limit = limit

    def start(self, spec: AttemptSpec) -> None:
        """Start an attempt; its outcome is delivered later, never from within this call."""
        attempt = Attempt(
            spec=spec,
            started_at=self._clock.now(),
            clock=self._clock,
            deadline=spec.expires_at,
            beats=self._beats,
        )
        self._attempts[spec.key] = attempt
        context = contextvars.copy_context()
        context.run(current_attempt.set, attempt)
        if spec.options.isolation == "process":
            attempt.begin()
            self._start_task(attempt, self._in_process(attempt), context)
        elif _is_async(spec.function):
            attempt.begin()
            self._start_task(attempt, self._on_loop(attempt), context)
        else:
            self._in_thread(attempt, context)
        self._mind(attempt)

    def expire(self, now: int) -> None:
        """Stop the attempts that ran over a limit, and deliver that outcome."""
        if self._next_limit is None or now < self._next_limit:
            return
        self._next_limit = None
        for attempt in list(self._attempts.values()):
            limit = attempt.overdue(now)
            if limit is None:
                self._mind(attempt)
                continue
            at = now if limit == "heartbeat_timeout" else attempt.deadline or now
            self._stop(attempt)
            self._deliver(timed_out(attempt.spec, limit, at, attempt.started_at))

    def cancel(self, run: int, seq: int) -> None:
        """Nobody waits for it any more: tell it, and forget what it will return."""
        attempt = self._attempts.get((run, seq))
        if attempt is not None:
            self._stop(attempt)

    def cancel_run(self, run: int) -> None:
        """The same for all attempts of a run."""
        for attempt in self.running(run):
            self._stop(attempt)

    def cut(self, run: int | None = None) -> None:
        """Stop everything now, or what runs for that run; each attempt ends as interrupted."""
        for attempt in self.all() if run is None else self.running(run):
            self._stop(attempt)
            spec = attempt.spec
            self._deliver(
                Outcome(
                    run=spec.run,
                    seq=spec.seq,
                    attempt=spec.attempt,
                    status="interrupted",
                    at=self._clock.now(),
                    started_at=attempt.started_at,
                )
            )

    async def close(self) -> None:
        """Stop what is left, and give it a second to notice and clean up."""
        for attempt in self.all():
            self._stop(attempt)
        try:
            async with asyncio.timeout(_FAREWELL_S):
                if self._tasks:
                    await asyncio.wait(self._tasks)
                while self._lingering:
                    await asyncio.sleep(_FAREWELL_S / 100)
        except TimeoutError:
            pass  # it was told; a thread cannot be made to listen
        if self._growing is not None:
            self._growing.cancel()
        self._pool.close()

    # -- the life of an attempt ------------------------------------------------------------------

    def _start_task(self, attempt: Attempt, work: Any, context: contextvars.Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks[task] = run = attempt.spec.run
        attempt.task = task

        def over(_: object) -> None:
            self._tasks.pop(task, None)  # it may have ended before it began
            self._ended_late(run)

        def stop() -> None:
            task.add_done_callback(over)
            task.cancel()

        attempt.stop = stop

    def _stop(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.spec.key, None)
        if not attempt.over:
            attempt.stopped = True
            attempt.stop()

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.over = True
        if attempt.task is not None:
            self._tasks.pop(attempt.task, None)
        if not attempt.stopped:
            self._attempts.pop(attempt.spec.key, None)
            self._deliver(outcome)

    async def _on_loop(self, attempt: Attempt) -> None:
        spec = attempt.spec
        try:
            arguments = positional(spec.function, spec.arguments, spec.name)
            value = await spec.function(*arguments)
            outcome = self._completed(attempt, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            outcome = self._failed(attempt, error)
        self._finish(attempt, outcome)

    def _in_thread(self, attempt: Attempt, context: contextvars.Context) -> None:
        spec = attempt.spec
        loop = asyncio.get_running_loop()

        def forsake() -> None:
            self._lingering[spec.run] = self._lingering.get(spec.run, 0) + 1
            if not self._pool.forsake(job):
                self._grow_pool()

        def ended(outcome: Outcome | None) -> None:
            if attempt.stopped:
                self._lingers_no_more(spec.run)
            elif outcome is not None:
                self._finish(attempt, outcome)

        def job() -> None:
            outcome = None if attempt.stopped else call()
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended, outcome)

        def begun() -> None:
            self._mind(attempt)
            self._began()

        def call() -> Outcome:
            attempt.begin()
            if attempt.next_limit() is not None:
                with contextlib.suppress(RuntimeError):  # nobody looks: the loop is closed
                    loop.call_soon_threadsafe(begun)
            try:
                arguments = positional(spec.function, spec.arguments, spec.name)
                return self._completed(attempt, context.run(spec.function, *arguments))
            except BaseException as error:
                return self._failed(attempt, error)

        attempt.stop = forsake
        if not self._pool.submit(job):
            self._grow_pool()

    def _lingers_no_more(self, run: int) -> None:
        left = self._lingering.pop(run) - 1
        if left:
            self._lingering[run] = left
        self._ended_late(run)

    def _grow_pool(self) -> None:
        """Try until there is a thread for what waits for one."""
        if self._growing is not None:
            self._growing.cancel()
            self._growing = None
        if not self._pool.grow():
            loop = asyncio.get_running_loop()
            self._growing = loop.call_later(_NO_THREAD_S, self._grow_pool)

    async def _in_process(self, attempt: Attempt) -> None:
        try:
            outcome = await self._run_child(attempt)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            outcome = self._failed(attempt, error)
        self._finish(attempt, outcome)

    async def _run_child(self, attempt: Attempt) -> Outcome:
        keep = self._keep()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            # Not the folder that we happen to be in: a `json.py` there would be the child's json.
            "-P",
            "-c",
            _CHILD,
            *sys.path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=keep,
            limit=_CHILD_LINE_LIMIT,
        )
        assert child.stdin is not None
        try:
            child.stdin.write(_task(attempt, keep, self._payload_limit).encode() + b"\n")
            outcome = await self._hear(attempt, child)
            # It ends by itself. Killing one that has just ended would take its exit code from
            # asyncio, which then warns on stderr.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await child.wait()
            return outcome
        finally:
            if child.returncode is None:
                child.kill()
            await asyncio.shield(child.wait())

    async def _hear(self, attempt: Attempt, child: asyncio.subprocess.Process) -> Outcome:
        """What the child says, until it has told its outcome or is gone."""
        assert child.stdout is not None
        while line := await child.stdout.readline():
            message = json.loads(line)
            if "heartbeat" in message:
                attempt.heartbeat(message["heartbeat"])
            elif "result" in message:
                return self._outcome(attempt, "completed", message["result"])
            else:
                return self._failed_as(attempt, message["failure"], message["retry_after"])
        code = await child.wait()
        died = f"signal {-code}" if code < 0 else f"exit code {code}"
        failure = Failure("ProcessDied", f"the child process of the activity died: {died}")
        return self._failed_as(attempt, failure.to_json(), None)

    # -- outcomes --------------------------------------------------------------------------------

    def _completed(self, attempt: Attempt, value: Any) -> Outcome:
        spec = attempt.spec
        text = encode_result(spec.function, value, spec.name, self._payload_limit)
        return self._outcome(attempt, "completed", text)

    def _failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        return self._failed_as(attempt, describe_failure(error).to_json(), wished_delay(error))

    def _failed_as(
        self, attempt: Attempt, failure: dict[str, Any], retry_after: str | None
    ) -> Outcome:
        return self._outcome(
            attempt,
            "failed",
            codec.encode(failure),
            error_type=failure["type"],
            non_retryable=failure.get("non_retryable", False),
            retry_after=None if retry_after is None else parse_duration(retry_after),
        )

    def _outcome(self, attempt: Attempt, status: Status, payload: str, **more: Any) -> Outcome:
        spec = attempt.spec
        return Outcome(
            run=spec.run,
            seq=spec.seq,
            attempt=spec.attempt,
            status=status,
            at=self._clock.now(),
            started_at=attempt.started_at,
            payload=payload,
            **more,
        )


@cache  # as those of `annotations_of`
def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def wished_delay(error: BaseException) -> str | None:
    """The delay that an exception asks for as `retry_after`, as text.

    `None` where it has none, or one that is no duration: exceptions of libraries have such too.
    """
    wish = attribute(error, "retry_after")
    try:
        return None if wish is None else format_duration(parse_duration(wish))
    except DurationError:
        return None


def next_attempt_at(
    outcome: Outcome, options: ActivityOptions, failures: int, chance: float
) -> int | None:
    """When the attempt after the `failures`-th failure (from 1) is due; `None`: there is none.

    `chance` (0 to 1) places it within the policy's jitter.
    """
    retry = options.retry
    last = outcome.non_retryable or outcome.limit == "total_timeout"
    if last or not retry.allows_another(failures, outcome.error_type):
        return None
    wished = outcome.retry_after
    delay = retry.delay_after(failures, chance) if wished is None else wished
    return outcome.at + duration_ns(delay)


def out_of_time(outcome: Outcome, options: ActivityOptions) -> Outcome:
    """That outcome, where the next attempt would start after `total_timeout`: it is over now."""
    error = codec.parse_json(outcome.payload)
    return replace(
        outcome,
        status="timed_out",
        payload=total_timeout_over(options, f"{error['type']}: {error['message']}"),
        error_type="TimeoutError",
        limit="total_timeout",
    )


def total_timeout_over(options: ActivityOptions, last_error: str | None) -> str:
    """The failure's JSON text where `total_timeout` is over; `last_error` is for people."""
    assert options.total_timeout is not None
    message = f"total_timeout of {format_duration(options.total_timeout)} is over"
    if last_error:
        message += f"; the last error was {last_error}"
    return codec.encode(Failure("TimeoutError", message, kind="timeout").to_json())


def timed_out(spec: AttemptSpec, limit: str, at: int, started_at: int) -> Outcome:
    """The outcome of an attempt that ran over the limit of that name."""
    duration = getattr(spec.options, limit)
    failure = Failure(
        "TimeoutError", f"{limit} of {format_duration(duration)} is over", kind="timeout"
    )
    return Outcome(
        run=spec.run,
        seq=spec.seq,
        attempt=spec.attempt,
        status="timed_out",
        at=at,
        started_at=started_at,
        payload=codec.encode(failure.to_json()),
        error_type="TimeoutError",
        limit=limit,
    )


def _task(attempt: Attempt, keep: tuple[int, ...], limit: int) -> str:
    """The line that tells a child process what to run."""
    spec, info = attempt.spec, attempt.info
    return json.dumps(
        {
            "file": str(Path(spec.function.__code__.co_filename).resolve()),
            "qualname": spec.function.__qualname__,
            "arguments": spec.arguments,
            "limit": limit,
            "keep": list(keep),
            "redact": masking.patterns(),
            "info": {
                "workflow_id": info.workflow_id,
                "run_id": info.run_id,
                "activity_id": info.activity_id,
                "activity": info.activity,
                "attempt": info.attempt,
                "idempotency_key": info.idempotency_key,
                "deadline": None if attempt.deadline is None else format_instant(attempt.deadline),
                "heartbeat_details": info.heartbeat_details,
            },
        }
    )
