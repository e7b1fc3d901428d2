"""The line to the server is cut for a while, and comes back."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.temporal.scheduling import LIVENESS, PULSE_S
from tests.devserver import DevServer
from tests.temporal.lines import line_to


@pytest.mark.slow
async def test_an_outage_is_no_death(temporal_server: DevServer, temporal_namespace: str) -> None:
    """The line is cut for as long as the server takes to give up several attempts.

    Nothing fails, and the waits for the results go on. Afterwards all run beside each other.
    """
    # FINDINGS P2, P6
    attempts: Counter[int] = Counter()
    at_once: list[int] = [0, 0]
    over = asyncio.Event()

    @activity
    async def long(number: int) -> int:
        attempts[number] = activity.info().attempt
        await over.wait()
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(PULSE_S)
        at_once[0] -= 1
        return number

    @workflow
    async def several(ctx: WorkflowContext) -> list[int]:
        return await asyncio.gather(*(ctx.execute_activity(long, n) for n in range(8)))

    async with line_to(temporal_server.address) as line:
        executor = new_executor(
            "temporal", host=line.address, namespace=temporal_namespace, workflows=[several]
        )
        async with executor:
            handle = await executor.execute(several, id="several")
            following = asyncio.create_task(handle.result())
            waiting = asyncio.create_task(executor.wait("several"))
            while len(attempts) < 8:
                await asyncio.sleep(0.01)
            line.cut()
            await asyncio.sleep(8 * LIVENESS.total_seconds())
            line.mend()
            over.set()
            assert await asyncio.wait_for(following, 60) == list(range(8))
            assert (await asyncio.wait_for(waiting, 60)).status == "completed"
    assert max(attempts.values()) > 1
    assert at_once[1] > 4
