"""The same workflows after edits that do not fit runs on record: each must be found out."""

from __future__ import annotations

import asyncio
from typing import Any

from belugawf import RetryPolicy, WorkflowContext, workflow
from tests.histories import features

# -- an activity more at the beginning -----------------------------------------------------------


@workflow
async def reminds(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(features.echo, "first of all")
    return await features.reminds(ctx)


# -- other arguments -----------------------------------------------------------------------------


@workflow
async def fan_out(ctx: WorkflowContext) -> list[Any]:
    return list(
        await asyncio.gather(*(ctx.execute_activity(features.echo, n) for n in range(12, 24)))
    )


# -- another delay, and the rest is gone ---------------------------------------------------------


@workflow
async def timers(ctx: WorkflowContext) -> None:
    await ctx.sleep("31d")


# -- another signal ------------------------------------------------------------------------------


@workflow
async def waits(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(features.echo, "before")
    await ctx.wait_for_signal("c")


# -- the end comes too early ---------------------------------------------------------------------


@workflow
async def conditions(ctx: WorkflowContext) -> list[str]:
    await ctx.wait_until(lambda: True)
    return []


# -- no cleanup any more -------------------------------------------------------------------------


@workflow
async def cleans_up(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("never")


# -- what is caught no longer ends the run as it did ---------------------------------------------


@workflow
async def retries(ctx: WorkflowContext) -> Any:
    policy = RetryPolicy(max_attempts=3, initial_delay=0.001)
    await ctx.execute_activity(features.works_at_last, 3, retry=policy)
    return await ctx.execute_activity(features.works_at_last, 9, retry=policy)
