"""Histories from the server are replayed by the SDK's own Replayer against the code as it is."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from belugawf import Signal, WorkflowContext, activity, new_executor, workflow
from belugawf.authoring.loader import Catalog
from belugawf.executor.options import EngineOptions
from belugawf.model.messages import UNSET
from belugawf.temporal.environment import Environment
from belugawf.temporal.headers import Headers
from belugawf.temporal.instance import Runner
from belugawf.temporal.passing import Passing
from belugawf.temporal.runtime import DurableRun
from tests.devserver import DevServer, new_namespace

EXAMPLES = Path(__file__).parents[2] / "workflows"


@activity
async def step(name: str) -> str:
    return name


@activity
async def late(number: int) -> int:
    await asyncio.sleep(30)
    return number


async def held(ctx: WorkflowContext, number: int) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await ctx.execute_activity(step, f"cleanup {number}")


@workflow
async def many_ways(ctx: WorkflowContext) -> list[str]:
    """Timers, waits, cancelled activities, and twelve tasks that are cancelled as a set."""
    said = [await ctx.execute_activity(step, "first")]
    try:
        async with asyncio.timeout(0.05):
            await ctx.execute_activity(late, 1)
    except TimeoutError:
        said.append("late")
    try:
        async with asyncio.timeout(0.05), asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(held(ctx, number))
    except TimeoutError:
        said.append("twelve")
    signal = await ctx.wait_for_signal("go", timeout="1h")
    said.append(signal.payload)
    return said


async def recorded(
    server: DevServer,
    workflows: Any,
    name: Any,
    *,
    input: Any = UNSET,
    signal: str | None = None,
) -> WorkflowHistory:
    """Run it on the server, and fetch its history."""
    namespace = await asyncio.to_thread(new_namespace, server.address)
    run = str(uuid.uuid4())
    async with new_executor(
        "temporal", host=server.address, namespace=namespace, workflows=workflows
    ) as executor:
        handle = await executor.execute(name, id=run, input=input)
        if signal is not None:
            await executor.wait(run, until=f"signal:{signal}", max_wait=60)
            await executor.signal(run, Signal(signal, "yes"))
        await asyncio.wait_for(handle.result(), 60)
    client = await Client.connect(server.address, namespace=namespace)
    return await client.get_workflow_handle(run).fetch_history()


async def replayed(
    history: WorkflowHistory, catalog: Catalog, *, compared: bool = True
) -> Exception | None:
    """What the replay complains of; `compared` is with our own comparison."""

    async def fetch(workflow_id: str, run_id: str) -> Sequence[HistoryEvent]:
        if not compared:
            raise LookupError("not to be had")
        return history.events

    environment = Environment(catalog, EngineOptions(), (), fetch)
    replayer = Replayer(
        workflows=[DurableRun],
        workflow_runner=Runner(environment),
        interceptors=[Headers()],
        data_converter=Passing().converter(),
    )
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    return result.replay_failure


async def test_examples_replay(temporal_server: DevServer) -> None:
    """The nightly report, with its fan-out, retries, durable sleeps and failures."""
    quick = {"pause": "1s", "retry_delay": "10ms"}
    history = await recorded(temporal_server, EXAMPLES, "nightly_report", input=quick)
    assert len(history.events) > 20
    assert await replayed(history, Catalog.from_folder(EXAMPLES)) is None


async def test_order_is_the_same_each_time(temporal_server: DevServer) -> None:
    """Twelve tasks cancelled as a set end in one order, in twenty replays of one history."""
    history = await recorded(temporal_server, [many_ways], many_ways, signal="go")
    catalog = Catalog.from_functions([many_ways])
    for compared in (True, False) * 10:
        assert await replayed(history, catalog, compared=compared) is None


def changed(change: Callable[[WorkflowContext], Any]) -> Catalog:
    """A catalog in which `many_ways` begins with something else."""

    @workflow(name="many_ways")
    async def other(ctx: WorkflowContext) -> list[str]:
        await change(ctx)
        return await many_ways(ctx)

    return Catalog.from_functions([other])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ctx: ctx.execute_activity(late, 2), ["activity 'step'", "activity 'late'"]),
        (lambda ctx: ctx.execute_activity(step, "other"), ["'step' with other arguments"]),
        (lambda ctx: ctx.sleep(1), ["activity 'step'", "a timer of 1 s"]),
        (lambda ctx: ctx.wait_for_signal("new"), ["activity 'step'", "a wait for signal 'new'"]),
    ],
    ids=["activity", "arguments", "timer", "wait"],
)
async def test_changed_code_is_refused(
    temporal_server: DevServer, change: Callable[[WorkflowContext], Any], words: list[str]
) -> None:
    """What was recorded, what is asked for, and the line are named, as on the local provider."""
    history = await recorded(temporal_server, [many_ways], many_ways, signal="go")
    failure = str(await replayed(history, changed(change)))
    assert "the code no longer matches the history: event 2 recorded" in failure
    for word in words:
        assert word in failure
    assert f"{Path(__file__).name}:" in failure


async def test_the_sdk_compares_as_well(temporal_server: DevServer) -> None:
    """Where the history cannot be had for our comparison, the SDK's own refuses."""
    history = await recorded(temporal_server, [many_ways], many_ways, signal="go")
    failure = await replayed(history, changed(lambda ctx: ctx.sleep(1)), compared=False)
    assert "ondeterminis" in str(failure)


@pytest.mark.parametrize("queries", [1, 5, 9, 14, 20, 27])
async def test_queries_shift_nothing(temporal_server: DevServer, queries: int) -> None:
    """However often a run was asked, its tasks are numbered as on a replay, which is not asked."""
    namespace = await asyncio.to_thread(new_namespace, temporal_server.address)
    place = {"host": temporal_server.address, "namespace": namespace}
    async with new_executor("temporal", **place, workflows=[asked]) as executor:
        handle = await executor.execute(asked, id="asked")
        await executor.wait("asked", until="signal:go", max_wait=60)
        for _ in range(queries):
            assert await executor.query("asked", "count") == 7
        await executor.signal("asked", Signal("go"))
        await asyncio.wait_for(handle.result(), 60)
    client = await Client.connect(temporal_server.address, namespace=namespace)
    history = await client.get_workflow_handle("asked").fetch_history()
    assert await replayed(history, Catalog.from_functions([asked])) is None


@workflow
async def asked(ctx: WorkflowContext) -> None:
    """Cancels seven tasks as a set, each of which then asks for something."""
    ctx.set_query("count", lambda: 7)
    await ctx.wait_for_signal("go")
    try:
        async with asyncio.timeout(0.01), asyncio.TaskGroup() as group:
            for number in range(7):
                group.create_task(held(ctx, number))
    except TimeoutError:
        pass


LET_GO: list[str] = []


@workflow
async def resting(ctx: WorkflowContext) -> None:
    try:
        await ctx.wait_for_signal("never")
    except Exception as error:
        LET_GO.append(f"heard {error!r}")
    finally:
        LET_GO.append("unwound")


async def test_leaving_unwinds_what_is_in_memory(temporal_server: DevServer) -> None:
    """When the executor is left, its runs hear of nothing that they could catch as an error."""
    LET_GO.clear()
    namespace = await asyncio.to_thread(new_namespace, temporal_server.address)
    place = {"host": temporal_server.address, "namespace": namespace}
    async with new_executor("temporal", **place, workflows=[resting]) as executor:
        await executor.execute(resting, id="rests")
        await executor.wait("rests", until="signal:never", max_wait=60)
        assert LET_GO == []
    assert LET_GO == ["unwound"]


@workflow
async def fickle(ctx: WorkflowContext) -> None:
    """Begins and cancels in one turn, with and without something in between."""
    for rounds in range(3):
        task = ctx.start_activity(late, rounds)
        timer = asyncio.create_task(asyncio.sleep(60))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        timer.cancel()
        await asyncio.wait([task, timer])
        await ctx.execute_activity(step, f"round {rounds}")
    waiting = asyncio.create_task(ctx.wait_for_signal("never", timeout="1h"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    held = ctx.start_activity(late, 9)
    await ctx.execute_activity(step, "beside")
    held.cancel()
    await asyncio.wait([held])
    await ctx.execute_activity(step, "last")


async def test_begun_and_cancelled_in_one_turn(temporal_server: DevServer) -> None:
    """What the server never saw is no difference, nor what it saw cancelled."""
    history = await recorded(temporal_server, [fickle], fickle)
    assert await replayed(history, Catalog.from_functions([fickle])) is None
    assert await replayed(history, Catalog.from_functions([fickle]), compared=False) is None
