"""Collects numbers, each of which one activity notes, until it is told to end."""

import asyncio
import os

from belugawf import WorkflowContext, activity, workflow


@activity
async def add(number: int) -> int:
    """Notes the number in one write: a line is one execution."""
    log = os.open("adds.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, f"{number}\n".encode())
    finally:
        os.close(log)
    return number


@activity
def close() -> None:
    """Cleans up after a run that was cancelled."""


@workflow
async def tally(ctx: WorkflowContext) -> list[int]:
    """The numbers that were sent before -1, in the order in which they came."""
    numbers: list[int] = []
    ctx.set_query("numbers", lambda: len(numbers))
    try:
        async for entry in ctx.signals("entry"):
            if entry.payload < 0:
                break
            numbers.append(await ctx.execute_activity(add, entry.payload))
    except asyncio.CancelledError:
        await ctx.execute_activity(close)
        raise
    return numbers
