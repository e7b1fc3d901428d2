"""Runs whose code is wrong, from Python: who waits is told, and what was recorded counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import Client

from belugawf import (
    RunParkedError,
    WorkflowContext,
    WorkflowFailedError,
    activity,
    new_executor,
    workflow,
)
from belugawf.authoring.loader import Catalog
from tests.devserver import DevServer
from tests.temporal.test_replay import replayed

GATES: list[asyncio.Event] = []
DONE: list[str] = []


@activity
async def slow() -> None:
    DONE.append("started")
    await GATES[-1].wait()
    DONE.append("ended")


@workflow
async def wrong(ctx: WorkflowContext) -> None:
    missing  # noqa: B018, F821


@workflow
async def wrong_beside(ctx: WorkflowContext) -> None:
    ctx.start_activity(slow)
    await ctx.sleep(0.01)
    missing  # noqa: B018, F821


async def test_whoever_waits_is_told(either: dict[str, Any]) -> None:
    """The result of a parked run is an error, with the author's traceback."""
    async with new_executor(**either, workflows=[wrong]) as executor:
        handle = await executor.execute(wrong, id="w")
        for waiting in (handle.result(), executor.wait("w"), executor.wait("w", until="waiting")):
            with pytest.raises(RunParkedError, match="name 'missing' is not defined") as raised:
                await asyncio.wait_for(waiting, 60)
            assert (raised.value.problem, raised.value.exit_code) == ("code_error", 13)
            assert raised.value.traceback is not None
            assert "missing  # noqa" in raised.value.traceback
        assert await handle.status() == "running"
        shown = await executor.wait("w", until="rest")
        assert shown.problem is not None
        assert shown.problem.traceback == raised.value.traceback


async def test_who_waits_from_the_start_is_told(either: dict[str, Any]) -> None:
    """The run is parked while it is waited for."""
    async with new_executor(**either, workflows=[wrong]) as executor:
        await executor.execute(wrong, id="w")
        with pytest.raises(RunParkedError):
            await asyncio.wait_for(executor.wait("w"), 60)


async def test_what_is_in_flight_is_waited_for(either: dict[str, Any]) -> None:
    """While an attempt is at work for the run, it is not over."""
    GATES.append(asyncio.Event())
    DONE.clear()
    async with new_executor(**either, workflows=[wrong_beside]) as executor:
        handle = await executor.execute(wrong_beside, id="w")
        async with asyncio.timeout(60):
            while not DONE or (await executor.describe("w")).problem is None:
                # The run is driven by others meanwhile, and says when it has its problem.
                await asyncio.sleep(0.01)
        waiting = asyncio.create_task(handle.result())
        done, _ = await asyncio.wait([waiting], timeout=1.5)  # longer than a look at the run takes
        GATES[-1].set()
        assert not done
        with pytest.raises(RunParkedError):
            await asyncio.wait_for(waiting, 60)
        assert DONE == ["started", "ended"]


async def _fails(ctx: WorkflowContext) -> None:
    await ctx.sleep(0.01)
    missing  # noqa: B018, F821


async def _fails_early(ctx: WorkflowContext) -> None:
    missing  # noqa: B018, F821


async def _goes_on(ctx: WorkflowContext) -> None:
    await ctx.sleep(0.01)


def changing(function: Any, **options: Any) -> Any:
    """The workflow of that name with this code."""
    return workflow(name="changing", **options)(function)


async def test_a_recorded_failure_is_replayed(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """A version that parked no runs has recorded that they failed, and so they have."""
    place: Any = {"host": temporal_server.address, "namespace": temporal_namespace}
    failing = changing(_fails, park=False)
    async with new_executor("temporal", **place, workflows=[failing]) as executor:
        handle = await executor.execute(failing, id="w")
        with pytest.raises(WorkflowFailedError, match="missing"):
            await asyncio.wait_for(handle.result(), 60)
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    history = await client.get_workflow_handle("w").fetch_history()

    async def again(function: Any) -> str:
        return str(await replayed(history, Catalog.from_functions([changing(function)])))

    assert await again(_fails) == "None"
    assert "no longer matches" in await again(_goes_on)
    assert "name 'missing' is not defined" in await again(_fails_early)
