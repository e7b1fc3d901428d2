"""One attempt of one activity, as three things with three lives.

`AttemptSpec` is what is asked for. `Attempt` is what is in flight: how far it is, and which limit
it has run over. `Outcome` (`model/outcomes.py`) is how it ended: a value of its own, because it is
made on the attempt's thread, waits in an inbox for another process, and exists without an attempt
for a death, and for a `total_timeout` that passes between two attempts.

Deadlines are looked at by the wall clock, because the monotonic clock stands still while a laptop
sleeps. Silence is not: an attempt that could not report, because the process was stopped, has its
whole `heartbeat_timeout` again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from belugawf.authoring.activity import ActivityInfo
from belugawf.host.calling import failure_of
from belugawf.host.clock import Clock
from belugawf.host.logs import LineBuffer, mark
from belugawf.model import codec
from belugawf.model.durations import duration_ns, format_duration, ns_datetime, parse_duration
from belugawf.model.errors import Failure
from belugawf.model.outcomes import Outcome, Status
from belugawf.model.policy import ActivityOptions
from belugawf.model.values import frozen

Key: TypeAlias = tuple[int, int]


@frozen(kw_only=True)
class AttemptSpec:
    """One attempt of one activity: `run` and `seq` name it, `arguments` is a JSON array.

    `expires_at` is when its `total_timeout` is over, in nanoseconds since 1970, `None` for never.
    `crashes`: so often has its process died with it, and the next death is its failure for good; so
    it runs in a process of its own. `None`: nothing like that. `named_key`: its idempotency key has
    its name, as a run that is taken up again may ask for another activity in the same place.
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
    named_key: bool = True

    @property
    def key(self) -> Key:
        """What names it among the attempts in flight."""
        return (self.run, self.seq)

    @property
    def isolated(self) -> bool:
        """Whether it runs in a process of its own."""
        return self.options.isolation == "process" or self.crashes is not None


class Reports(dict[Key, str]):
    """What attempts have reported last, as JSON of at most `limit` bytes.

    `lines` is where what they log is kept, `None` for nowhere.
    """

    def __init__(self, limit: int, lines: LineBuffer | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.lines = lines


class Attempt:
    """An attempt in flight; what code inside it sees through `activity.info()` and so on.

    Its thread says when it has begun, the loop writes `stopped`, `over` and `verdict`: so they are
    not one phase. `stopped`: nobody waits for it any more. `over`: its code has ended. `verdict`:
    how it will have ended, once that is known. `task` is its code's, if that runs on the loop.
    """

    def __init__(self, spec: AttemptSpec, clock: Clock, reports: Reports) -> None:
        self.spec = spec
        self._clock = clock
        self._reports = reports
        self._stop: Callable[[], object] = lambda: None
        self.task: asyncio.Task[None] | None = None
        self.started_at = self._alive_at = self._seen_at = clock.now()
        self._begun = self.stopped = self.over = False
        self.verdict: Outcome | None = None
        self.deadline = spec.expires_at
        self._limit = "total_timeout"
        silence = spec.options.heartbeat_timeout
        self._silence_ns = None if silence is None else duration_ns(silence)

    def started(self, stop: Callable[[], object], task: asyncio.Task[None] | None = None) -> None:
        """Its code runs, or queues for a thread; `stop` tells it to end."""
        self._stop, self.task = stop, task

    def begin(self, *, queued: bool = False) -> None:
        """It starts now: its limits count from here, not from when it began to queue."""
        now = self._clock.now() if queued else self.started_at
        timeout = self.spec.options.timeout
        self.started_at = self._alive_at = self._seen_at = now
        if timeout is not None:
            end = now + duration_ns(timeout)
            if self.deadline is None or end < self.deadline:
                self.deadline, self._limit = end, "timeout"
        self._begun = True

    @property
    def info(self) -> ActivityInfo:
        """What the code inside may know of it."""
        spec = self.spec
        name = f"{spec.name}:" if spec.named_key else ""
        return ActivityInfo(
            workflow_id=spec.workflow_id,
            run_id=spec.run_id,
            activity_id=spec.activity_id,
            activity=spec.name,
            attempt=spec.attempt,
            idempotency_key=f"{spec.run_id}:{name}{spec.activity_id}",
            deadline=None if self.deadline is None else ns_datetime(self.deadline),
            heartbeat_details=spec.heartbeat_details,
        )

    def heartbeat(self, details: Any) -> None:
        """Told by the activity, on any thread: it lives; `details` go to the next attempt."""
        limit = self._reports.limit
        self.beat(codec.encode(details, what="heartbeat details", limit=limit))

    def beat(self, text: str) -> None:
        """The same, with the details as JSON."""
        self._alive_at = self._clock.now()
        if not self.stopped:
            self._reports[self.spec.key] = text

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.stopped

    def log(self, record: logging.LogRecord, logger: logging.Logger) -> bool:
        """Logged by the activity, on any thread: marked and kept. Others show it."""
        spec, lines = self.spec, self._reports.lines
        mark(record, spec.workflow_id, spec.run_id, spec.name, spec.attempt)
        if lines is not None:
            lines.add(record, spec.run, spec.seq, spec.name, spec.attempt)
        return False

    def overdue(self, now: int) -> str | None:
        """The limit that it has run over by now, `None` while it is within all, or has ended."""
        if self.verdict is not None:
            return None
        if self.deadline is not None and self.deadline <= now:
            return self._limit
        if self._begun and (silence := self._silence_ns) is not None:
            if now - self._seen_at > silence / 2:
                # Nobody has looked as often as agreed: the process stood still.
                self._alive_at = now
            self._seen_at = now
            if self._alive_at + silence <= now:
                return "heartbeat_timeout"
        return None

    def next_limit(self) -> int | None:
        """The next moment at which it may run over a limit."""
        silence = self._silence_ns
        if self.verdict is not None or (self.deadline is None and silence is None):
            return None
        moments = [] if self.deadline is None else [self.deadline]
        if self._begun and silence is not None:
            moments.append(min(self._alive_at + silence, self._seen_at + silence // 4))
        return min(moments, default=None)

    # -- how it ends -----------------------------------------------------------------------------

    def abandon(self) -> None:
        """Nobody waits for it any more: it is told to stop."""
        self.stopped = True
        if not self.over:
            self._stop()

    def condemn(self, verdict: Outcome) -> None:
        """That will be its outcome, once nothing is left of it: it is told to stop."""
        self.verdict = verdict
        self._stop()

    def end(self, outcome: Outcome) -> Outcome:
        """Its code has come to its end; how the attempt ended."""
        self.over = True
        self.verdict = self.verdict or outcome
        return self.verdict

    def ended(self, status: Status, at: int | None = None, **more: Any) -> Outcome:
        """It as an outcome of now, or of `at`; `more` are further fields."""
        spec = self.spec
        return Outcome(
            run=spec.run,
            seq=spec.seq,
            attempt=spec.attempt,
            status=status,
            at=self._clock.now() if at is None else at,
            started_at=self.started_at,
            **more,
        )

    def failed(self, error: BaseException) -> Outcome:
        """It has failed with this exception, which is the user's."""
        return self.failed_as(*failure_of(error, self.spec.options.retry.non_retryable))

    def failed_as(self, failure: Failure, retry_after: str | None = None) -> Outcome:
        """The same, with the failure, and the delay that it asks for as text."""
        delay = None if retry_after is None else parse_duration(retry_after)
        return self.ended("failed", failure=failure, retry_after=delay)

    def timed_out(self, limit: str, now: int) -> Outcome:
        """It has run over the limit of that name."""
        duration = format_duration(getattr(self.spec.options, limit))
        failure = Failure("TimeoutError", f"{limit} of {duration} is over", kind="timeout")
        return self.ended(
            "timed_out",
            failure=failure,
            at=now if limit == "heartbeat_timeout" else self.deadline or now,
            limit=limit,
        )
