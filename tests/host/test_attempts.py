"""Attempts end in an outcome, whatever the activity's code does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from belugawf import WorkflowContext, WorkflowFailedError, activity, workflow
from belugawf.local.executor import LocalExecutor


class RudeError(Exception):
    """Whose attributes cannot be read."""

    @property
    def retry_after(self) -> float:
        raise ValueError

    @property
    def non_retryable(self) -> bool:
        raise ValueError

    @property
    def type(self) -> str:
        raise ValueError


@activity
async def on_loop() -> None:
    raise RudeError("no")


@activity
def in_thread() -> None:
    raise RudeError("no")


@activity(isolation="process")
def in_process() -> None:
    raise RudeError("no")


ACTIVITIES: dict[str, Callable[..., object]] = {
    "loop": on_loop,
    "thread": in_thread,
    "process": in_process,
}


@workflow
async def calling(ctx: WorkflowContext, where: str) -> None:
    await ctx.execute_activity(ACTIVITIES[where])


@pytest.mark.parametrize("where", ACTIVITIES)
async def test_an_exception_that_cannot_be_asked_fails_its_activity(
    tmp_path: Path, where: str
) -> None:
    """What its properties raise is no reason to wait for the attempt for ever."""
    async with LocalExecutor(tmp_path / "state.db", [calling]) as executor:
        handle = await executor.execute(calling, input=where)
        async with asyncio.timeout(20):
            with pytest.raises(WorkflowFailedError, match="RudeError: no"):
                await handle.result()
