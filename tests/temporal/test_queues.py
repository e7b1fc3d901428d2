"""Activities on another task queue: of a second worker of ours, and of another SDK's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from temporalio import activity as theirs
from temporalio.client import Client
from temporalio.worker import Worker

from belugawf import RetryPolicy, WorkflowContext, activity, new_executor, workflow
from belugawf.executor import DurableExecutor, Hooks
from belugawf.model import events as e
from belugawf.model.errors import ActivityError
from tests.devserver import DevServer

OWN = "beluga-tasks"
OTHER = "render-farm"
LONGEST_S = 60
tries: list[int] = []


@activity
async def here(word: str) -> str:
    return word


@activity(task_queue=OTHER, retry=RetryPolicy(3, initial_delay=0.1))
async def there(word: str) -> str:
    if activity.info().attempt == 1:
        raise ConnectionError("not yet")
    return word


@workflow
async def on_both(ctx: WorkflowContext) -> list[str]:
    return [
        await ctx.execute_activity(here, "a"),
        await ctx.execute_activity(here, "b", task_queue=OTHER),
        await ctx.start_activity("here", "c", task_queue=OTHER),
        await ctx.execute_activity(there, "d"),
        await ctx.execute_activity(there, "e", task_queue=OWN),
        await ctx.execute_activity(there, "f", timeout="1m"),
    ]


@workflow
async def of_others(ctx: WorkflowContext, name: str) -> Any:
    policy = RetryPolicy(2, initial_delay=0.1)
    try:
        return await ctx.execute_activity(name, "x", retry=policy, task_queue=OTHER)
    except ActivityError as error:
        return f"{error.cause.type}: {error.cause.message}"


@workflow
async def keeps_it_to_itself(ctx: WorkflowContext) -> str:
    @activity
    async def inner() -> str:
        return "inner"

    return await ctx.execute_activity(inner, task_queue=OTHER)


WORKFLOWS: list[Callable[..., Any]] = [on_both, of_others, keeps_it_to_itself]


def executor_on(
    queue: str, server: DevServer, namespace: str, taken: list[str] | None = None
) -> DurableExecutor:
    """An executor whose worker notes which activities it is handed."""

    def note(about: Mapping[str, Any]) -> None:
        if taken is not None:
            taken.append(about["activity"])

    return new_executor(
        "temporal",
        host=server.address,
        namespace=namespace,
        task_queue=queue,
        workflows=WORKFLOWS,
        hooks=[Hooks(on_activity_start=note)],
    )


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not await look():
            await asyncio.sleep(0.05)


async def test_a_second_worker_serves_it(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """By function, by name and by the decorator, which the call overrides."""
    # FINDINGS P11
    ours: list[str] = []
    others: list[str] = []
    async with (
        executor_on(OWN, temporal_server, temporal_namespace, ours) as executor,
        executor_on(OTHER, temporal_server, temporal_namespace, others) as second,
    ):
        handle = await executor.execute(on_both, id="both")

        async def unattended() -> bool:
            return (await handle.describe()).unattended is not None

        await eventually(unattended)
        info = await handle.describe()
        assert info.unattended == f"no worker answers on task queue {OTHER!r}"
        # It waits for none that is not there.
        await asyncio.wait_for(executor.resume("both"), LONGEST_S)
        serving = asyncio.create_task(second.work())
        async with asyncio.timeout(LONGEST_S):
            assert await handle.result() == ["a", "b", "c", "d", "e", "f"]
        serving.cancel()
        await asyncio.wait([serving])
        assert ours == ["here", "there", "there"]
        assert others == ["here", "here", "there", "there", "there", "there"]
        failed = [
            event for event in await executor.history("both") if isinstance(event, e.AttemptFailed)
        ]
        assert len(failed) == 3


async def test_workers_of_another_sdk(temporal_server: DevServer, temporal_namespace: str) -> None:
    """They are silent for longer than ours may be, and know nothing of our headers."""

    # FINDINGS P11
    @theirs.defn
    async def shouts(word: str) -> str:
        await asyncio.sleep(4)  # a worker of ours is taken for dead after 2 s, in these tests
        assert theirs.info().attempt == 1
        return word.upper()

    @theirs.defn
    async def fails(word: str) -> str:
        tries.append(theirs.info().attempt)
        raise ConnectionError(f"no {word}")

    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    async with (
        executor_on(OWN, temporal_server, temporal_namespace) as executor,
        Worker(client, task_queue=OTHER, activities=[shouts, fails]),
        asyncio.timeout(LONGEST_S),
    ):
        first = await executor.execute(of_others, id="shouts", input="shouts")
        second = await executor.execute(of_others, id="fails", input="fails")
        assert await first.result() == "X"
        assert await second.result() == "ConnectionError: no x"
        assert tries == [1, 2]
        types = [type(event).__name__ for event in await executor.history("shouts")]
        assert types[1:3] == ["ActivityScheduled", "ActivityCompleted"]


async def test_a_function_that_nobody_else_can_find(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """It would be handed from worker to worker for ever."""
    # FINDINGS P11
    async with executor_on(OWN, temporal_server, temporal_namespace) as executor:
        handle = await executor.execute(keeps_it_to_itself, id="inner")
        info = await executor.wait("inner", until="rest", max_wait=LONGEST_S)
        assert info.problem is not None
        assert info.problem.code == "activity_not_found"
        assert f"no worker of task queue {OTHER!r} can find" in info.problem.message
        await handle.terminate()


async def test_one_queue_on_the_default_provider(tmp_path: Path) -> None:
    """It has no effect, and is not recorded."""
    # FINDINGS P11
    database = tmp_path / "state.db"
    async with new_executor("default", db=database, workflows=WORKFLOWS) as executor:
        handle = await executor.execute(on_both, id="both")
        assert await handle.result() == ["a", "b", "c", "d", "e", "f"]
    assert OTHER.encode() not in database.read_bytes()
