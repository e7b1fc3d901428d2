"""Running attempts of activities: on the loop, in threads, in child processes.

An attempt is started once and ends in one `Outcome`, handed to the engine. It can be stopped before
(timed out, cancelled, cut): what it returns after that is ignored. Deadlines are looked at by the
wall clock (`expire`), because the monotonic clock stands still while a laptop sleeps. Silence is
not: an attempt that could not report, because the process was stopped, has its whole
`heartbeat_timeout` again.

Not every failure is one. After a signal that ends the process (`interrupt`) an attempt that fails
was interrupted: a terminal and systemd send the signal to what it has started as well. So was one
whose task somebody else has cancelled, a few times.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from belugawf.authoring.activity import ActivityInfo, current_attempt
from belugawf.host import masking
from belugawf.host.border import is_interrupt, mark_as_users
from belugawf.host.calling import encode_result, failure_of, positional, whereabouts
from belugawf.host.children import IsolatedChild
from belugawf.host.clock import Clock
from belugawf.host.leaving import leave_fork
from belugawf.host.threads import DaemonPool
from belugawf.model import codec
from belugawf.model.durations import (
    duration_ns,
    format_duration,
    format_instant,
    ns_datetime,
    parse_duration,
)
from belugawf.model.errors import Failure
from belugawf.model.outcomes import Outcome, Status
from belugawf.model.policy import ActivityOptions
from belugawf.model.values import frozen

Key: TypeAlias = tuple[int, int]

# The attribute of an activity's function that says whether it is an `async def`.
_ASYNC = "__belugawf_async__"

# How long an attempt that was told to stop may take to do so when the process ends, in seconds.
_FAREWELL_S = 1.0
# How long it is until a thread is asked for again where the system gave none, in seconds.
_NO_THREAD_S = 1.0
# How long it may take until a signal that has ended a child of ours is known to us too, in seconds.
_SIGNAL_S = 0.05
# How often an attempt that somebody else cancels starts again before that is its failure.
_MAX_DISTURBANCES = 3


@frozen(kw_only=True)
class AttemptSpec:
    """One attempt of one activity: `run` and `seq` name it, `arguments` is a JSON array.

    `expires_at` is when its `total_timeout` is over, in nanoseconds since 1970, `None` for never.
    `crashes`: so often has its process died with it, and the next death is its failure for good; so
    it runs in a process of its own. `None`: nothing like that.
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
    crashes: int | None = None

    @property
    def key(self) -> Key:
        """What names it among the attempts in flight."""
        return (self.run, self.seq)

    @property
    def isolated(self) -> bool:
        """Whether it runs in a process of its own."""
        return self.options.isolation == "process" or self.crashes is not None


@dataclass(eq=False)
class Attempt:
    """An attempt in flight; what code inside it sees through `activity.info()` and so on."""

    spec: AttemptSpec
    started_at: int
    clock: Clock
    deadline: int | None = None
    limit: str = "total_timeout"
    stop: Callable[[], object] = lambda: None
    task: asyncio.Task[None] | None = None
    stopped: bool = False
    over: bool = False
    verdict: Outcome | None = None
    beats: dict[Key, str] = field(default_factory=dict)
    alive_at: int = 0
    seen_at: int = 0
    begun: bool = False

    def begin(self) -> None:
        """It starts now: its limits count from here, not from when it began to queue."""
        now = self.clock.now()
        self.started_at = self.alive_at = self.seen_at = now
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
        self.beat(codec.encode(details, what="heartbeat details"))

    def beat(self, text: str) -> None:
        """The same, with the details as JSON."""
        self.alive_at = self.clock.now()
        if not self.stopped:
            self.beats[self.spec.key] = text

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.stopped

    def overdue(self, now: int) -> str | None:
        """The limit that it has run over by now, `None` while it is within all, or has ended."""
        if self.over or self.verdict is not None:
            return None
        if self.deadline is not None and self.deadline <= now:
            return self.limit
        if self.begun and (silence := self._silence_ns()) is not None:
            if now - self.seen_at > silence / 2:
                self.alive_at = now  # nobody has looked as often as agreed: the process stood still
            self.seen_at = now
            if self.alive_at + silence <= now:
                return "heartbeat_timeout"
        return None

    def next_limit(self) -> int | None:
        """The next moment at which it may run over a limit."""
        if self.over or self.verdict is not None:
            return None
        moments = [] if self.deadline is None else [self.deadline]
        if self.begun and (silence := self._silence_ns()) is not None:
            moments.append(min(self.alive_at + silence, self.seen_at + silence // 4))
        return min(moments, default=None)

    def _silence_ns(self) -> int | None:
        silence = self.spec.options.heartbeat_timeout
        return None if silence is None else duration_ns(silence)


class AttemptRunner:
    """All attempts in flight in this process. Lives on the engine's loop.

    `deliver` is called on the loop with each outcome. `keep` are descriptors that are held until
    nothing is left of an isolated activity, so that its run is not taken over before.
    `began` is told when a queued attempt has found a thread, so that its limits are looked at.
    `ended_late` is told of a run for which something has ended at last that nobody waited for.
    Each attempt begins in a copy of `context`, by default an empty one.
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
        context: contextvars.Context | None = None,
    ) -> None:
        self._context = contextvars.Context() if context is None else context
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
        self._ending: Counter[int] = Counter()
        self._lingering: Counter[int] = Counter()
        self._late = threading.Lock()
        self._when_over: Callable[[], None] | None = None
        self._disturbances: Counter[tuple[str, str]] = Counter()
        self._interrupted = False
        self._process = os.getpid()
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

    def lingering(self) -> list[int]:
        """The runs for which threads still run, though nobody waits for them."""
        return list(self._lingering)

    def at_work(self, run: int) -> bool:
        """Whether anything still runs for that run: what was stopped may take its time."""
        return run in self._ending or bool(self.running(run))

    def is_ending(self, run: int) -> bool:
        """Whether something of that run was stopped, and has not come to its end."""
        return run in self._ending

    def interrupt(self) -> None:
        """A signal has come that ends this process: whatever fails from now on was interrupted.

        Not what may run only once: what it raised is all that is known of it.
        """
        self._interrupted = True

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
        context = self._context.copy()
        context.run(current_attempt.set, attempt)
        context.run(mark_as_users)
        if spec.isolated:
            attempt.begin()
            self._in_process(attempt)
        elif _is_async(spec.function):
            attempt.begin()
            self._on_loop(attempt, context)
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
            outcome = timed_out(attempt.spec, limit, at, attempt.started_at)
            if attempt.spec.isolated:
                # It can be ended, and the next attempt must not begin beside what is left of it.
                attempt.verdict = outcome
                attempt.stop()
            else:
                self._stop(attempt)
                self._deliver(outcome)

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
        """Stop everything now, or what runs for that run; each attempt ends as interrupted.

        What has ended by itself and waits to be delivered is delivered as it ended.
        """
        for attempt in self.all() if run is None else self.running(run):
            if attempt.over and attempt.verdict is not None:
                self._settle(attempt, attempt.verdict)
                continue
            self._stop(attempt)
            self._deliver(self._outcome(attempt, "interrupted", "null"))

    async def close(self) -> None:
        """Stop what is left, and give it a second to notice and clean up."""
        for attempt in self.all():
            self._stop(attempt)
        with contextlib.suppress(TimeoutError):  # it was told; a thread cannot be made to listen
            async with asyncio.timeout(_FAREWELL_S):
                while self._ending:
                    await asyncio.sleep(_FAREWELL_S / 100)
        if self._growing is not None:
            self._growing.cancel()
        self._pool.close()

    def when_over(self, callback: Callable[[], None]) -> None:
        """After `close`: call that as soon as nothing is at work any more, on whatever thread."""
        self._when_over = callback
        self._tell_over()

    def _tell_over(self) -> None:
        callback = self._when_over
        if callback is not None and not self._ending:
            self._when_over = None
            callback()

    # -- the life of an attempt ------------------------------------------------------------------

    def _stop(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.spec.key, None)
        attempt.stopped = True
        if not attempt.over:
            self._ending[attempt.spec.run] += 1
            attempt.stop()

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Its code has come to its end: deliver how, unless it was stopped before."""
        attempt.over = True
        if attempt.stopped:
            _count_down(self._ending, attempt.spec.run)
            self._ended_late(attempt.spec.run)
            self._tell_over()
            return
        outcome = attempt.verdict or outcome
        if outcome.status == "failed" and not self._interrupted and _has_had_children():
            # Perhaps by a signal that has reached a child of ours before us. Once more around the
            # loop: what comes in with the timer is handled after it.
            attempt.verdict = outcome
            loop = asyncio.get_running_loop()
            loop.call_later(_SIGNAL_S, loop.call_soon, self._settle, attempt, outcome)
        else:
            self._settle(attempt, outcome)

    def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        key = attempt.spec.key
        if self._attempts.get(key) is not attempt:
            return  # it was stopped meanwhile, or cut
        del self._attempts[key]
        if outcome.status == "failed" and self._was_interrupted(attempt):
            outcome = self._outcome(attempt, "interrupted", "null")
        elif self._disturbances:
            self._disturbances.pop(_name_of(attempt.spec), None)
        self._deliver(outcome)

    def _was_interrupted(self, attempt: Attempt) -> bool:
        """Whether an attempt that has failed did so for no reason of its own."""
        if self._interrupted and not attempt.spec.options.at_most_once:
            return True
        if attempt.task is None or not attempt.task.cancelling():
            return False
        name = _name_of(attempt.spec)
        self._disturbances[name] += 1
        return self._disturbances[name] <= _MAX_DISTURBANCES

    def _on_loop(self, attempt: Attempt, context: contextvars.Context) -> None:
        spec = attempt.spec

        async def work() -> None:
            try:
                arguments = positional(spec.function, spec.arguments, spec.name)
                value = await spec.function(*arguments)
                self._end_forks(None)
                outcome = self._completed(attempt, value)
            except BaseException as error:
                self._end_forks(error)
                if is_interrupt(error):
                    raise
                outcome = self._failed(attempt, error)
            task.remove_done_callback(never_ended)
            self._ended(attempt, outcome)

        def never_ended(task: asyncio.Task[None]) -> None:
            try:
                task.result()
            except BaseException as error:  # cancelled before it began, or Ctrl-C
                self._ended(attempt, self._failed(attempt, error))

        attempt.task = task = asyncio.get_running_loop().create_task(work(), context=context)
        task.add_done_callback(never_ended)
        attempt.stop = task.cancel

    def _in_thread(self, attempt: Attempt, context: contextvars.Context) -> None:
        spec = attempt.spec
        loop = asyncio.get_running_loop()

        def forsake() -> None:
            self._lingering[spec.run] += 1
            if not self._pool.forsake(job):
                self._grow_pool()

        def ended(outcome: Outcome) -> None:
            if attempt.stopped:
                _count_down(self._lingering, spec.run)
            self._ended(attempt, outcome)

        def job() -> None:
            self._end_on(loop, attempt, ended, call())

        def begun() -> None:
            self._mind(attempt)
            self._began()

        def call() -> Outcome:
            if attempt.stopped:
                return self._outcome(attempt, "interrupted", "null")
            try:
                attempt.begin()
                if attempt.next_limit() is not None:
                    _call_on(loop, begun)
                arguments = positional(spec.function, spec.arguments, spec.name)
                value = context.run(spec.function, *arguments)
                self._end_forks(None)
                return self._completed(attempt, value)
            except BaseException as error:
                self._end_forks(error)
                return self._failed(attempt, error)

        attempt.stop = forsake
        if not self._pool.submit(job):
            self._grow_pool()

    def _end_on(
        self,
        loop: asyncio.AbstractEventLoop,
        attempt: Attempt,
        ended: Callable[[Outcome], None],
        outcome: Outcome,
    ) -> None:
        """Tell the loop, from a thread, how it ended; where that is closed, who was left since."""
        if not _call_on(loop, ended, outcome) and attempt.stopped:
            with self._late:
                ended(outcome)

    def _end_forks(self, error: BaseException | None) -> None:
        """What an activity has forked must not come back to our loop, with our database."""
        if os.getpid() != self._process:
            leave_fork(error)

    def _grow_pool(self) -> None:
        """Try until there is a thread for what waits for one."""
        if self._growing is not None:
            self._growing.cancel()
            self._growing = None
        if not self._pool.grow():
            loop = asyncio.get_running_loop()
            self._growing = loop.call_later(_NO_THREAD_S, self._grow_pool)

    def _in_process(self, attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        child = IsolatedChild()

        def ended(outcome: Outcome) -> None:
            self._ended(attempt, outcome)

        def drive() -> None:
            try:
                outcome = self._drive_child(attempt, child)
            except BaseException as error:
                outcome = self._failed(attempt, error)
            self._end_on(loop, attempt, ended, outcome)

        attempt.stop = child.end
        try:
            threading.Thread(target=drive, name="belugawf-isolated", daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            loop.call_soon(self._ended, attempt, self._failed(attempt, error))

    def _drive_child(self, attempt: Attempt, child: IsolatedChild) -> Outcome:
        """How it ended, once nothing of it is left."""
        outcome = code = None
        for message in child.run(_task(attempt, self._payload_limit), self._keep()):
            if "heartbeat" in message:
                attempt.beat(message["heartbeat"])
            elif outcome is not None:
                continue
            elif "result" in message:
                outcome = self._outcome(attempt, "completed", message["result"])
            elif "failure" in message:
                outcome = self._failed_as(attempt, message["failure"], message["retry_after"])
            else:
                code = message["exit_code"]
        if outcome is not None:
            return outcome
        crashes = attempt.spec.crashes
        if attempt.spec.options.isolation == "none" and crashes is not None and code is not None:
            failure = died_with_it(crashes + 1)
            return self._failed_as(attempt, failure.to_json(), None)
        if code is None:
            died = "with the process that watches it"
        else:
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
        failure = Failure("ProcessDied", f"the child process of the activity died: {died}")
        return self._failed_as(attempt, failure.to_json(), None)

    # -- outcomes --------------------------------------------------------------------------------

    def _completed(self, attempt: Attempt, value: Any) -> Outcome:
        spec = attempt.spec
        text = encode_result(spec.function, value, spec.name, self._payload_limit)
        return self._outcome(attempt, "completed", text)

    def _failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        return self._failed_as(attempt, *failure_of(error))

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


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether it is an `async def`; kept with the function, which may be a run's own."""
    known: bool | None = getattr(function, _ASYNC, None)
    if known is None:
        known = inspect.iscoroutinefunction(function)
        with contextlib.suppress(AttributeError, TypeError):  # a bound method, a builtin
            setattr(function, _ASYNC, known)
    return known


def _name_of(spec: AttemptSpec) -> tuple[str, str]:
    """What names an activity through all its attempts."""
    return (spec.run_id, spec.activity_id)


def _count_down(counter: Counter[int], run: int) -> None:
    counter[run] -= 1
    if not counter[run]:
        del counter[run]


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: Any) -> bool:
    """Call that on the loop soon, from any thread; false where it is closed."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def _has_had_children() -> bool:
    """Whether this process has child processes, or had some: a signal may have ended one."""
    import resource  # where there are processes to speak of

    if resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:  # macOS before Python 3.13: it cannot be asked there
        return True
    return True


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


def died_with_it(times: int) -> Failure:
    """The failure of an activity that has taken its process down as often as it may."""
    return interrupted(f"its process died {times} times while it ran")


def interrupted(message: str) -> Failure:
    """The failure of an activity whose process ended in the middle of it, for good."""
    return Failure("Interrupted", message, non_retryable=True, kind="interrupted")


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


def _task(attempt: Attempt, limit: int) -> str:
    """The line that tells a child process what to run."""
    spec, info = attempt.spec, attempt.info
    return json.dumps(
        {
            "function": whereabouts(spec.function),
            "arguments": spec.arguments,
            "limit": limit,
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
