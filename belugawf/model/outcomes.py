"""How an attempt of an activity ended, as a value: in memory, in an inbox, and in a history.

And what follows from that: whether and when there is another one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from belugawf.model import codec, events as e
from belugawf.model.durations import duration_ns, format_duration, parse_duration
from belugawf.model.errors import Failure
from belugawf.model.policy import ActivityOptions
from belugawf.model.values import frozen

# "expired": its `total_timeout` was over while no attempt ran; all others end an attempt.
Status: TypeAlias = Literal["completed", "failed", "timed_out", "interrupted", "expired"]


@frozen(kw_only=True)
class Outcome:
    """How an attempt ended, at `at`. `payload` is the result, or a `Failure`, as JSON text.

    `limit` names the limit that a timed out attempt ran over, `retry_after` is the delay that the
    activity itself asked for.
    """

    run: int
    seq: int
    attempt: int
    status: Status
    at: int
    started_at: int
    payload: str = "null"
    error_type: str = ""
    non_retryable: bool = False
    limit: str = ""
    retry_after: timedelta | None = None

    def to_text(self) -> str:
        """It as JSON text, without `run` and `at`, which have columns of their own in an inbox."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _WRITTEN}
        if self.retry_after is not None:
            fields["retry_after"] = format_duration(self.retry_after)
        return json.dumps(fields)

    @classmethod
    def of_text(cls, text: str, *, run: int, at: int) -> Outcome:
        """The inverse of `to_text`. Raises `ValueError` or `TypeError` where it is another text."""
        fields = json.loads(text)
        if "retry_after" in fields:
            fields["retry_after"] = parse_duration(fields["retry_after"])
        outcome = cls(run=run, at=at, **fields)
        json.loads(outcome.payload)
        if type(outcome.seq) is not int or type(outcome.attempt) is not int:
            raise TypeError("an attempt is named by numbers")
        return outcome

    def unread(self, position: int, time: int) -> e.Event | None:
        """The note that it ended before its run did, and no code has seen it.

        `None` where the attempt was stopped, and so has no end of its own.
        """
        fields: dict[str, Any] = {
            "position": position,
            "time": time,
            "seq": self.seq,
            "payload": self.payload,
            "at": self.at,
            "attempt": self.attempt,
            "started_at": self.started_at,
            "unread": True,
        }
        if self.status == "completed":
            return e.ActivityCompleted(**fields)
        if self.limit:
            return e.ActivityTimedOut(limit=self.limit, **fields)
        return None if self.status == "interrupted" else e.ActivityFailed(**fields)


_WRITTEN = (
    "seq",
    "attempt",
    "status",
    "started_at",
    "payload",
    "error_type",
    "non_retryable",
    "limit",
)


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
    requested = outcome.retry_after
    delay = retry.delay_after(failures, chance) if requested is None else requested
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
