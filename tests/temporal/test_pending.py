"""What a workflow has started and not waited for when it ends, on both providers.

Guards FINDINGS E11.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowContext, activity, new_executor, workflow


@activity
async def slow(number: int) -> int:
    await asyncio.sleep(60)
    return number


@activity
async def quick() -> str:
    return "quick"


async def ticking() -> None:
    while True:
        await asyncio.sleep(30)


async def paying(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(slow, 1, id="7")  # paid here


@workflow
async def leaves(ctx: WorkflowContext, how: str) -> str:
    """Leaves something behind in each way in which one can."""
    if how == "nothing":
        kept = [ctx.start_activity(quick), asyncio.create_task(asyncio.sleep(0))]
        await asyncio.wait(kept)
        return await ctx.execute_activity(quick)
    if how == "many":
        tasks = [asyncio.create_task(ticking(), name=f"tick-{n}") for n in range(20)]
    elif how == "cancelled":
        tasks = [ctx.start_activity(slow, 2)]
        tasks[0].cancel()
    else:
        tasks = [
            asyncio.create_task(ticking(), name="ticks"),
            ctx.start_activity(slow, 2),  # started here
            asyncio.create_task(paying(ctx)),
            asyncio.create_task(asyncio.Event().wait(), name="library"),
        ]
    await ctx.execute_activity(quick)
    if how == "raises":
        raise ValueError("as told")
    if how == "waits":
        await ctx.wait_for_signal("go")
    return "done"


def line_of(comment: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


async def test_what_is_left_pending_is_said(
    either: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names tasks and activities, in their order; none, if there is nothing."""
    async with asyncio.timeout(60), new_executor(workflows=[leaves], **either) as executor:

        async def warned(how: str) -> list[str]:
            caplog.clear()
            handle = await executor.execute(leaves, input=how)
            if how == "waits":
                await executor.wait(handle.id, until="signal:go")
                await handle.cancel()
            await executor.wait(handle.run_id)
            # Of a run after it: what is logged comes after the commit.
            await (await executor.execute(leaves, input="nothing")).result()
            lines = [r for r in caplog.records if r.name == "belugawf.workflow.leaves"]
            assert {record.levelname for record in lines} <= {"WARNING"}
            return [re.sub(r"[^ (]*/", "", record.getMessage()) for record in lines]

        for how in ("returns", "raises"):
            [said] = await warned(how)
            assert re.fullmatch(
                r"leaves-\w+: the workflow has ended without waiting for "
                r"task 'ticks' \(test_pending.py:\d+\), "
                rf"activity 'slow' \(test_pending.py:{line_of('started here')}\), "
                rf"activity 'slow' \(test_pending.py:{line_of('paid here')}\), "
                r"task 'library': what they do is lost",
                said,
            ), said
        [said] = await warned("many")
        assert "'tick-0'" in said
        assert "'tick-4'" in said
        assert "'tick-5'" not in said
        assert " and 15 more: " in said
        for how in ("nothing", "cancelled", "waits"):
            assert await warned(how) == []
