"""What one turn asks for may be more than the server takes with it: the rest comes a turn later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.model import events as e
from belugawf.temporal import scheduling
from tests.devserver import DevServer

LARGE = 1_500_000
LONGEST_S = 60


@activity
async def length(text: str) -> int:
    return len(text)


@workflow
async def large_arguments(ctx: WorkflowContext, count: int) -> int:
    texts = ["x" * LARGE] * count
    return sum(await asyncio.gather(*(ctx.execute_activity(length, text) for text in texts)))


@workflow
async def large_result(ctx: WorkflowContext) -> str:
    tasks = [asyncio.create_task(ctx.execute_activity(length, "x" * LARGE)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return "y" * LARGE


@workflow
async def cancels_some(ctx: WorkflowContext) -> list[Any]:
    tasks = [asyncio.create_task(ctx.execute_activity(length, "x" * LARGE)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    return [type(x).__name__ for x in await asyncio.gather(*tasks, return_exceptions=True)]


@workflow
async def many(ctx: WorkflowContext, count: int) -> int:
    texts = ["x"] * count
    return sum(await asyncio.gather(*(ctx.execute_activity(length, text) for text in texts)))


async def result_of(
    server: DevServer, namespace: str, function: Any, **options: Any
) -> tuple[Any, list[e.Event]]:
    # Each turn is a replay: what is put off, is put off again.
    executor = new_executor(
        "temporal", host=server.address, namespace=namespace, workflows=[function], cache_runs=0
    )
    async with executor:
        handle = await executor.execute(function, id="large", **options)
        result = await asyncio.wait_for(handle.result(), LONGEST_S)
        return result, list(await executor.history("large"))


async def test_arguments(temporal_server: DevServer, temporal_namespace: str) -> None:
    """Three of 1.5 MB are more than 4 MiB together."""
    # FINDINGS P8
    result, events = await result_of(temporal_server, temporal_namespace, large_arguments, input=3)
    assert result == 3 * LARGE
    kinds = [type(event) for event in events]
    assert kinds.count(e.ActivityScheduled) == 3
    assert kinds[3] is e.TimerStarted


async def test_a_result(temporal_server: DevServer, temporal_namespace: str) -> None:
    """Beside arguments of the same turn."""
    # FINDINGS P8
    result, _ = await result_of(temporal_server, temporal_namespace, large_result)
    assert result == "y" * LARGE


async def test_cancelled_before_it_was_asked_for(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """The server never learns of it."""
    # FINDINGS P8
    result, events = await result_of(temporal_server, temporal_namespace, cancels_some)
    assert result == ["int", "int", "int", "CancelledError", "int"]
    assert sum(isinstance(event, e.ActivityScheduled) for event in events) == 4


async def test_open_activities(
    temporal_server: DevServer, temporal_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes 2,000 of one run; here a few stand for them."""
    # FINDINGS P8
    monkeypatch.setattr(scheduling, "_MOST_OPEN", 5)
    result, events = await result_of(temporal_server, temporal_namespace, many, input=23)
    assert result == 23
    is_open = most = 0
    for event in events:
        is_open += isinstance(event, e.ActivityScheduled)
        is_open -= isinstance(event, e.ActivityCompleted)
        most = max(most, is_open)
    assert most == 5
