"""The engine on bad days: what one run does, a failed commit or a call beside it harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.local.engine import Engine
from belugawf.local.executor import LocalExecutor


@activity
async def nothing() -> None: ...


@workflow
async def unwritable(ctx: WorkflowContext, what: str) -> None:
    match what:
        case "prompt":
            await ctx.wait_for_signal("go", prompt="\ud800")
        case "id":
            await ctx.execute_activity(nothing, id="\ud800")
        case _:
            await asyncio.sleep(1e12)


@workflow
async def patient(ctx: WorkflowContext) -> str:
    signal = await ctx.wait_for_signal("go")
    return str(signal.payload)


def open_executor(
    tmp_path: Path, *workflows: Callable[..., object], **options: object
) -> LocalExecutor:
    return LocalExecutor(tmp_path / "state.db", workflows, **options)  # type: ignore[arg-type]


def engine_of(executor: LocalExecutor) -> Engine:
    assert executor._engine is not None
    return executor._engine


@pytest.mark.parametrize("what", ["prompt", "id", "moment"])
async def test_a_turn_that_cannot_be_written_is_its_runs_problem_alone(
    tmp_path: Path, what: str
) -> None:
    """What no row can hold (half a surrogate pair, year 33658) marks its run; others go on."""
    async with open_executor(tmp_path, unwritable, patient) as executor:
        await executor.execute(patient, id="good")
        await executor.execute(unwritable, id="bad", input=what)
        await executor.signal("good", "go", "fine")
        assert await executor.handle("good").result() == "fine"
        await executor.wait("bad", until="rest")
        problem = (await executor.describe("bad")).problem
        assert problem is not None and problem.code == "unwritable"
