"""Limits of activities: the call goes before the decorator, and that before the configuration."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from belugawf import RetryPolicy, UsageError, WorkflowContext, activity
from belugawf.model import commands as c
from belugawf.model.policy import ActivityDefaults, ActivityOptions
from tests.replay.driving import Run

CALL, DECORATOR, CONFIGURATION = (RetryPolicy(max_attempts=n) for n in (7, 8, 9))


@activity
def bare() -> None: ...


@activity(retry=DECORATOR, timeout="2m", total_timeout="20m", heartbeat_timeout="20s")
def limited() -> None: ...


@activity(at_most_once=True, isolation="process")
def once() -> None: ...


def asked(function: Any, defaults: ActivityDefaults | None = None, **options: Any) -> Any:
    """The options that a call comes to, or what it raised."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(function, **options)

    run = Run(code, defaults=defaults)
    [command] = run.commands
    if isinstance(command, c.ScheduleActivity):
        return command.options
    return run.error


def test_nothing_said() -> None:
    """No policy: one attempt. No timeout: none."""
    options = asked(bare)
    assert options == ActivityOptions()
    assert options.retry.max_attempts == 1


def test_the_configuration_fills_in() -> None:
    """Where neither call nor decorator says it."""
    defaults = ActivityDefaults(retry=CONFIGURATION, timeout=timedelta(minutes=3))
    options = asked(bare, defaults)
    assert options == ActivityOptions(retry=CONFIGURATION, timeout=timedelta(minutes=3))


def test_the_decorator_goes_before_the_configuration() -> None:
    """Each limit for itself."""
    defaults = ActivityDefaults(retry=CONFIGURATION, timeout=timedelta(minutes=3))
    assert asked(limited, defaults) == ActivityOptions(
        retry=DECORATOR,
        timeout=timedelta(minutes=2),
        total_timeout=timedelta(minutes=20),
        heartbeat_timeout=timedelta(seconds=20),
    )


@pytest.mark.parametrize(
    ("option", "said", "value"),
    [
        ("retry", CALL, CALL),
        ("timeout", 60, timedelta(minutes=1)),
        ("total_timeout", "10m", timedelta(minutes=10)),
        ("heartbeat_timeout", timedelta(seconds=10), timedelta(seconds=10)),
    ],
)
def test_the_call_goes_before_the_decorator(option: str, said: Any, value: Any) -> None:
    """Each limit for itself: the others stay the decorator's."""
    decorated = asked(limited)
    options = asked(limited, **{option: said})
    assert getattr(options, option) == value
    others = {"retry", "timeout", "total_timeout", "heartbeat_timeout"} - {option}
    assert all(getattr(options, name) == getattr(decorated, name) for name in others)


def test_at_most_once_excludes_a_policy() -> None:
    """The configuration's policy does not count for it; one of the call is refused, as is the
    call's at_most_once beside the decorator's policy."""
    options = asked(once, ActivityDefaults(retry=CONFIGURATION))
    assert (options.at_most_once, options.retry.max_attempts) == (True, 1)
    assert options.isolation == "process"
    for error in (asked(once, retry=CALL), asked(limited, at_most_once=True)):
        assert error.type == "UsageError"
        assert "at_most_once and a retry policy" in error.message
    assert asked(once, at_most_once=False, retry=CALL).retry == CALL


def test_ids() -> None:
    """An activity's id is its number unless given."""

    async def code(ctx: WorkflowContext) -> None:
        ctx.start_activity(bare)
        ctx.start_activity(bare, id="mine")
        await ctx.sleep(1)

    ids = [cmd.activity_id for cmd in Run(code).commands if isinstance(cmd, c.ScheduleActivity)]
    assert ids == ["2", "mine"]


@pytest.mark.parametrize(("wrong", "shown"), [(5, "5"), (None, "None"), (["bare"], "a list")])
def test_what_is_no_activity(wrong: Any, shown: str) -> None:
    """Neither a function nor a name: the run fails and says so."""
    error = asked(wrong)
    assert error.type == "UsageError"
    assert error.message.startswith(f"{shown} isn't an activity ({__file__}:")


def test_progress_is_a_text_or_a_fraction() -> None:
    """Anything else is refused."""

    async def code(ctx: WorkflowContext) -> int:
        ctx.set_progress("half")
        ctx.set_progress(0.5)
        refused = 0
        for wrong in (True, None, [1]):
            try:
                ctx.set_progress(wrong)  # type: ignore[arg-type]
            except UsageError:
                refused += 1
        return refused

    assert Run(code).result == 3
