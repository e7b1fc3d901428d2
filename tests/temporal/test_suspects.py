"""A worker that seems to have died, or has: its activities go on, and nobody waits for them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.temporal.scheduling import LIVENESS
from tests.conformance.harness import PROVIDERS, Project, wait_for, with_env
from tests.devserver import DevServer

# The SDK cancels what it was told nothing of for the heartbeat timeout, and 5 s more.
SILENT_S = LIVENESS.total_seconds() + 5


async def test_what_runs_long_is_reported_alive(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Longer than the SDK waits for a heartbeat; its worker seems to have died twice."""
    # FINDINGS P1
    attempts: list[int] = []

    @activity
    async def long() -> int:
        attempt = activity.info().attempt
        attempts.append(attempt)
        if attempt < 3:
            time.sleep(LIVENESS.total_seconds() * 2)
        else:
            await asyncio.sleep(SILENT_S + LIVENESS.total_seconds())
        return attempt

    @workflow
    async def suspicious(ctx: WorkflowContext) -> int:
        return await ctx.execute_activity(long)

    executor = new_executor(
        "temporal",
        host=temporal_server.address,
        namespace=temporal_namespace,
        workflows=[suspicious],
        max_crashes=2,
    )
    async with executor:
        handle = await executor.execute(suspicious, id="suspicious")
        assert await asyncio.wait_for(handle.result(), 60) == 3
    assert attempts == [1, 2, 3]


KILLED = """
    @activity
    def long(name: str) -> str:
        note(f"{name} begins")
        if (attempt := activity.info().attempt) < 3:
            time.sleep(60)
        time.sleep(SILENT)
        note(f"{name} ends")
        return name


    @activity
    async def quick() -> None: ...


    @workflow
    async def longs(ctx: WorkflowContext) -> list[str]:
        return await asyncio.gather(*(ctx.execute_activity(long, n) for n in "ab"))


    @workflow
    async def quicks(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(quick)
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_after_two_real_deaths(
    tmp_path_factory: pytest.TempPathFactory, temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Both finish, however long they run then; what is new meanwhile does not wait for them."""
    # FINDINGS P1, P2
    where = {
        "BELUGAWF_TEMPORAL_HOST": temporal_server.address,
        "BELUGAWF_TEMPORAL_NAMESPACE": temporal_namespace,
    }
    project = Project(tmp_path_factory.mktemp("deaths"), with_env(PROVIDERS["temporal"], **where))
    try:
        project.write_module("longs", KILLED.replace("SILENT", str(SILENT_S + 3)))
        project.cli("run", "longs", "--id", "longs", "-d")
        for death in (1, 2):
            worker = project.start_command("worker")
            wait_for(lambda n=death: len(project.log()) == 2 * n, "both have begun")  # type: ignore[misc]
            worker.kill()
        worker = project.start_command("worker")
        wait_for(lambda: len(project.log()) == 6, "both are by themselves", process=worker)
        project.cli("run", "quicks", "--id", "quick", "-d")
        project.cli("wait", "quick")
        assert "a ends" not in project.log()
        project.cli("wait", "longs")
        assert project.result("longs") == ["a", "b"]
        assert Counter(project.log())["a begins"] == 3
    finally:
        project.close()
