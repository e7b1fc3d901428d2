"""What open runs do, and filters in place of RUN, on both providers. FINDINGS L9"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from belugawf import (
    RunEndedError,
    Signal,
    WorkflowContext,
    activity,
    new_executor,
    workflow,
)
from belugawf.executor import STATES, DurableExecutor

LONGEST_S = 40
GATE = asyncio.Event()
PARKED: list[bool] = []


@activity
async def held() -> None:
    await GATE.wait()


@workflow
async def working(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(held)


@workflow
async def asking(ctx: WorkflowContext) -> object:
    return (await ctx.wait_for_signal("answer")).payload


@workflow
async def sleeping(ctx: WorkflowContext) -> None:
    await (ctx.sleep("1h") if not PARKED else ctx.wait_for_signal("x"))


WORKFLOWS = [working, asking, sleeping]


@pytest.fixture(autouse=True)
def fresh() -> None:
    global GATE
    GATE = asyncio.Event()
    PARKED.clear()


async def until(executor: DurableExecutor, expected: Mapping[str, str | None]) -> None:
    """Lists are a little late on a server."""
    found: dict[str, str | None] = {}
    try:
        async with asyncio.timeout(LONGEST_S):
            while found != expected:
                await asyncio.sleep(0.1)
                found = {i.workflow_id: i.state for i in await executor.list(limit=None)}
    except TimeoutError:
        raise AssertionError(found) from None


async def test_states(either: dict[str, Any]) -> None:
    """Each is told, found and counted alike."""
    executor = new_executor(**either, workflows=WORKFLOWS)
    async with executor:
        try:
            await executor.execute(working, id="works")
            await executor.execute(asking, id="asks")
            await executor.execute(sleeping, id="sleeps")
            await executor.execute(asking, id="ended")
            await executor.terminate("ended")
            expected = {"works": "working", "asks": "waiting", "sleeps": "waiting", "ended": None}
            await executor.wait("asks", until="waiting", max_wait=LONGEST_S)
            await until(executor, expected)
            for state in STATES:
                runs = {run for run, theirs in expected.items() if theirs == state}
                assert {i.workflow_id for i in await executor.list(state=state)} == runs
                assert await executor.count(state=state, limit=9) == len(runs)
                assert len(await executor.select(state=state)) == len(runs)
            assert (await executor.summary()).states == {"working": 1, "waiting": 2}
        finally:
            GATE.set()


async def test_due_and_parked(either: dict[str, Any]) -> None:
    """Nobody takes it; and the code no longer fits."""
    async with new_executor(**either, workflows=WORKFLOWS) as executor:
        await executor.execute(sleeping, id="a")
        await executor.wait("a", until="rest", patience=0, max_wait=LONGEST_S)
    async with new_executor(**either) as executor:
        # Whoever is asked for it needs no workflow: it is only recorded.
        await executor.cancel("a", drive=False)
        await until(executor, {"a": "due"})
    PARKED.append(True)
    async with new_executor(**either, workflows=WORKFLOWS) as executor:
        await executor.resume("a")
        assert (await executor.describe("a")).state == "parked"
        await until(executor, {"a": "parked"})
        assert len(await executor.list(state="parked")) == 1


async def test_changing_many(either: dict[str, Any]) -> None:
    """What filters find is reached, and says why not."""
    async with new_executor(**either, workflows=WORKFLOWS) as executor:
        for run, team in (("a", "red"), ("b", "red"), ("c", "blue")):
            await executor.execute(asking, id=run, labels={"team": team})
            await executor.wait(run, until="waiting", max_wait=LONGEST_S)
        await until(executor, dict.fromkeys("abc", "waiting"))
        red = {"labels": {"team": "red"}}
        runs = await executor.select(awaiting="answer", **red)
        assert len(runs) == 2
        assert await executor.select(awaiting="other") == []
        assert await executor.select(until="1h") == []
        assert len(await executor.select(since="1h", until="0s")) == 3
        sent = await executor.signal_many(runs, Signal("answer", 1))
        assert (set(sent.done), sent.refused, sent.left) == (set(runs), {}, 0)
        for run in ("a", "b"):
            assert await executor.handle(run).result() == 1
        again = await executor.terminate_many(runs)
        assert again.done == []
        assert {type(error) for error in again.refused.values()} == {RunEndedError}
        (blue,) = await executor.select(status="running", workflow="asking")
        assert (await executor.cancel_many([blue])).done == [blue]
        with pytest.raises(TypeError, match="lable"):
            await executor.list(lable="x")  # type: ignore[call-arg]
