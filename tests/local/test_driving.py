"""Who moves a run on: the one answer that waits, results and messages go by."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from belugawf import (
    NotFinishedError,
    RunEndedError,
    RunParkedError,
    WorkflowContext,
    activity,
    workflow,
)
from belugawf.executor import Driver
from belugawf.local.executor import LocalExecutor
from belugawf.model.errors import NondeterminismError


@activity
async def hang() -> None:
    await asyncio.Event().wait()


@workflow
async def hanging(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(hang)


@workflow
async def asking(ctx: WorkflowContext) -> bool:
    return (await ctx.wait_for_signal("approval", type=bool)).payload is True


@workflow(name="asking")
async def changed(ctx: WorkflowContext) -> bool:
    await ctx.execute_activity(hang)
    return False


def open_executor(tmp_path: Path, *workflows: object) -> LocalExecutor:
    return LocalExecutor(tmp_path / "state.db", workflows)  # type: ignore[arg-type]


@asynccontextmanager
async def at_work(executor: LocalExecutor) -> AsyncIterator[None]:
    """While this lasts it is a worker."""
    work = asyncio.create_task(executor.work())
    while (engine := executor._engine) is None or not engine.demand.persistent:
        await asyncio.sleep(0.01)
    yield
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


async def resting(executor: LocalExecutor) -> None:
    """A run that waits for a signal, and that nobody holds."""
    async with executor:
        await executor.execute(asking, id="a", detach=True)
        await executor.resume("a")


async def test_the_process_that_holds_it(tmp_path: Path) -> None:
    """For itself that is us, for others it is that process."""
    async with open_executor(tmp_path, hanging) as one, open_executor(tmp_path, hanging) as other:
        await one.execute(hanging, id="a")
        assert await one.driver_of("a") == Driver("us")
        driver = await other.driver_of("a")
        assert (driver.kind, driver.why) == ("process", None)
        assert driver.owner is not None and driver.owner.pid == os.getpid()
        await one.terminate("a")


async def test_a_worker_that_knows_it(tmp_path: Path) -> None:
    """Nobody holds it, and a worker takes it when there is something to do."""
    await resting(open_executor(tmp_path, asking))
    async with open_executor(tmp_path) as outsider:
        assert (await outsider.driver_of("a")).kind == "nobody"
        async with open_executor(tmp_path, hanging) as worker, at_work(worker):
            assert (await outsider.driver_of("a")).kind == "nobody"
        async with open_executor(tmp_path, asking) as worker, at_work(worker):
            driver = await outsider.driver_of("a")
            assert driver.kind == "worker"
            assert driver.owner is not None and driver.owner.alive
            assert await worker.driver_of("a") == Driver("us")


async def test_nobody_and_why(tmp_path: Path) -> None:
    """As nobody asked for it; as it was refused here; as it has ended."""
    await resting(open_executor(tmp_path, asking))
    async with open_executor(tmp_path, changed) as executor:
        assert isinstance((await executor.driver_of("a")).why, NotFinishedError)
        await executor.signal("a", "approval", True, drive=False)
        await executor.resume("a")
        refused = await executor.driver_of("a")
        assert refused.kind == "nobody" and isinstance(refused.why, NondeterminismError)
        await executor.terminate("a")
        assert isinstance((await executor.driver_of("a")).why, RunEndedError)


async def test_a_worker_that_has_refused_it_moves_nothing(tmp_path: Path) -> None:
    """Its result is not waited for in vain: who has the workflow drives, others are told."""
    await resting(open_executor(tmp_path, asking))
    async with (
        open_executor(tmp_path, changed) as old,
        at_work(old),
        open_executor(tmp_path, asking) as new,
        open_executor(tmp_path) as outsider,
    ):
        await new.signal("a", "approval", True, drive=False)
        while (await new.describe("a")).problem is None:
            await asyncio.sleep(0.01)
        assert (await new.driver_of("a")).kind == "nobody"
        async with asyncio.timeout(30):
            with pytest.raises(RunParkedError, match="no longer matches"):
                await outsider.handle("a").result()
            assert await new.handle("a").result() is True


async def test_nothing_is_imported_to_answer(tmp_path: Path) -> None:
    """Whoever only looks runs no module of the user's."""
    await resting(open_executor(tmp_path, asking))
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "loud.py").write_text("raise SystemExit('imported')\n")
    async with LocalExecutor(tmp_path / "state.db", folder) as executor:
        assert (await executor.driver_of("a")).kind == "nobody"
        assert "catalog" not in executor.__dict__
