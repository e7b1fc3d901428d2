"""Collect figures from many sources at once, give late ones a second chance, report what is there.

Shows fan-out with `asyncio.gather`, retries, a durable pause, and a failure that is named in the
report instead of losing it. "warehouse" needs three attempts, "partner" only has its figures
after the pause, and "archive" is down for good.

    belugawf run nightly_report
    belugawf run nightly_report -a pause=3s -a sources='["shop", "archive"]'

From cron: `belugawf run nightly_report --id "nightly-$(date +%F)" --if-exists skip`, and
`belugawf resume` every few minutes to go on after the pause.
"""

import asyncio
import hashlib

from belugawf import (
    ActivityError,
    ApplicationError,
    RetryPolicy,
    WorkflowContext,
    activity,
    workflow,
)

SOURCES = ["shop", "warehouse", "partner", "archive"]


@activity
async def fetch_figure(source: str, second_chance: bool) -> int:
    """Yesterday's sales of one source; raises where they cannot be had."""
    await asyncio.sleep(0.05)
    if source == "warehouse" and activity.info().attempt < 3:
        raise ConnectionError("the warehouse hung up")
    if source == "partner" and not second_chance:
        raise ApplicationError("the partner has not closed its books yet", non_retryable=True)
    if source == "archive":
        raise ApplicationError("the archive is switched off", non_retryable=True)
    return 1000 + hashlib.sha256(source.encode()).digest()[0]


@activity
def write_report(figures: dict[str, int], missing: dict[str, str]) -> str:
    """The report as text: a line for each source, also for those that are missing."""
    lines = [f"{source}: {figure}" for source, figure in figures.items()]
    lines.append(f"total: {sum(figures.values())}")
    lines += [f"missing: {source} ({reason})" for source, reason in missing.items()]
    return "\n".join(lines)


async def collect(
    ctx: WorkflowContext, sources: list[str], retry_delay: str, second_chance: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """The figures of the sources that answered, and why the others did not."""
    policy = RetryPolicy(max_attempts=3, initial_delay=retry_delay)
    answers = await asyncio.gather(
        *(
            ctx.execute_activity(fetch_figure, source, second_chance, retry=policy, timeout="1m")
            for source in sources
        ),
        return_exceptions=True,
    )
    figures: dict[str, int] = {}
    missing: dict[str, str] = {}
    for source, answer in zip(sources, answers, strict=True):
        if isinstance(answer, ActivityError):
            missing[source] = answer.cause.message
        elif isinstance(answer, BaseException):
            raise answer
        else:
            figures[source] = answer
    return figures, missing


@workflow
async def nightly_report(
    ctx: WorkflowContext,
    sources: list[str] = SOURCES,
    pause: str = "20m",
    retry_delay: str = "5s",
) -> str:
    """Reports on all sources; `pause` is how long those that failed get to come back."""
    figures, missing = await collect(ctx, sources, retry_delay, second_chance=False)
    if missing:
        ctx.set_progress(f"{len(figures)} of {len(sources)} sources, waiting for the others")
        await ctx.sleep(pause)
        late, missing = await collect(ctx, list(missing), retry_delay, second_chance=True)
        figures |= late
    return await ctx.execute_activity(write_report, figures, missing)
