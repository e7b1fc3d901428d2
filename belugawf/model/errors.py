"""Every exception of belugawf.

The type says whose fault it is, and `exit_code` what a script is told::

    BelugaError                      root; never raised itself
    ├── UsageError              2    the caller passed something that does not fit
    │   ├── DurationError       2    ... as a duration (also a ValueError)
    │   ├── PayloadTypeError    2    ... JSON that does not fit the declared type
    │   ├── PayloadEncodeError  2    ... a value that JSON cannot hold
    │   └── PayloadTooLargeError 2   ... more bytes than `payload_limit`
    ├── RefusedError            9    understood, and not possible now
    │   ├── AlreadyExistsError  9
    │   ├── RunEndedError       9
    │   └── AmbiguousRunError   9
    ├── NotFoundError          10
    │   ├── RunNotFoundError   10
    │   ├── WorkflowNotFoundError 10
    │   ├── SignalNotAwaitedError 10
    │   └── QueryNotFoundError 10
    │       └── QueryFailedError 3   the workflow's own function raised
    ├── BusyError              11    another live process holds it
    ├── UnavailableError       12    the environment: disk, server, missing extra
    │   ├── DamagedError       12    stored data that belugawf cannot have written
    │   └── DisplacedError     12    a file in use was removed or replaced: no way to go on
    ├── ConfigurationError     14    .belugawf.yaml
    │   ├── UntrustedError     14    found, and another user's or writable for others
    │   └── WorkflowLoadError  14    a workflow module
    ├── NondeterminismError    13    the code no longer matches the history
    ├── TurnError              13    a turn that cannot be taken: the run gets a problem
    │   └── CodeError          13    the workflow's code raised what says that it is wrong
    ├── OutcomeError                 how a run ended, raised by `handle.result()`
    │   ├── WorkflowFailedError  3
    │   ├── WorkflowCancelledError 4
    │   ├── WorkflowTerminatedError 4
    │   ├── WorkflowTimedOutError 5
    │   ├── RunParkedError     13    it has not ended: it waits for its code to be mended
    │   └── NotFinishedError    8
    ├── WaitExpiredError      124    `max_wait` passed; the run goes on
    ├── WorkflowCodeError       3    workflow code did what only an activity may do
    └── DurableError                 what workflow code may catch
        ├── ApplicationError         raised by activities, or the cause of an ActivityError
        ├── ActivityError
        │   ├── ActivityTimeoutError
        │   ├── ActivityCancelledError
        │   └── ActivityInterruptedError
        ├── ChildWorkflowError
        └── SignalTimeoutError       (also a TimeoutError)

    RunEvicted (BaseException)       control flow: user code must not swallow it
    CodeInterrupted (BaseException)  the same: it takes too long
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from belugawf.model.values import frozen


class BelugaError(Exception):
    """Root of all errors: `code` for scripts, `exit_code` for shells, `hint` what to do next."""

    code: ClassVar[str] = "internal"
    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # for tracebacks

    def locate(self, location: str) -> None:
        """Add the line of whoever is at fault, as "file:line", to the message."""
        self.message += f" ({location})"
        Exception.__init__(self, self.message)


class UsageError(BelugaError):
    """The caller passed something that does not fit."""

    code = "usage"
    exit_code = 2


class DurationError(UsageError, ValueError):
    """A text, number or YAML value that isn't a duration."""

    code = "bad_duration"


class PayloadTypeError(UsageError, TypeError):
    """JSON that does not fit the declared type; `path` leads to the value."""

    code = "payload_type"

    def __init__(self, path: str, expected: str, found: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}", hint=hint)
        self.path = path
        self.expected = expected
        self.found = found


class PayloadEncodeError(UsageError, TypeError):
    """A value that has no JSON form; `path` leads to it."""

    code = "payload_encode"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class PayloadTooLargeError(UsageError):
    """A payload of `size` bytes where at most `limit` bytes are allowed."""

    code = "payload_too_large"

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(
            f"{what} is {size:,} bytes, over the limit of {limit:,} bytes",
            hint="store large data in a file and pass its name, or raise payload_limit",
        )
        self.size = size
        self.limit = limit


class RefusedError(BelugaError):
    """Understood, and not possible in the present state."""

    code = "refused"
    exit_code = 9


class AlreadyExistsError(RefusedError):
    """A run with this workflow id is stored already."""

    code = "already_exists"


class RunEndedError(RefusedError):
    """The run has ended and takes no more messages."""

    code = "run_ended"


class AmbiguousRunError(RefusedError):
    """Several runs match; `candidates` are their workflow ids."""

    code = "ambiguous"

    def __init__(self, message: str, candidates: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)


class NotFoundError(BelugaError):
    """A name that nothing has."""

    code = "not_found"
    exit_code = 10


class RunNotFoundError(NotFoundError):
    code = "run_not_found"


class WorkflowNotFoundError(NotFoundError):
    code = "workflow_not_found"


class SignalNotAwaitedError(NotFoundError):
    code = "signal_not_awaited"


class QueryNotFoundError(NotFoundError):
    code = "query_not_found"


class QueryFailedError(QueryNotFoundError):
    """The workflow's own query function raised."""

    code = "query_failed"
    exit_code = 3


class BusyError(BelugaError):
    """Another live process holds the database or the run."""

    code = "busy"
    exit_code = 11


class UnavailableError(BelugaError):
    """The environment does not allow it: disk, permissions, server, missing extra."""

    code = "unavailable"
    exit_code = 12


class DamagedError(UnavailableError):
    """The database holds what belugawf cannot have written: edited by hand, or damaged."""

    code = "damaged"


class DisplacedError(UnavailableError):
    """The database, or a lock, was removed or replaced in use: the executor has to be left."""

    code = "displaced"


class ConfigurationError(BelugaError):
    """`.belugawf.yaml`, the environment or an argument of `new_executor` is wrong."""

    code = "configuration"
    exit_code = 14


class UntrustedError(ConfigurationError):
    """What was found, not named, belongs to another user, or others can change it."""

    code = "untrusted"


class WorkflowLoadError(ConfigurationError):
    """A workflow module does not import, or two of them claim one name."""

    code = "workflow_load"


class TurnError(BelugaError):
    """A turn that cannot be taken. Nothing is recorded; the run is marked with this problem."""

    code = "turn"
    exit_code = 13


class NondeterminismError(TurnError):
    """The code asks for something else than the history records.

    `position` is the event's number (from 1), `recorded` and `requested` describe both sides,
    `location` is "file:line" in the workflow that asks, `None` when nothing is asked.
    """

    code = "nondeterminism"

    def __init__(
        self, *, position: int, recorded: str, requested: str, location: str | None, cause: str
    ) -> None:
        where = f" at {location}" if location else ""
        super().__init__(
            f"the code no longer matches the history: event {position} recorded {recorded}, "
            f"but the code now asks for {requested}{where}",
            hint=cause,
        )
        self.position = position
        self.recorded = recorded
        self.requested = requested
        self.location = location
        self.cause = cause


class WorkflowBlockedError(TurnError):
    """A turn used up one of its limits: 2 s, 100,000 callbacks, 1,000 empty timers."""

    code = "workflow_blocked"


class CodeError(TurnError):
    """The workflow's code raised what says that the code is wrong: a NameError, a TypeError ...

    Such a run is not over: it goes on from where it was once its code is mended. `traceback` is
    text, cut to the author's frames.
    """

    code = "code_error"

    def __init__(self, message: str, *, traceback: str | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback


class WorkflowCodeError(BelugaError):
    """Workflow code did what only an activity may do: sockets, threads, subprocesses."""

    code = "workflow_code"
    exit_code = 3


# The type of the failure of an isolated activity whose process has died.
PROCESS_DIED = "ProcessDied"


@frozen()
class Failure:
    """An exception as data: stored in histories, shown to people, rebuilt for workflow code.

    `type` is the class's name, `traceback` text without locals, `None` when there is none.
    `activity` names the activity that failed, `None` for the workflow's own exceptions.
    `kind` is "application", "timeout", "interrupted" or "cancelled". `seqs` are the numbers of the
    activities whose failures left the workflow's code.
    """

    type: str
    message: str
    traceback: str | None = None
    non_retryable: bool = False
    activity: str | None = None
    attempts: int | None = None
    kind: str = "application"
    seqs: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The failure as JSON object; fields that say nothing are left out."""
        data = {
            "type": self.type,
            "message": self.message,
            "kind": None if self.kind == "application" else self.kind,
            "activity": self.activity,
            "attempts": self.attempts,
            "non_retryable": self.non_retryable or None,
            "seqs": list(self.seqs) or None,
            "traceback": self.traceback or None,
        }
        return {name: value for name, value in data.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        """The inverse of `to_json`; unknown keys are ignored."""
        return cls(
            type=str(data.get("type", "Exception")),
            message=str(data.get("message", "")),
            traceback=data.get("traceback"),
            non_retryable=bool(data.get("non_retryable", False)),
            activity=data.get("activity"),
            attempts=data.get("attempts"),
            kind=str(data.get("kind", "application")),
            seqs=tuple(data.get("seqs", ())),
        )


class DurableError(BelugaError):
    """What workflow code may meet and catch."""

    code = "durable"
    exit_code = 3


class ApplicationError(DurableError):
    """Raised by an activity to steer retries; in a workflow the `cause` of an ActivityError.

    `type` is the name that `RetryPolicy.non_retryable` is compared with; it defaults to
    "ApplicationError". `non_retryable=True` ends the attempts. `retry_after` (a duration)
    replaces the policy's next delay.
    """

    code = "application"

    def __init__(
        self,
        message: str = "",
        *,
        type: str | None = None,
        non_retryable: bool = False,
        retry_after: timedelta | float | str | None = None,
        traceback: str | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type or "ApplicationError"
        self.non_retryable = non_retryable
        self.retry_after = retry_after
        self.traceback = traceback


class ActivityError(DurableError):
    """An activity did not return. `cause` holds the original type's name, message, traceback."""

    code = "activity_failed"
    verb: ClassVar[str] = "failed"
    seq: int | None = None

    def __init__(self, activity: str, attempts: int, cause: ApplicationError) -> None:
        times = "once" if attempts == 1 else f"{attempts} times"
        what = f"activity {activity!r} {self.verb}"
        if self.verb == "failed":
            what += f" after it was tried {times}"
        super().__init__(f"{what}: {cause.type}: {cause.message}")
        self.activity = activity
        self.attempts = attempts
        self.cause = cause


class ActivityTimeoutError(ActivityError, TimeoutError):
    """The last attempt ran over `timeout`, or all of them over `total_timeout`."""

    code = "activity_timeout"
    verb = "timed out"


class ActivityCancelledError(ActivityError):
    code = "activity_cancelled"
    verb = "was cancelled"


class ActivityInterruptedError(ActivityError):
    """Its process died in the middle: an `at_most_once` activity, or a crash loop."""

    code = "activity_interrupted"
    verb = "was interrupted"


class ChildWorkflowError(DurableError):
    """A child workflow did not complete; `cause` says why."""

    code = "child_failed"

    def __init__(self, workflow: str, workflow_id: str, cause: ApplicationError) -> None:
        super().__init__(f"child workflow {workflow!r} ({workflow_id}) failed: {cause.message}")
        self.workflow = workflow
        self.workflow_id = workflow_id
        self.cause = cause


class SignalTimeoutError(DurableError, TimeoutError):
    """No signal `signal` arrived within `timeout` (a text such as "24h")."""

    code = "signal_timeout"

    def __init__(self, signal: str, timeout: str) -> None:
        super().__init__(f"signal {signal!r} did not arrive within {timeout}")
        self.signal = signal
        self.timeout = timeout


class RunEvicted(BaseException):
    """The run is let go from memory; its code unwinds without being heard.

    A BaseException, so that `except Exception` in workflow code does not swallow it.
    """


class CodeInterrupted(BaseException):
    """Thrown into user code that takes too long."""


def failure_error(failure: Failure, seq: int | None = None) -> ActivityError:
    """The exception that workflow code sees for a recorded failure of activity number `seq`."""
    kinds: dict[str, type[ActivityError]] = {
        "timeout": ActivityTimeoutError,
        "interrupted": ActivityInterruptedError,
        "cancelled": ActivityCancelledError,
    }
    cause = ApplicationError(
        failure.message,
        type=failure.type,
        non_retryable=failure.non_retryable,
        traceback=failure.traceback,
    )
    error_type = kinds.get(failure.kind, ActivityError)
    error = error_type(failure.activity or "?", failure.attempts or 1, cause)
    error.seq = seq
    return error
