"""What workflow code asks for. Each command is recorded by exactly one event (`history.record`).

`seq` is unique within a run and links a command to its answer. `location` is "file:line" of
the workflow code that asks, for messages only. Payloads are JSON texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from datetime import timedelta
from typing import Any, TypeAlias

from belugawf.model.errors import Failure
from belugawf.model.policy import ActivityOptions
from belugawf.model.values import frozen


@frozen(kw_only=True)
class ScheduleActivity:
    """Run `name` with `arguments` (a JSON array), which are read by `types` if there are any.

    `function` is the callable itself if the workflow passed one; it is not recorded, because
    replay meets it again in the code.
    """

    seq: int
    name: str
    arguments: str
    activity_id: str
    options: ActivityOptions
    types: tuple[Any, ...] = field(default=(), compare=False)
    function: Callable[..., Any] | None = field(default=None, compare=False)
    location: str | None = field(default=None, compare=False)


@frozen(kw_only=True)
class RequestActivityCancel:
    """Nobody waits for activity `seq` any more."""

    seq: int
    location: str | None = field(default=None, compare=False)


@frozen(kw_only=True)
class StartTimer:
    """Wake the run in `delay`; at `moment` (nanoseconds since 1970) if the code has named one."""

    seq: int
    delay: timedelta
    moment: int | None = None
    location: str | None = field(default=None, compare=False)


@frozen(kw_only=True)
class CancelTimer:
    seq: int
    location: str | None = field(default=None, compare=False)


@frozen(kw_only=True)
class StartWait:
    """The code waits for signal `name`.

    `timeout` is for people: the timer is a command of its own. `prompt` is the question to show,
    `expected` the type's name for people, `schema` its JSON schema for senders; `None` is any.
    """

    seq: int
    name: str
    timeout: timedelta | None = None
    prompt: str | None = None
    expected: str | None = None
    schema: str | None = None
    location: str | None = field(default=None, compare=False)


@frozen(kw_only=True)
class EndWait:
    """Wait `seq` is over; `outcome` is "received", "timed_out" or "cancelled"."""

    seq: int
    outcome: str
    location: str | None = field(default=None, compare=False)


@frozen(kw_only=True)
class CompleteWorkflow:
    """The workflow returned `result` (JSON), which is read by `type`."""

    result: str
    type: Any = field(default=Any, compare=False)


@frozen(kw_only=True)
class FailWorkflow:
    """The workflow's code raised."""

    failure: Failure


@frozen(kw_only=True)
class CancelWorkflow:
    """CancelledError left the workflow."""


Command: TypeAlias = (
    ScheduleActivity
    | RequestActivityCancel
    | StartTimer
    | CancelTimer
    | StartWait
    | EndWait
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflow
)
