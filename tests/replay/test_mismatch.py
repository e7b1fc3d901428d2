"""Code that no longer matches its history: each difference is named, and nothing is lost."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from belugawf import (
    NondeterminismError,
    RetryPolicy,
    WorkflowContext,
)
from belugawf.model import events as e
from belugawf.model.history import PYTHON_VERSION
from belugawf.replay.calling import InputMismatchError
from tests.replay.conftest import line_of, recorded_code
from tests.replay.driving import Run, briefs


async def swapped(ctx: WorkflowContext) -> str:
    first = await ctx.execute_activity("store", 1)  # asks
    return str(first)


async def became_a_timer(ctx: WorkflowContext) -> str:
    await ctx.sleep(5)  # asks
    return "done"


async def other_arguments(ctx: WorkflowContext) -> str:
    await ctx.execute_activity("fetch", 2)  # asks
    return "done"


async def added_before(ctx: WorkflowContext) -> str:
    await ctx.wait_for_signal("sooner")  # asks
    return await recorded_code(ctx)


async def added_beside(ctx: WorkflowContext) -> str:
    first, _ = await asyncio.gather(
        ctx.execute_activity("fetch", 1),
        ctx.execute_activity("more"),  # asks
    )
    return str(first)


async def removed_last(ctx: WorkflowContext) -> str:
    await ctx.execute_activity("fetch", 1)
    await ctx.sleep(60)
    await ctx.wait_for_signal("go")
    return "done"


async def removed_all(ctx: WorkflowContext) -> str:
    await asyncio.Event().wait()
    return "never"


async def other_signal(ctx: WorkflowContext) -> str:
    await ctx.execute_activity("fetch", 1)
    await ctx.sleep(60)
    await ctx.wait_for_signal("stop")  # asks
    return "done"


async def other_result(ctx: WorkflowContext) -> str:
    await recorded_code(ctx)
    return "other"


async def now_fails(ctx: WorkflowContext) -> str:
    await recorded_code(ctx)
    raise ValueError("new check")


@pytest.mark.parametrize(
    ("code", "position", "expected", "requested"),
    [
        (swapped, 2, "activity 'fetch'", "activity 'store'"),
        (became_a_timer, 2, "activity 'fetch'", "a timer of 5 s"),
        (
            other_arguments,
            2,
            "activity 'fetch'",
            "activity 'fetch' with other arguments: arguments[0] was 1 and is 2",
        ),
        (added_before, 2, "activity 'fetch'", "a wait for signal 'sooner'"),
        (added_beside, 3, "nothing more", "activity 'more'"),
        (removed_last, 9, "activity 'store'", "the workflow's end with a result"),
        (removed_all, 2, "activity 'fetch'", "nothing"),
        (other_signal, 6, "a wait for signal 'go'", "a wait for signal 'stop'"),
        (
            other_result,
            11,
            "the workflow's end with a result",
            'the workflow\'s end with a result that differs: result was "done" and is "other"',
        ),
        (
            now_fails,
            11,
            "the workflow's end with a result",
            "the workflow's end with ValueError: new check",
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_changed_code(
    recorded: Run, code: Callable[..., Any], position: int, expected: str, requested: str
) -> None:
    """Each change is named: the event, both sides, the line that asks, and the likely cause."""
    with pytest.raises(NondeterminismError) as caught:
        recorded.replay(code=code)
    error = caught.value
    assert (error.position, error.recorded, error.requested) == (position, expected, requested)
    place = None if "# asks" not in inspect.getsource(code) else line_of(code, "# asks")
    if place:
        assert error.location == place
    else:
        assert error.location is not None
        assert error.location.startswith(f"{__file__}:")
    assert error.message == (
        f"the code no longer matches the history: event {position} recorded {expected}, "
        f"but the code now asks for {requested} at {error.location}"
    )
    assert error.hint is not None
    assert "was changed while this run was open" in error.hint


def test_reordered_activities(recorded: Run) -> None:
    """Two activities that changed places: the first of them is named."""

    async def old(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.execute_activity("a"), ctx.execute_activity("b"))

    async def new(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.execute_activity("b"), ctx.execute_activity("a"))

    run = Run(old)
    with pytest.raises(NondeterminismError) as caught:
        run.replay(code=new)
    assert (caught.value.recorded, caught.value.requested) == ("activity 'a'", "activity 'b'")


def test_what_is_cancelled_is_compared() -> None:
    """By its number: the order and the kinds of what is asked for are as they were."""

    async def cancels(ctx: WorkflowContext, which: int) -> None:
        tasks = [ctx.start_activity("work") for _ in range(2)]
        await asyncio.sleep(0)
        tasks[which].cancel()
        await ctx.wait_for_signal("go")

    async def old(ctx: WorkflowContext) -> None:
        await cancels(ctx, 0)

    async def new(ctx: WorkflowContext) -> None:
        await cancels(ctx, 1)

    run = Run(old)
    with pytest.raises(NondeterminismError) as caught:
        run.replay(code=new)
    assert (caught.value.recorded, caught.value.requested) == (
        "cancelling activity number 1",
        "cancelling activity number 2",
    )


def test_what_may_change(recorded: Run) -> None:
    """Limits, delays, prompts and the code between the steps are not compared."""

    async def code(ctx: WorkflowContext) -> str:
        policy = RetryPolicy(max_attempts=9)
        first = await ctx.execute_activity("fetch", 1, retry=policy, timeout="5m", id="mine")
        ctx.logger.info("new")
        await asyncio.sleep(120)
        await ctx.wait_for_signal("go", prompt="Go on?", type=Any)
        await ctx.execute_activity("store", first)
        return "done"

    assert recorded.replay(code=code) == []


def test_another_python_is_the_first_suspect() -> None:
    """A mismatch of a run that began on another Python says so first."""

    async def changed(ctx: WorkflowContext) -> None:
        await ctx.execute_activity("other")

    async def code(ctx: WorkflowContext) -> None:
        await ctx.execute_activity("one")

    for version, first in [("3.0.0", "it started on Python 3.0.0"), (PYTHON_VERSION, "the wo")]:
        run = Run(code, python=version)
        with pytest.raises(NondeterminismError) as caught:
            run.replay(code=changed)
        assert caught.value.cause.startswith(first)


def test_answer_to_a_question_never_asked() -> None:
    """A timer that fires and was never started is a mismatch, not a crash."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("go")

    run = Run(code)
    fired = e.TimerFired(position=3, time=run.clock, seq=7, at=run.clock)
    with pytest.raises(NondeterminismError) as caught:
        run.replay([*run.history, fired])
    assert (caught.value.position, caught.value.recorded) == (3, "an answer to number 7")


def test_input_that_no_longer_fits() -> None:
    """Changed parameters are a problem of their own; nothing is recorded."""

    async def code(ctx: WorkflowContext, topic: str) -> None: ...

    async def renamed(ctx: WorkflowContext, topic: int) -> None: ...

    run = Run(code, "whales")
    with pytest.raises(InputMismatchError, match="no longer fits workflow 'code'"):
        run.replay(code=renamed)


def test_notes_are_skipped(recorded: Run) -> None:
    """What is kept for people does not count: attempts, unread signals."""
    history = recorded.history
    time = history[1].time
    noted = [
        *history[:2],
        e.AttemptStarted(position=3, time=time, seq=1, attempt=1),
        e.AttemptInterrupted(position=4, time=time, seq=1, attempt=1, reason="crash", crashes=1),
        *history[2:-1],
        e.SignalReceived(position=20, time=time, name="x", payload="1", at=time, unread=True),
        history[-1],
    ]
    assert recorded.replay(noted) == []


def test_partial(recorded: Run) -> None:
    """With `partial` what the last fact asks for and is not recorded yet comes back; without, it
    is one command too many."""
    assert briefs(recorded.replay(recorded.history[:3], partial=True)) == [("timer", 2, 60.0)]
    with pytest.raises(NondeterminismError, match="recorded nothing more"):
        recorded.replay(recorded.history[:3])
    assert recorded.replay([], partial=True) == []
