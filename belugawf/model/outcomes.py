"""How an attempt of an activity ended, as a value: in memory, in an inbox, and in a history.

And what follows from that: whether and when there is another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypeVar

from belugawf.model import codec, events as e
from belugawf.model.durations import duration_ns, format_duration, parse_duration
from belugawf.model.errors import Failure
from belugawf.model.policy import ActivityOptions
from belugawf.model.values import frozen

T = TypeVar("T")

# "expired": its `total_timeout` was over while no attempt ran; all others end an attempt. "over":
# it failed for good, as it was recorded before its run was taken up again.
Status: TypeAlias = Literal["completed", "failed", "timed_out", "interrupted", "expired", "over"]


@frozen(kw_only=True)
class Outcome:
    """How an attempt ended, at `at`: with a `result`, as JSON text, or with a `failure`.

    `limit` names the limit that a timed out attempt ran over, `retry_after` is the delay that the
    activity itself asked for.
    """

    run: int
    seq: int
    attempt: int
    status: Status
    at: int
    started_at: int
    result: str = "null"
    failure: Failure | None = None
    limit: str = ""
    retry_after: timedelta | None = None

    @property
    def payload(self) -> str:
        """Its result or its failure, as JSON text."""
        return self.result if self.failure is None else codec.encode(self.failure.to_json())

    def to_text(self) -> str:
        """It as JSON text, without `run` and `at`, which have columns of their own in an inbox."""
        names = ("seq", "attempt", "status", "started_at", "payload", "limit")
        fields: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.retry_after is not None:
            fields["retry_after"] = format_duration(self.retry_after)
        return json.dumps(fields)

    @classmethod
    def of_text(cls, text: str, *, run: int, at: int) -> Outcome:
        """The inverse of `to_text`. Raises `ValueError` or `TypeError` if it is another text."""
        fields = json.loads(text)
        if "retry_after" in fields:
            fields["retry_after"] = parse_duration(fields["retry_after"])
        payload = fields.pop("payload")
        value = json.loads(payload)
        if fields["status"] in ("completed", "interrupted"):
            fields["result"] = payload
        elif isinstance(value, dict):
            fields["failure"] = Failure.from_json(value)
        else:
            raise TypeError("a failure is an object")
        for told_by_the_failure in ("error_type", "non_retryable"):
            fields.pop(told_by_the_failure, None)
        if type(fields["seq"]) is not int or type(fields["attempt"]) is not int:
            raise TypeError("an attempt is named by numbers")
        return cls(run=run, at=at, **fields)

    def unread(self, position: int, time: int) -> e.Event | None:
        """The note that it ended before its run did, and no code has seen it.

        `None` if the attempt was stopped, and so has no end of its own.
        """
        if self.status == "completed":
            return self.as_event(e.ActivityCompleted, position, time, unread=True)
        return None if self.status == "interrupted" else self.end(position, time, unread=True)

    def end(self, position: int, time: int, **more: Any) -> e.ActivityFailed | e.ActivityTimedOut:
        """The fact that the activity failed with this attempt."""
        if self.limit:
            return self.as_event(e.ActivityTimedOut, position, time, limit=self.limit, **more)
        return self.as_event(e.ActivityFailed, position, time, **more)

    def as_event(self, kind: Callable[..., T], position: int, time: int, **more: Any) -> T:
        """It as an event of that kind, whose further fields are `more`."""
        return kind(
            position=position,
            time=time,
            seq=self.seq,
            payload=self.result if self.failure is None else self.payload,
            at=self.at,
            attempt=self.attempt,
            started_at=self.started_at,
            **more,
        )


def next_attempt_at(
    outcome: Outcome, options: ActivityOptions, failures: int, chance: float
) -> int | None:
    """When the attempt after the `failures`-th failure (from 1) is due; `None`: there is none.

    `chance` (0 to 1) places it within the policy's jitter.
    """
    retry, failure = options.retry, outcome.failure
    assert failure is not None
    last = failure.non_retryable or outcome.limit == "total_timeout"
    if last or not retry.allows_another(failures, failure.type):
        return None
    requested = outcome.retry_after
    delay = retry.delay_after(failures, chance) if requested is None else requested
    return outcome.at + duration_ns(delay)


def out_of_time(outcome: Outcome, options: ActivityOptions) -> Outcome:
    """That outcome, if the next attempt would start after `total_timeout`: it is over now."""
    error = outcome.failure
    assert error is not None
    return replace(
        outcome,
        status="timed_out",
        failure=total_timeout_over(options, f"{error.type}: {error.message}"),
        limit="total_timeout",
    )


def total_timeout_over(options: ActivityOptions, last_error: str | None) -> Failure:
    """The failure when `total_timeout` is over; `last_error` is for people."""
    assert options.total_timeout is not None
    message = f"total_timeout of {format_duration(options.total_timeout)} is over"
    if last_error:
        message += f"; the last error was {last_error}"
    return Failure("TimeoutError", message, kind="timeout")


def died_with_it(times: int) -> Failure:
    """The failure of an activity that has taken its process down as often as it may."""
    return interrupted(f"its process died {times} times while it ran")


def interrupted(message: str) -> Failure:
    """The failure of an activity whose process ended in the middle of it, for good."""
    return Failure("Interrupted", message, non_retryable=True, kind="interrupted")
