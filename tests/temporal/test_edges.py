"""What users' code may do at the edges comes out the same on both providers."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    ActivityTimeoutError,
    RetryPolicy,
    RunParkedError,
    WorkflowContext,
    activity,
    workflow,
)
from belugawf.executor import DurableExecutor
from belugawf.model import events as e
from tests.devserver import DevServer
from tests.temporal.both import LONGEST_S, Both


class Outsider(BaseException):
    """An exception that is none of Python's ordinary ones."""


@activity
async def work(number: int) -> int:
    return number


async def unmarked(number: int) -> int:
    return number + 1


@activity
async def told(number: int) -> list[Any]:
    info = activity.info()
    return [
        info.activity_id,
        info.idempotency_key == f"{info.run_id}:{info.activity}:{info.activity_id}",
    ]


@activity
async def verbose(attempts: int) -> int:
    attempt = activity.info().attempt
    if attempt < attempts:
        raise ValueError("x" * 60_000)
    return attempt


@activity
async def refusing() -> None:
    raise ConnectionError("no line")


@activity
async def beating() -> Any:
    details = activity.info().heartbeat_details
    if details is None:
        activity.heartbeat({"page": 7})
        raise ConnectionError("gone")
    return details


@activity(heartbeat_timeout=0.3)
async def silent() -> None:
    await asyncio.sleep(30)


@workflow
async def exits(ctx: WorkflowContext) -> None:
    sys.exit(3)


@workflow
async def raises_outsider(ctx: WorkflowContext) -> None:
    raise Outsider("out")


@workflow
async def child_exits(ctx: WorkflowContext) -> str:
    async def leave() -> None:
        raise SystemExit(4)

    task = asyncio.create_task(leave())
    await asyncio.wait([task])
    return type(task.exception()).__name__


@workflow
async def cancels_itself(ctx: WorkflowContext) -> None:
    raise asyncio.CancelledError


@workflow
async def calls_unmarked(ctx: WorkflowContext) -> list[int]:
    return [await ctx.execute_activity(unmarked, 1), await ctx.execute_activity("work", 2)]


@workflow
async def names_twice(ctx: WorkflowContext) -> list[Any]:
    return await asyncio.gather(
        ctx.execute_activity(work, 1, id="same"),
        ctx.execute_activity(work, 2, id="other"),
        ctx.execute_activity(work, 3, id="2"),
        ctx.execute_activity(work, 4),
        ctx.execute_activity(told, 5, id="mine"),
    )


@workflow
async def long_messages(ctx: WorkflowContext) -> int:
    policy = RetryPolicy(max_attempts=0, initial_delay=0.001, backoff_coefficient=1)
    return await ctx.execute_activity(verbose, 60, retry=policy)


@workflow
async def out_of_time(ctx: WorkflowContext) -> list[Any]:
    # The second attempt has seconds to spare, and a third would begin long after the end.
    policy = RetryPolicy(max_attempts=0, initial_delay=0.2, backoff_coefficient=50)
    try:
        await ctx.execute_activity(refusing, retry=policy, total_timeout=4)
    except ActivityTimeoutError as error:
        return [error.attempts, error.cause.type, error.cause.message]
    return []


@workflow
async def hands_details_on(ctx: WorkflowContext) -> Any:
    return await ctx.execute_activity(beating, retry=RetryPolicy(2, initial_delay=0.01))


@workflow
async def hears_nothing(ctx: WorkflowContext) -> Any:
    try:
        await ctx.execute_activity(silent)
    except ActivityError as error:
        return [type(error).__name__, error.attempts, error.cause.message]


@workflow
async def ends_before_others(ctx: WorkflowContext) -> str:
    event = asyncio.Event()

    async def waits() -> None:
        await event.wait()
        await ctx.execute_activity(work, 1)

    asyncio.create_task(waits())  # noqa: RUF006 - it is left behind on purpose
    await ctx.execute_activity(work, 0)
    event.set()
    return "done"


@workflow
async def opens_a_socket(ctx: WorkflowContext) -> None:
    import socket

    socket.socket()


@workflow
async def uses_a_thread(ctx: WorkflowContext) -> None:
    await asyncio.to_thread(print)


@workflow
async def big_numbers(ctx: WorkflowContext) -> list[Any]:
    return [2**70, 1.5, None, "\u2028 ä", {"a": [{}]}, await ctx.execute_activity(work, 10**30)]


@workflow
async def same_names(ctx: WorkflowContext) -> list[int]:
    def made(more: int) -> Any:
        async def inner(number: int) -> int:
            await asyncio.sleep(0.02)
            return number + more

        return inner

    return await asyncio.gather(*(ctx.execute_activity(made(n * 10), 1) for n in range(5)))


@workflow
async def no_json(ctx: WorkflowContext) -> Any:
    return object()


WORKFLOWS = [
    exits,
    raises_outsider,
    child_exits,
    cancels_itself,
    calls_unmarked,
    names_twice,
    long_messages,
    out_of_time,
    hands_details_on,
    hears_nothing,
    ends_before_others,
    opens_a_socket,
    uses_a_thread,
    big_numbers,
    same_names,
    no_json,
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, temporal_server: DevServer) -> Iterator[Both]:
    both = Both(tmp_path_factory.mktemp("edges") / "state.db", temporal_server, WORKFLOWS)
    yield both
    both.close()


async def outcome(executor: DurableExecutor, function: Any) -> dict[str, Any]:
    """How a run ends, and what its history says of its activities."""
    handle = await executor.execute(function, id=str(uuid.uuid4()))
    with contextlib.suppress(RunParkedError):
        await executor.wait(handle.run_id, max_wait=LONGEST_S)
    info = await executor.describe(handle.run_id)
    events = await executor.history(handle.run_id)
    error = None if info.error is None else (info.error.type, info.error.message)
    return {
        "status": info.status,
        "result": info.result,
        "error": error,
        "problem": None if info.problem is None else (info.problem.code, info.problem.message),
        "ends": [type(x).__name__ for x in events if isinstance(x, e.ActivityFailed)],
        "late": [x.limit for x in events if isinstance(x, e.ActivityTimedOut)],
        "ids": sorted(x.activity_id for x in events if isinstance(x, e.ActivityScheduled)),
        "last": type(events[-1]).__name__,
    }


EXPECTED = {
    "exits": ("failed", ("SystemExit", "3")),
    "raises_outsider": ("failed", ("Outsider", "out")),
    "child_exits": ("completed", "SystemExit"),
    "cancels_itself": ("failed", ("CancelledError", "")),
    "calls_unmarked": ("completed", [2, 2]),
    "names_twice": ("completed", [1, 2, 3, 4, ["mine", True]]),
    "long_messages": ("completed", 60),
    "out_of_time": (
        "completed",
        [
            2,
            "TimeoutError",
            "total_timeout of 4s is over; the last error was ConnectionError: no line",
        ],
    ),
    "hands_details_on": ("completed", {"page": 7}),
    "hears_nothing": (
        "completed",
        ["ActivityTimeoutError", 1, "heartbeat_timeout of 300ms is over"],
    ),
    "ends_before_others": ("completed", "done"),
    "same_names": ("completed", [1, 11, 21, 31, 41]),
    "big_numbers": ("completed", [2**70, 1.5, None, "\u2028 ä", {"a": [{}]}, 10**30]),
}


@pytest.mark.parametrize("function", WORKFLOWS, ids=lambda function: function.__name__)
def test_edges(both: Both, function: Any) -> None:
    """The same end, result or error, and the same activities in the history."""
    local, remote = (both.call(outcome(x, function)) for x in both.executors.values())
    assert remote == local
    expected = EXPECTED.get(function.__name__)
    if expected is not None:
        shown = local["result"] if local["status"] == "completed" else local["error"]
        assert (local["status"], shown) == expected
