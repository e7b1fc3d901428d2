"""Child processes of isolated activities: how they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from belugawf import new_executor

MODULE = """
from belugawf import WorkflowContext, activity, workflow


@activity(isolation="process")
def works(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


@workflow
async def working(ctx: WorkflowContext) -> int:
    for number in range(3):
        await ctx.execute_activity(works, number)
    return await ctx.execute_activity(works, 3)
"""


async def test_a_child_that_has_told_its_outcome_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not killed: whoever kills what has just ended takes its exit code from asyncio."""
    killed: list[int] = []
    kill = asyncio.subprocess.Process.kill

    def counted(child: asyncio.subprocess.Process) -> None:
        killed.append(child.pid)
        kill(child)

    monkeypatch.setattr(asyncio.subprocess.Process, "kill", counted)
    modules = tmp_path / "workflows"
    modules.mkdir()
    (modules / "working.py").write_text(MODULE)
    async with new_executor("default", db=tmp_path / "i.db", workflows=modules) as executor:
        handle = await executor.execute("working")
        await executor.wait(handle.id)
        assert (await handle.status()) == "failed"
    assert killed == []
