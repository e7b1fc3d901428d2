"""`retry` on a server: a reset at the workflow task before the failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    RefusedError,
    RunParkedError,
    UsageError,
    WorkflowContext,
    WorkflowFailedError,
    activity,
    new_executor,
    workflow,
)
from belugawf.executor import RunInfo
from belugawf.model import events as e
from belugawf.temporal.executor import TemporalExecutor
from tests.devserver import DevServer

LONGEST_S = 60
# What was done, by name and idempotency key; what is broken.
DONE: list[tuple[str, str]] = []
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()
    BROKEN.clear()


def names() -> list[str]:
    return [name for name, _ in DONE]


@activity
async def do(name: str) -> str:
    DONE.append((name, activity.info().idempotency_key))
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return name


@asynccontextmanager
async def at(server: DevServer, namespace: str, *workflows: Any) -> AsyncIterator[TemporalExecutor]:
    place: Any = {"host": server.address, "namespace": namespace}
    async with new_executor("temporal", **place, workflows=list(workflows)) as executor:
        assert isinstance(executor, TemporalExecutor)
        async with asyncio.timeout(LONGEST_S):
            yield executor


@workflow
async def payment(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(do, "reserve")
    await ctx.execute_activity(do, "pay")
    return await ctx.execute_activity(do, "tell")


async def test_failed_in_the_last_activity(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """What had completed is not done again, what failed is, with its key; by any of its ids."""
    BROKEN.add("tell")
    async with at(temporal_server, temporal_namespace, payment) as executor:
        handle = await executor.execute(payment, id="p")
        with pytest.raises(WorkflowFailedError, match="tell is broken"):
            await handle.result()
        still = await executor.retry("p")
        assert still.run_id != handle.run_id
        with pytest.raises(WorkflowFailedError, match="tell is broken"):
            await executor.handle("p").result()
        BROKEN.clear()
        await executor.retry(handle.run_id, reason="the mail server is back", by="ada")
        assert await handle.result() == "tell"
        assert names() == ["reserve", "pay", "tell", "tell", "tell"]
        assert len(set(DONE)) == 3
        ids = {(await executor.describe(id)).run_id for id in ("p", handle.run_id, still.run_id)}
        assert len(ids) == 1


@workflow(timeout="4s")
async def slow(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(do, "first")
    if "time" in BROKEN:
        await ctx.sleep("1h")
    return await ctx.execute_activity(do, "second")


async def test_timed_out(temporal_server: DevServer, temporal_namespace: str) -> None:
    """It has once more the time that it began with, and the server lets it have no other."""
    BROKEN.add("time")
    async with at(temporal_server, temporal_namespace, slow) as executor:
        handle = await executor.execute(slow, id="s")
        ended = await executor.wait("s")
        assert ended.status == "timed_out" and ended.deadline is not None
        with pytest.raises(UsageError, match="timeout"):
            await executor.retry("s", timeout="1h")
        again = await executor.retry("s")
        assert again.deadline is not None and again.deadline > ended.deadline
        late = await executor.wait("s")
        assert (late.run_id, late.status) == (again.run_id, "timed_out")
        BROKEN.clear()
        info = await executor.retry("s")
        assert info.deadline is not None and info.deadline > ended.deadline
        assert await handle.result() == "second"
        assert names() == ["first", "second"]


@workflow
async def cancellable(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(do, "first")
    await ctx.wait_for_signal("go")
    return await ctx.execute_activity(do, "second")


async def test_cancelled(temporal_server: DevServer, temporal_namespace: str) -> None:
    """The request to stop is left out, and what it was waiting for is waited for again."""
    async with at(temporal_server, temporal_namespace, cancellable) as executor:
        handle = await executor.execute(cancellable, id="c")
        await executor.wait("c", until="signal:go")
        await executor.cancel("c")
        assert (await executor.wait("c")).status == "cancelled"
        info = await executor.retry("c")
        assert (info.status, info.cancel_requested) == ("running", False)
        await executor.wait("c", until="signal:go")
        await executor.signal(handle.run_id, "go")
        assert await handle.result() == "second"
        assert names() == ["first", "second"]


async def test_a_signal_that_came_late(temporal_server: DevServer, temporal_namespace: str) -> None:
    """What came after the point is delivered again."""
    BROKEN.add("second")
    async with at(temporal_server, temporal_namespace, cancellable) as executor:
        await executor.execute(cancellable, id="c")
        await executor.signal("c", "go")
        assert (await executor.wait("c")).status == "failed"
        BROKEN.clear()
        await executor.retry("c", from_position=2)
        assert await executor.handle("c").result() == "second"
        assert names() == ["first", "second", "first", "second"]


@workflow
async def parked(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(do, "first")
    if "code" in BROKEN:
        return missing  # noqa: F821
    return await ctx.execute_activity(do, "second")


async def test_parked(temporal_server: DevServer, temporal_namespace: str) -> None:
    """The refused turn is handed out at once; elsewhere, the server would wait for minutes."""
    BROKEN.add("code")
    async with at(temporal_server, temporal_namespace, parked) as executor:
        handle = await executor.execute(parked, id="p")
        with pytest.raises(RunParkedError):
            await handle.result()
        BROKEN.clear()
        assert (await executor.retry("p")).problem is None
        assert await handle.result() == "second"
        assert names() == ["first", "second"]


@workflow
async def undoing(ctx: WorkflowContext) -> str:
    reserved = await ctx.execute_activity(do, "reserve", id="reserve")
    try:
        return await ctx.execute_activity(do, "pay")
    except ActivityError:
        await ctx.execute_activity(do, f"undo {reserved}")
        raise


async def test_what_has_completed_since(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """It would be done again: that is listed, and refused unless it is wanted."""
    BROKEN.add("pay")
    async with at(temporal_server, temporal_namespace, undoing) as executor:
        await executor.execute(undoing, id="u")
        assert (await executor.wait("u")).status == "failed"
        with pytest.raises(RefusedError, match=r"doing again what has completed: do \(event 7\)\n"):
            await executor.retry("u")
        BROKEN.clear()
        await executor.retry("u", discard=True)
        assert await executor.handle("u").result() == "pay"
        assert names() == ["reserve", "pay", "undo reserve", "pay"]


async def test_from_a_position(temporal_server: DevServer, temporal_namespace: str) -> None:
    """What is at the position, and after it, is gone over again: whoever names it knows that."""
    BROKEN.add("tell")
    async with at(temporal_server, temporal_namespace, payment) as executor:
        await executor.execute(payment, id="p")
        assert (await executor.wait("p")).status == "failed"
        history = await executor.history("p")
        scheduled = [event for event in history if isinstance(event, e.ActivityScheduled)]
        BROKEN.clear()
        for position in (1, len(history) + 1):
            with pytest.raises(UsageError, match="is not between 2 and"):
                await executor.retry("p", from_position=position)
        await executor.retry("p", from_position=scheduled[1].position)
        assert await executor.handle("p").result() == "tell"
        assert names() == ["reserve", "pay", "tell", "pay", "tell"]
        assert len(set(DONE)) == 3


async def test_what_is_refused(temporal_server: DevServer, temporal_namespace: str) -> None:
    """A run that goes on, has completed, was terminated, or was followed by another."""
    async with at(temporal_server, temporal_namespace, cancellable) as executor:
        first = await executor.execute(cancellable, id="c")
        await executor.wait("c", until="signal:go")
        with pytest.raises(RefusedError, match="runs, and is not parked"):
            await executor.retry("c")
        await executor.cancel("c")
        await executor.wait("c")
        second = await executor.execute(cancellable, id="c", if_exists="replace")
        with pytest.raises(RefusedError, match="not the last one"):
            await executor.retry(first.run_id)
        await executor.signal("c", "go")
        await second.result()
        with pytest.raises(RefusedError, match="is completed"):
            await executor.retry("c")
        await executor.execute(cancellable, id="d")
        await executor.terminate("d")
        with pytest.raises(RefusedError, match="is terminated") as raised:
            await executor.retry("d")
        assert raised.value.hint == "belugawf rerun d"


async def test_two_at_once(temporal_server: DevServer, temporal_namespace: str) -> None:
    """Both take up the same run, once."""
    BROKEN.add("tell")
    async with at(temporal_server, temporal_namespace, payment) as executor:
        await executor.execute(payment, id="p")
        assert (await executor.wait("p")).status == "failed"
        BROKEN.clear()
        one, two = await asyncio.gather(
            executor.retry("p"), executor.retry("p"), return_exceptions=True
        )
        ids = {info.run_id for info in (one, two) if isinstance(info, RunInfo)}
        assert len(ids) == 1
        assert all(isinstance(it, RunInfo | RefusedError) for it in (one, two))
        assert await executor.handle("p").result() == "tell"
        assert names() == ["reserve", "pay", "tell", "tell"]


@workflow
async def fan_out(ctx: WorkflowContext) -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(late(ctx, name)) for name in ("a", "b", "c")]
    return [task.result() for task in tasks]


async def late(ctx: WorkflowContext, name: str) -> str:
    await ctx.sleep({"a": 0.01, "b": 0.3, "c": 0.6}[name])
    return await ctx.execute_activity(do, name)


async def test_a_fan_out(temporal_server: DevServer, temporal_namespace: str) -> None:
    """Of its members, only those that had not completed are done again."""
    BROKEN.add("c")
    async with at(temporal_server, temporal_namespace, fan_out) as executor:
        await executor.execute(fan_out, id="f")
        assert (await executor.wait("f")).status == "failed"
        assert names() == ["a", "b", "c"]
        BROKEN.clear()
        await executor.retry("f")
        assert await executor.handle("f").result() == ["a", "b", "c"]
        assert names() == ["a", "b", "c", "c"]


async def test_one_that_no_worker_ever_took(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """There is nothing to take up."""
    async with at(temporal_server, temporal_namespace, payment) as executor:
        await executor.execute(payment, id="p", timeout=0.5, detach=True)
        assert (await executor.wait("p")).status == "timed_out"
        with pytest.raises(RefusedError, match="nothing of it was done"):
            await executor.retry("p")
