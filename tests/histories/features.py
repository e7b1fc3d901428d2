"""One workflow for each feature, whose histories are recorded. None of them is ever changed."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Any

from belugawf import (
    ActivityError,
    ActivityInterruptedError,
    ActivityTimeoutError,
    ApplicationError,
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    activity,
    workflow,
)
from belugawf.authoring.workflow import MARK

QUICKLY = RetryPolicy(max_attempts=3, initial_delay=0.001)


@dataclass
class Answer:
    yes: bool
    note: str = ""


# -- activities ----------------------------------------------------------------------------------


@activity
async def echo(value: Any) -> Any:
    return value


@activity
async def works_at_last(at: int) -> int:
    if activity.info().attempt < at:
        raise ConnectionError("not yet")
    return activity.info().attempt


@activity
async def refuses() -> None:
    raise ApplicationError("never", type="Never", non_retryable=True)


@activity
async def hangs() -> None:
    await asyncio.sleep(60)


@activity
async def beats() -> Any:
    seen = activity.info().heartbeat_details
    activity.heartbeat({"page": 7})
    if activity.info().attempt == 1:
        raise ConnectionError("lost")
    return seen


@activity
async def takes_its_process_down() -> str:
    if os.environ.get("HISTORIES_DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"attempt {activity.info().attempt}"


# -- workflows -----------------------------------------------------------------------------------


@workflow
async def signals(ctx: WorkflowContext) -> list[Any]:
    first = await ctx.wait_for_signal("a", type=Answer, prompt="Yes?")
    second = await ctx.wait_for_signal("b", timeout="1h")
    found = [first.payload.note, second.payload]
    async for item in ctx.signals("c"):
        found.append(item.payload)
        if item.payload == "last":
            break
    try:
        await ctx.wait_for_signal("d", timeout=0.001)
    except SignalTimeoutError:
        found.append("nobody")
    return found


@workflow
async def timers(ctx: WorkflowContext) -> str:
    await ctx.sleep("30d")
    await asyncio.sleep(0)
    await asyncio.gather(asyncio.sleep(0.002), asyncio.sleep(0.001), ctx.sleep("1ms"))
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(3600)
    except TimeoutError:
        pass
    async with asyncio.timeout(3600):
        await ctx.execute_activity(echo, ctx.now().isoformat())
    return f"{ctx.uuid4()} {ctx.random.random()}"


@workflow
async def retries(ctx: WorkflowContext) -> list[Any]:
    found: list[Any] = [await ctx.execute_activity(works_at_last, 3, retry=QUICKLY)]
    for function, arguments in ((works_at_last, (9,)), (refuses, ())):
        try:
            await ctx.execute_activity(function, *arguments, retry=QUICKLY)
        except ActivityError as error:
            found.append([error.attempts, error.cause.type, error.cause.message])
    return found


@workflow
async def waits_for_its_retry(ctx: WorkflowContext) -> int:
    policy = RetryPolicy(max_attempts=5, initial_delay="1h")
    result: int = await ctx.execute_activity(works_at_last, 2, retry=policy)
    return result


@workflow
async def timeouts(ctx: WorkflowContext) -> list[str]:
    found = []
    for limits in ({"timeout": 0.01}, {"total_timeout": 0.01, "retry": QUICKLY}):
        try:
            await ctx.execute_activity(hangs, **limits)
        except ActivityTimeoutError as error:
            found.append(error.cause.type)
    return found


@workflow
async def heartbeats(ctx: WorkflowContext) -> Any:
    return await ctx.execute_activity(beats, retry=QUICKLY, heartbeat_timeout="30s")


@workflow
async def fan_out(ctx: WorkflowContext) -> list[Any]:
    found = list(await asyncio.gather(*(ctx.execute_activity(echo, n) for n in range(12))))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.execute_activity(echo, name)) for name in "abc"]
    found += [task.result() for task in tasks]
    started = [ctx.start_activity(echo, n, id=f"own-{n}") for n in range(3)]
    for ended in asyncio.as_completed(started):
        found.append(await ended)
    done, pending = await asyncio.wait(
        {ctx.start_activity(hangs), ctx.start_activity(echo, "first")},
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return [*sorted(map(str, found)), len(done)]


@workflow
async def conditions(ctx: WorkflowContext) -> list[str]:
    votes: list[str] = []

    async def count() -> None:
        async for vote in ctx.signals("vote"):
            votes.append(vote.payload)

    counting = asyncio.create_task(count())
    await ctx.wait_until(lambda: len(votes) >= 2)
    try:
        await ctx.wait_until(lambda: False, timeout=0.001)
    except TimeoutError:
        votes.append("closed")
    counting.cancel()
    return votes


@workflow
async def cleans_up(ctx: WorkflowContext) -> str:
    try:
        await ctx.wait_for_signal("never")
    except asyncio.CancelledError:
        await ctx.shielded(ctx.execute_activity(echo, "cleaned up"))
        raise
    return "not reached"


@workflow
async def finishes_all_the_same(ctx: WorkflowContext) -> str:
    try:
        await ctx.sleep("1d")
    except asyncio.CancelledError:
        return await ctx.execute_activity(echo, f"cancelled: {ctx.cancel_requested}")
    return "not reached"


@workflow
async def progresses(ctx: WorkflowContext) -> str:
    for part in (0.25, 0.5, "nearly"):
        ctx.set_progress(part)
        await ctx.execute_activity(echo, part)
    ctx.set_query("half", lambda: 0.5)
    await ctx.sleep(0.001)
    return "done"


@workflow
async def leaves_signals_unread(ctx: WorkflowContext) -> str:
    await ctx.wait_for_signal("go")
    return "gone"


@workflow
async def reminds(ctx: WorkflowContext) -> str:
    for number in range(3):
        try:
            answer = await ctx.wait_for_signal("answer", timeout="1d")
        except SignalTimeoutError:
            await ctx.execute_activity(echo, f"reminder {number}")
        else:
            return f"after {number} reminders: {answer.payload}"
    return "nobody"


@workflow
async def catches_up(ctx: WorkflowContext) -> str:
    async def remind() -> None:
        await ctx.sleep("1d")
        await ctx.execute_activity(echo, "a late reminder")

    await asyncio.gather(remind(), ctx.sleep("2d"), ctx.sleep("100d"))
    return "caught up"


@workflow
async def interrupted(ctx: WorkflowContext) -> str:
    result: str = await ctx.execute_activity(takes_its_process_down)
    return result


@workflow
async def at_most_once(ctx: WorkflowContext) -> str:
    try:
        result: str = await ctx.execute_activity(takes_its_process_down, at_most_once=True)
    except ActivityInterruptedError as error:
        return f"interrupted: {error.attempts}"
    return result


@workflow
async def fails(ctx: WorkflowContext, text: str) -> str:
    await ctx.execute_activity(echo, text)
    raise ValueError(text)


@workflow
async def has_a_deadline(ctx: WorkflowContext) -> str:
    await ctx.wait_for_signal("never")
    return "not reached"


@workflow
async def values(ctx: WorkflowContext, number: int, names: list[str], answer: Answer) -> Any:
    return await ctx.execute_activity(
        echo, {"number": number, "names": names, "answer": answer, "half": 0.5, "none": None}
    )


@workflow
async def waits(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(echo, "before")
    results = await asyncio.gather(
        ctx.wait_for_signal("a", type=bool, prompt="May it?", timeout="10d"),
        ctx.wait_for_signal("b"),
        ctx.sleep("100d"),
    )
    return str(results[0].payload)


WORKFLOWS = [
    function
    for function in list(globals().values())
    if getattr(function, "__module__", None) == __name__ and hasattr(function, MARK)
]
