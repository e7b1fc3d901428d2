"""Retry policies and the limits of one activity."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import field
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from belugawf.model import checking
from belugawf.model.durations import LONGEST, Duration, parse_duration
from belugawf.model.values import frozen

Isolation: TypeAlias = Literal["none", "process"]
ISOLATIONS = ("none", "process")

# An exponent beyond which every sane coefficient has long reached its max_delay;
# it keeps `coefficient ** n` from overflowing in a run that retries for years.
_LARGEST_EXPONENT = 64
# Exceptions of a group that are looked at.
_MOST_MEMBERS = 1_000


@frozen()
class RetryPolicy:
    """When a failed attempt is tried again.

    `max_attempts` counts failures, 0 means without limit. `initial_delay` and `max_delay` are
    durations; `max_delay` is 100 times `initial_delay` if it is not given. Each delay is
    `backoff_coefficient` times the one before. `jitter` (0 to 1) varies each delay by up to that
    part of it in both directions, never over `max_delay`. `non_retryable` are exception types, as
    classes or by name ("OSError", "httpx.ConnectError"); their subclasses count too.

    Raises `UsageError` for a value of a wrong type or out of range.
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
        initial = parse_duration(initial_delay, what="initial_delay")
        if max_delay is None:
            longest = min(initial * 100, LONGEST)
        else:
            longest = parse_duration(max_delay, what="max_delay")
        checking.whole("max_attempts", max_attempts, hint="give a whole number; 0 is without limit")
        coefficient = checking.number(
            "backoff_coefficient", backoff_coefficient, least=1, most=math.inf, hint="1 or more"
        )
        part = checking.number("jitter", jitter, least=0, most=1, hint="give a part from 0 to 1")
        for name, value in (
            ("max_attempts", max_attempts),
            ("initial_delay", initial),
            ("backoff_coefficient", coefficient),
            ("max_delay", longest),
            ("jitter", part),
            ("non_retryable", _names(non_retryable)),
        ):
            object.__setattr__(self, name, value)

    def delay_after(self, failures: int, chance: float = 0.5) -> timedelta:
        """The delay after the `failures`-th failed attempt (from 1).

        `chance` (0 to 1) places it within the jitter: 0.5 is the middle, the delay itself.
        """
        try:
            factor = self.backoff_coefficient ** min(failures - 1, _LARGEST_EXPONENT)
        except OverflowError:
            factor = sys.float_info.max
        seconds = min(self.initial_delay.total_seconds() * factor, self.max_delay.total_seconds())
        seconds *= 1 + self.jitter * (2 * chance - 1)
        return min(timedelta(seconds=seconds), self.max_delay)

    def allows_another(self, failures: int, error_type: str) -> bool:
        """Whether an attempt may follow the `failures`-th failure, of type `error_type`."""
        if error_type in self.non_retryable:
            return False
        return self.max_attempts == 0 or failures < self.max_attempts


def _names(types: Any) -> tuple[str, ...]:
    """The names of exception types that were given as classes or by name; one is a list of one."""
    if isinstance(types, str | type):
        types = [types]
    try:
        given = None if isinstance(types, dict) else list(types)
    except Exception:
        given = None
    if given is None:
        raise checking.wrong("non_retryable", types, _TYPES_HINT)
    names = []
    for index, kind in enumerate(given):
        what = f"non_retryable[{index}]"
        if isinstance(kind, type) and issubclass(kind, BaseException):
            names.append(_full_name(kind))
        elif isinstance(kind, str):
            names.append(checking.text(what, kind))
        else:
            raise checking.wrong(what, kind, _TYPES_HINT)
    return tuple(names)


_TYPES_HINT = 'give exception classes or their names: [ValueError, "httpx.ConnectError"]'


def _full_name(kind: type) -> str:
    """The name that means this class only; a script is another module in a child process."""
    module = kind.__module__
    if module in ("builtins", "__main__"):
        return checking.class_name(kind)
    return f"{module}.{kind.__qualname__}"


def is_named(error: BaseException, names: Iterable[str]) -> bool:
    """Whether an exception, or one in its group, is of a type with one of these names."""
    wanted = frozenset(names)
    if not wanted:
        return False
    # What "requests.Timeout" means is where its class was made, "requests.exceptions".
    classes = [found for name in wanted if (found := _class_called(name)) is not None]
    return any(
        base in classes or not wanted.isdisjoint((checking.class_name(base), _full_name(base)))
        for member in _members(error)
        for base in type(member).__mro__
    )


def _class_called(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def _members(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those in it if it is a group."""
    waiting, left = [error], _MOST_MEMBERS
    while waiting and left:
        left -= 1
        found = waiting.pop()
        yield found
        if issubclass(type(found), BaseExceptionGroup):
            waiting.extend(vars(BaseExceptionGroup)["exceptions"].__get__(found))


ONE_ATTEMPT = RetryPolicy(max_attempts=1)


@frozen(kw_only=True)
class ActivityOptions:
    """The resolved limits of one activity; recorded with ActivityScheduled, never read again.

    `timeout` bounds one attempt, `total_timeout` all of them with their delays,
    `heartbeat_timeout` the silence between heartbeats; `None` isn't a limit.
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
