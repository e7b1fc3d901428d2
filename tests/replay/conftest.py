"""A run of a workflow with one of everything, recorded to its end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from belugawf import WorkflowContext
from tests.replay.driving import Run, let_all_go


def line_of(function: Callable[..., Any], text: str) -> str:
    """ "file:line" of the function's line that has the text."""
    lines, first = inspect.getsourcelines(function)
    [offset] = [n for n, line in enumerate(lines) if text in line]
    return f"{inspect.getsourcefile(function)}:{first + offset}"


async def recorded_code(ctx: WorkflowContext) -> str:
    first = await ctx.execute_activity("fetch", 1)
    await ctx.sleep(60)
    await ctx.wait_for_signal("go")
    await ctx.execute_activity("store", first)
    return "done"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What a test has made is let go after it."""
    yield
    let_all_go()


@pytest.fixture
def recorded() -> Run:
    """A run of `recorded_code`, all the way."""
    run = Run(recorded_code)
    run.complete(1, "x")
    run.fire()
    run.signal("go")
    run.complete(4)
    assert [type(event).__name__ for event in run.history] == [
        "WorkflowStarted",
        "ActivityScheduled",
        "ActivityCompleted",
        "TimerStarted",
        "TimerFired",
        "WaitStarted",
        "SignalReceived",
        "WaitEnded",
        "ActivityScheduled",
        "ActivityCompleted",
        "WorkflowCompleted",
    ]
    return run
