"""A run in memory is as large after 2,000 steps as after 200."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from types import FunctionType, ModuleType
from typing import Any

import pytest

from belugawf import ActivityError, WorkflowContext, activity
from tests.replay.driving import Run

# In so many steps, what is cleared when it is full was full once.
_WINDOW = 70
# A run reaches no other code than its own through these.
_SHARED = (type, ModuleType, FunctionType)


def size(*roots: Any) -> tuple[int, int]:
    """How many objects can be reached from there, and how many bytes the containers have."""
    seen: dict[int, Any] = {}
    left: list[Any] = list(roots)
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, _SHARED):
            continue
        seen[id(found)] = found
        left += gc.get_referents(found)
    containers = (one for one in seen.values() if gc.is_tracked(one))
    return len(seen), sum(map(sys.getsizeof, containers))


@activity
async def work(number: int) -> int:
    return number


async def steps(ctx: WorkflowContext) -> None:
    for number in _numbers():
        await ctx.execute_activity(work, number)


async def steps_by_name(ctx: WorkflowContext) -> None:
    for number in _numbers():
        await ctx.execute_activity("work", number, timeout=number % 7 + 1)


async def closures(ctx: WorkflowContext) -> None:
    for number in _numbers():

        @activity
        async def own() -> int:
            return number  # noqa: B023

        await ctx.execute_activity(own)


async def groups(ctx: WorkflowContext) -> None:
    for number in _numbers():
        await asyncio.gather(*(ctx.execute_activity(work, number) for _ in range(3)))


async def failures(ctx: WorkflowContext) -> None:
    for number in _numbers():
        failing = ctx.start_activity("fails", number)
        await asyncio.sleep(0)  # it fails first, and is asked for that later
        await ctx.execute_activity(work, number)
        with contextlib.suppress(ActivityError):
            await failing


async def cancellations(ctx: WorkflowContext) -> None:
    for number in _numbers():
        given_up = ctx.start_activity("slow", number)
        await ctx.execute_activity(work, number)
        given_up.cancel()


async def timers(ctx: WorkflowContext) -> None:
    for number in _numbers():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await ctx.wait_for_signal("never")
        async with asyncio.timeout(number + 1):
            await ctx.execute_activity(work, number)


async def signals(ctx: WorkflowContext) -> None:
    for number in _numbers():
        await ctx.execute_activity(work, number)
        await ctx.wait_for_signal(f"signal {number}")


async def conditions(ctx: WorkflowContext) -> None:
    done = 0

    async def count() -> None:
        nonlocal done
        for number in _numbers():
            await ctx.execute_activity(work, number)
            done += 1

    counting = asyncio.create_task(count())
    for number in _numbers():
        with contextlib.suppress(TimeoutError):
            await ctx.wait_until(lambda: False, timeout=0.5)
        await ctx.wait_until(lambda: done > number)  # noqa: B023
    await counting


async def generators(ctx: WorkflowContext) -> None:
    async def some() -> AsyncIterator[int]:
        while True:
            yield await ctx.execute_activity(work, 1)

    while True:
        async for _ in some():
            break
        ctx.logger.info("one more")
        ctx.set_progress(0.5)


def _numbers() -> Iterable[int]:
    return range(1_000_000)


def _step(run: Run) -> None:
    """Answer what the run waits for: everything that is open, the oldest first."""
    for seq, open_activity in list(run.work.activities.items()):
        if open_activity.scheduled.name == "fails":
            run.fail(seq)
        elif open_activity.scheduled.name != "slow":
            run.complete(seq, 1)
    for wait in list(run.work.waits.values()):
        if wait.name != "never":
            run.signal(wait.name)
    if not run.work.activities and run.work.timers:
        run.fire()
    run.replayer.take_logs()
    run.replayer.take_progress()


@pytest.mark.parametrize(
    "code",
    [
        *(steps, steps_by_name, closures, groups, failures, cancellations, timers, signals),
        *(conditions, generators),
    ],
)
def test_nothing_grows_with_the_steps_of_a_run(code: Callable[..., Any]) -> None:
    """What its replayer, loop, context and code can reach is as much, and as large, as before."""
    run = Run(code)
    largest = []
    for count in (200, 1_800):
        for _ in range(count - _WINDOW):
            _step(run)
        sizes = []
        for _ in range(_WINDOW):
            _step(run)
            sizes.append(size(run.replayer))
        largest.append(tuple(map(max, zip(*sizes, strict=True))))
    (objects, in_bytes), (objects_later, bytes_later) = largest
    assert objects > 50
    assert objects_later <= objects + 20
    assert bytes_later <= in_bytes + 1_000
