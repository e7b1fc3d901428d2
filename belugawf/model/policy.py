"""Retry policies and the limits of one activity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from datetime import timedelta
from typing import Literal, TypeAlias

from belugawf.model.durations import Duration, parse_duration
from belugawf.model.errors import UsageError
from belugawf.model.values import frozen

Isolation: TypeAlias = Literal["none", "process"]

# An exponent beyond which every sane coefficient has long reached its max_delay;
# it keeps `coefficient ** n` from overflowing in a run that retries for years.
_LARGEST_EXPONENT = 64


@frozen()
class RetryPolicy:
    """When a failed attempt is tried again.

    `max_attempts` counts failures, 0 means without limit. `initial_delay` and `max_delay` are
    durations; `max_delay` is 100 times `initial_delay` if it is not given. Each delay is
    `backoff_coefficient` times the one before. `jitter` (0 to 1) varies each delay by up to that
    part of it in both directions, never over `max_delay`. `non_retryable` names exception types.

    Raises `UsageError` if a value is out of range.
    """

    max_attempts: int = 3
    initial_delay: timedelta = timedelta(seconds=1)
    backoff_coefficient: float = 2.0
    max_delay: timedelta = timedelta(seconds=100)
    jitter: float = 0.0
    non_retryable: tuple[str, ...] = ()

    def __init__(
        self,
        max_attempts: int = 3,
        initial_delay: Duration = 1,
        backoff_coefficient: float = 2.0,
        max_delay: Duration | None = None,
        jitter: float = 0.0,
        non_retryable: Iterable[str | type[BaseException]] = (),
    ) -> None:
        initial = parse_duration(initial_delay)
        longest = initial * 100 if max_delay is None else parse_duration(max_delay)
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 0:
            raise UsageError(
                f"max_attempts is {max_attempts!r}", hint="give a whole number; 0 is without limit"
            )
        if not backoff_coefficient >= 1:
            raise UsageError(f"backoff_coefficient is {backoff_coefficient!r}", hint="1 or more")
        if not 0 <= jitter <= 1:
            raise UsageError(f"jitter is {jitter!r}", hint="give a part from 0 to 1")
        if isinstance(non_retryable, str | type):
            non_retryable = (non_retryable,)
        names = tuple(t if isinstance(t, str) else t.__name__ for t in non_retryable)
        for name, value in (
            ("max_attempts", max_attempts),
            ("initial_delay", initial),
            ("backoff_coefficient", float(backoff_coefficient)),
            ("max_delay", longest),
            ("jitter", float(jitter)),
            ("non_retryable", names),
        ):
            object.__setattr__(self, name, value)

    def delay_after(self, failures: int, chance: float = 0.5) -> timedelta:
        """The delay after the `failures`-th failed attempt (from 1).

        `chance` (0 to 1) places it within the jitter: 0.5 is the middle, the delay itself.
        """
        factor = self.backoff_coefficient ** min(failures - 1, _LARGEST_EXPONENT)
        seconds = min(self.initial_delay.total_seconds() * factor, self.max_delay.total_seconds())
        seconds *= 1 + self.jitter * (2 * chance - 1)
        return min(timedelta(seconds=seconds), self.max_delay)

    def allows_another(self, failures: int, error_type: str) -> bool:
        """Whether an attempt may follow the `failures`-th failure, of type `error_type`."""
        if error_type in self.non_retryable:
            return False
        return self.max_attempts == 0 or failures < self.max_attempts


ONE_ATTEMPT = RetryPolicy(max_attempts=1)


@frozen(kw_only=True)
class ActivityOptions:
    """The resolved limits of one activity; recorded with ActivityScheduled, never read again.

    `timeout` bounds one attempt, `total_timeout` all of them with their delays,
    `heartbeat_timeout` the silence between heartbeats; `None` is no limit.
    """

    retry: RetryPolicy = field(default=ONE_ATTEMPT)
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    heartbeat_timeout: timedelta | None = None
    at_most_once: bool = False
    isolation: Isolation = "none"


@frozen(kw_only=True)
class ActivityDefaults:
    """What an activity gets if neither its call nor its decorator sets it."""

    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
