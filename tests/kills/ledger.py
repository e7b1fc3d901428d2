"""What the examples do not show: an activity that runs at most once, many signals of one name."""

from contextlib import suppress

from belugawf import ActivityInterruptedError, WorkflowContext, activity, workflow


@activity(at_most_once=True)
def pay(amount: int) -> int:
    return amount


@activity
async def book(amount: int) -> int:
    return amount


@workflow
async def ledger(ctx: WorkflowContext, entries: int) -> list[int]:
    booked: list[int] = []
    async for entry in ctx.signals("entry"):
        with suppress(ActivityInterruptedError):
            await ctx.execute_activity(pay, entry.payload)
        booked.append(await ctx.execute_activity(book, entry.payload))
        if len(booked) == entries:
            break
    return sorted(booked)
