"""What names a run on Temporal: the same as on the local provider."""

from __future__ import annotations

import asyncio

import pytest

from belugawf import AmbiguousRunError, RunNotFoundError, WorkflowContext, new_executor, workflow
from belugawf.executor import DurableExecutor, RunId, TypedRun
from tests.devserver import DevServer


@workflow
async def asking(ctx: WorkflowContext) -> int:
    answer: int = (await ctx.wait_for_signal("go")).payload
    return answer


async def test_an_id_that_reads_like_another_run(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """A workflow id that equals another run's run id takes nobody's place, and from Python no
    prefix names a run; neither for who has met the runs nor for others. FINDINGS S4"""

    def executor() -> DurableExecutor:
        return new_executor(
            "temporal",
            host=temporal_server.address,
            namespace=temporal_namespace,
            workflows=[asking],
        )

    async with executor() as starter, asyncio.timeout(60):
        first = await starter.execute(asking, id="first")
        second = await starter.execute(asking, id=first.run_id)
        await first.signal("go", 1)
        assert await first.result() == 1
        while len(await starter.list()) < 2:  # queries see runs a little late
            await asyncio.sleep(0.05)
        async with executor() as stranger:
            for door in (starter, stranger):
                assert await door.query(second.id, "status") == "running"
                assert (await door.describe(first.run_id)).workflow_id == "first"
                assert (await door.describe(second.run_id)).workflow_id == second.id
                with pytest.raises(AmbiguousRunError) as several:
                    await door.describe(TypedRun(first.run_id))
                assert set(several.value.candidates) == {"first", second.id}
                assert (await door.describe(TypedRun("firs"))).workflow_id == "first"
                for text in ("firs", first.run_id[:13], RunId("first"), RunId(first.run_id[:13])):
                    with pytest.raises(RunNotFoundError):
                        await door.describe(text)
        await second.signal("go", 2)
        assert await second.result() == 2
