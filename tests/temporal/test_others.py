"""What other clients and the server's own tools ask for holds, and nobody waits for it in vain."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import workflow as sdk
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    UpdateActivityOptionsRequest,
)
from temporalio.client import Client
from temporalio.common import RetryPolicy as TheirPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from belugawf import RetryPolicy, WorkflowContext, activity, new_executor, workflow
from belugawf.executor import DurableExecutor
from tests.devserver import DevServer

QUEUE = "beluga-tasks"
LONGEST_S = 30
called: list[float] = []


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    called.clear()


@activity
async def fails_often(times: int) -> int:
    called.append(time.monotonic())
    if len(called) <= times:
        raise ConnectionError(f"no line {len(called)}")
    return len(called)


@workflow
async def asks(ctx: WorkflowContext, delay: float) -> int:
    policy = RetryPolicy(3, initial_delay=delay)
    return await ctx.execute_activity(fails_often, 4, retry=policy)


@workflow
async def fails_once(ctx: WorkflowContext) -> str:
    called.append(0)
    if len(called) == 1:
        raise ValueError("the first run fails")
    return "done"


@sdk.defn(name="theirs")
class Theirs:
    @sdk.run
    async def run(self, times: int) -> int:
        number: int = await sdk.execute_activity(
            "fails_often",
            times,
            task_queue=QUEUE,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=TheirPolicy(
                initial_interval=timedelta(milliseconds=200), backoff_coefficient=1
            ),
        )
        return number


@asynccontextmanager
async def opened(
    server: DevServer, namespace: str
) -> AsyncIterator[tuple[DurableExecutor, Client]]:
    executor = new_executor(
        "temporal", host=server.address, namespace=namespace, workflows=[asks, fails_once]
    )
    client = await Client.connect(server.address, namespace=namespace)
    async with executor:
        yield executor, client


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    end = time.monotonic() + LONGEST_S
    while not (found := await look()):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize(
    "later", [{"start_delay": timedelta(hours=1)}, {"cron_schedule": "0 0 1 1 *"}]
)
async def test_a_run_that_begins_later(
    temporal_server: DevServer, temporal_namespace: str, later: Any
) -> None:
    """`resume` does not wait for it, named or not; `status` says what it waits for."""
    # FINDINGS P3
    async with opened(temporal_server, temporal_namespace) as (executor, client):
        await client.start_workflow("fails_once", id="later", task_queue=QUEUE, **later)
        await asyncio.wait_for(executor.resume("later"), LONGEST_S)

        async def listed() -> Any:
            return await executor.list()

        await eventually(listed)
        await asyncio.wait_for(executor.resume(), LONGEST_S)
        info = await executor.wait("later", until="rest", max_wait=LONGEST_S)
        [wait] = info.waiting_for
        assert (info.status, wait.kind, wait.name) == ("running", "timer", "its start")
        assert wait.until is not None
        assert wait.until > info.created_at
        assert called == []


async def test_a_paused_activity(temporal_server: DevServer, temporal_namespace: str) -> None:
    """`resume` does not wait until somebody unpauses it; `status` says so."""
    # FINDINGS P3
    async with opened(temporal_server, temporal_namespace) as (executor, client):
        await executor.execute(asks, id="paused", input=5)
        execution = WorkflowExecution(workflow_id="paused")
        await eventually(lambda: _waits(executor, "paused", "retrying"))
        await client.workflow_service.pause_activity(
            PauseActivityRequest(
                namespace=temporal_namespace, execution=execution, id="1", identity="test"
            )
        )
        await eventually(lambda: _waits(executor, "paused", "paused"))
        await asyncio.wait_for(executor.resume("paused"), LONGEST_S)
        await asyncio.wait_for(executor.resume(), LONGEST_S)
        assert len(called) == 1


async def _waits(executor: DurableExecutor, run: str, state: str) -> bool:
    return any(wait.state == state for wait in (await executor.describe(run)).waiting_for)


async def test_policies_of_other_clients(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Five attempts with 200 ms between them take less than ours would."""
    # FINDINGS P4
    async with opened(temporal_server, temporal_namespace) as (executor, client):
        working = asyncio.create_task(executor.work())
        theirs = Worker(
            client,
            task_queue="theirs",
            workflows=[Theirs],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with theirs:
            result = await client.execute_workflow(Theirs.run, 4, id="theirs", task_queue="theirs")
        assert result == 5
        pauses = [after - before for before, after in itertools.pairwise(called)]
        assert min(pauses) > 0.15
        assert sorted(pauses)[1] < 0.9  # ours would be 1, 2, 4 and 8 s
        working.cancel()


async def test_options_that_are_changed_count(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """`temporal activity update-options` while it waits for an hour, with three attempts."""
    # FINDINGS P4
    async with opened(temporal_server, temporal_namespace) as (executor, client):
        handle = await executor.execute(asks, id="changed", input=3600)
        await eventually(lambda: _waits(executor, "changed", "retrying"))
        options = ActivityOptions()
        options.retry_policy.initial_interval.FromMilliseconds(10)
        options.retry_policy.maximum_attempts = 9
        await client.workflow_service.update_activity_options(
            UpdateActivityOptionsRequest(
                namespace=temporal_namespace,
                execution=WorkflowExecution(workflow_id="changed"),
                identity="test",
                id="1",
                activity_options=options,
                update_mask=FieldMask(
                    paths=["retry_policy.initial_interval", "retry_policy.maximum_attempts"]
                ),
            )
        )
        assert await asyncio.wait_for(handle.result(), LONGEST_S) == 5


async def test_a_run_s_own_retry_policy_acts(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """A workflow that fails is run again, as whoever started it has asked."""
    # FINDINGS P4
    policy = TheirPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=2)
    async with opened(temporal_server, temporal_namespace) as (executor, client):
        working = asyncio.create_task(executor.work())
        result = await client.execute_workflow(
            "fails_once", id="twice", task_queue=QUEUE, retry_policy=policy
        )
        assert result == "done"
        working.cancel()
