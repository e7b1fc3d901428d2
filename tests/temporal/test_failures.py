"""How activities fail, on both providers: large failures, and groups of exceptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    ApplicationError,
    RetryPolicy,
    WorkflowContext,
    WorkflowFailedError,
    activity,
    new_executor,
    workflow,
)

MOST = 3_000_000
LARGE = {"plain": "x", "wide": "\U0001f600", "escaped": "\0", "torn": "\udc80"}
CALLS: list[str] = []


@activity
async def large(kind: str) -> None:
    CALLS.append(kind)
    raise ValueError(LARGE[kind] * MOST)


@workflow
async def caught(ctx: WorkflowContext, kind: str) -> list[Any]:
    try:
        await ctx.execute_activity(large, kind, retry=RetryPolicy(2, initial_delay=0.01))
    except ActivityError as error:
        return [error.attempts, error.cause.type, error.cause.message]
    raise AssertionError


@workflow
async def uncaught(ctx: WorkflowContext, kind: str) -> None:
    raise ValueError(LARGE[kind] * MOST)


class Refused(ApplicationError):
    pass


def refused(**wishes: Any) -> ApplicationError:
    return Refused("no", **wishes)


# What is raised, and how often the activity is tried then.
GROUPS: dict[str, tuple[Callable[[], BaseException], int]] = {
    "one": (lambda: ExceptionGroup("g", [refused(non_retryable=True)]), 1),
    "beside another": (lambda: ExceptionGroup("g", [OSError(), refused(non_retryable=True)]), 1),
    "deep": (
        lambda: ExceptionGroup(
            "g", [ExceptionGroup("h", [refused(non_retryable=True)]), OSError()]
        ),
        1,
    ),
    "later": (lambda: ExceptionGroup("g", [refused(retry_after=0), refused(retry_after=0)]), 2),
    "retryable": (lambda: ExceptionGroup("g", [refused(), OSError()]), 2),
}


@activity
async def in_tasks(kind: str) -> None:
    CALLS.append(kind)
    error, _ = GROUPS[kind]

    async def raising() -> None:
        raise error()

    async with asyncio.TaskGroup() as group:
        group.create_task(raising())


@workflow
async def grouped(ctx: WorkflowContext, kind: str) -> int:
    # The delay is over in time only where `retry_after` is what counts.
    delay = "10m" if kind == "later" else 0.01
    try:
        await ctx.execute_activity(in_tasks, kind, retry=RetryPolicy(2, initial_delay=delay))
    except ActivityError as error:
        return error.attempts
    raise AssertionError


async def test_failures(either: dict[str, Any]) -> None:
    """A failure of megabytes is cut, and is one failure; wishes within groups count.

    FINDINGS A3, A7
    """
    CALLS.clear()
    workflows = [caught, uncaught, grouped]
    async with asyncio.timeout(60), new_executor(workflows=workflows, **either) as ex:
        handles = {kind: await ex.execute(caught, input=kind) for kind in LARGE}
        failing = {kind: await ex.execute(uncaught, input=kind) for kind in LARGE}
        groups = {kind: await ex.execute(grouped, input=kind) for kind in GROUPS}
        for kind, handle in handles.items():
            attempts, name, message = await handle.result()
            assert (attempts, name) == (2, "ValueError")
            assert "characters left out" in message
            assert len(message.encode()) < 11_000
            history = "".join([repr(event) for event in await ex.history(handle.run_id)])
            assert len(history) < 100_000
            assert CALLS.count(kind) == 2
        for handle in failing.values():
            with pytest.raises(WorkflowFailedError, match="characters left out"):
                await handle.result()
        for kind, handle in groups.items():
            assert (kind, await handle.result()) == (kind, GROUPS[kind][1])
            assert (kind, CALLS.count(kind)) == (kind, GROUPS[kind][1])
