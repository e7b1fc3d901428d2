"""Another clock than the server's, by an hour: nothing is late, nobody seems to be gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from belugawf import (
    ActivityTimeoutError,
    RetryPolicy,
    WorkflowContext,
    activity,
    new_executor,
    workflow,
)
from belugawf.executor import DurableExecutor
from tests.devserver import DevServer

LONGEST_S = 30


@activity
async def quick() -> str:
    deadline = activity.info().deadline
    assert deadline is not None
    return f"{deadline.timestamp() - time.time():.0f}"


@activity
async def slow() -> None:
    await asyncio.sleep(60)


@activity
async def fails() -> None:
    raise ConnectionError("no line")


@workflow
async def limited(ctx: WorkflowContext) -> list[str]:
    ctx.set_query("number", lambda: 7)
    found = [await ctx.execute_activity(quick, total_timeout=20)]
    for work, retry in ((slow, None), (fails, RetryPolicy(0, initial_delay=30))):
        try:
            await ctx.execute_activity(work, total_timeout=0.5, retry=retry)
        except ActivityTimeoutError as error:
            found.append(error.cause.message)
    await asyncio.sleep(2)
    return found


@pytest.fixture(params=[3600, -3600], ids=["ahead", "behind"])
def shifted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our clock, not the server's."""
    shift, now, now_ns = request.param, time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() + shift)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + shift * 10**9)


@asynccontextmanager
async def opened(server: DevServer, namespace: str, drives: bool) -> AsyncIterator[DurableExecutor]:
    executor = new_executor(
        "temporal",
        host=server.address,
        namespace=namespace,
        workflows=[limited],
        drives=drives,
    )
    async with executor:
        yield executor


@pytest.mark.usefixtures("shifted")
async def test_a_worker_s_clock(temporal_server: DevServer, temporal_namespace: str) -> None:
    """total_timeout is as long as it is; `resume` stays for the timer that is due soon."""
    # FINDINGS P5
    async with opened(temporal_server, temporal_namespace, drives=False) as executor:
        await executor.execute(limited, id="limited")
        [info] = await asyncio.wait_for(executor.resume("limited"), LONGEST_S)
        assert (info.status, info.result) == (
            "completed",
            [
                "20",
                "total_timeout of 500ms is over",
                "total_timeout of 500ms is over; the last error was ConnectionError: no line",
            ],
        )


@pytest.mark.usefixtures("shifted")
async def test_a_caller_s_clock(temporal_server: DevServer, temporal_namespace: str) -> None:
    """The worker that is there is seen, asked and waited for; and so is it that there is none."""
    # FINDINGS P5
    async with opened(temporal_server, temporal_namespace, drives=False) as caller:
        await caller.execute(limited, id="limited")
        assert (await caller.describe("limited")).unattended is not None
        async with opened(temporal_server, temporal_namespace, drives=True) as worker:
            working = asyncio.create_task(worker.work())
            await asyncio.wait_for(_is_polled(caller), LONGEST_S)
            assert await caller.query("limited", "number") == 7
            assert (await caller.driver_of("limited")).kind in ("worker", "process")
            info = await caller.wait("limited", max_wait=LONGEST_S)
            assert info.status == "completed"
            assert info.unattended is None
            working.cancel()


async def _is_polled(executor: DurableExecutor) -> None:
    while not await executor.workers():
        await asyncio.sleep(0.05)
