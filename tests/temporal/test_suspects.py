"""An activity that may have taken its worker down runs alone, for as long as it likes."""

from __future__ import annotations

import asyncio
import time

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.temporal.scheduling import LIVENESS
from tests.devserver import DevServer

# The SDK cancels what it was told nothing of for the heartbeat timeout, and 5 s more.
SILENT_S = LIVENESS.total_seconds() + 5


async def test_what_runs_alone_is_reported_alive(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Longer than the SDK waits for a heartbeat; its worker seems to have died once."""
    # FINDINGS P1
    attempts: list[int] = []

    @activity
    async def lonely() -> int:
        attempt = activity.info().attempt
        attempts.append(attempt)
        if attempt == 1:
            time.sleep(LIVENESS.total_seconds() * 2)
        else:
            await asyncio.sleep(SILENT_S + LIVENESS.total_seconds())
        return attempt

    @workflow
    async def suspicious(ctx: WorkflowContext) -> int:
        return await ctx.execute_activity(lonely)

    executor = new_executor(
        "temporal",
        host=temporal_server.address,
        namespace=temporal_namespace,
        workflows=[suspicious],
        max_crashes=2,
    )
    async with executor:
        handle = await executor.execute(suspicious, id="suspicious")
        assert await asyncio.wait_for(handle.result(), 60) == 2
    assert attempts == [1, 2]
