"""Hooks of an executor on Temporal: each is told once of what its worker did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from belugawf import Hooks, RetryPolicy, Signal, WorkflowContext, activity, new_executor, workflow
from tests.devserver import DevServer


@activity
async def shaky() -> int:
    attempt = activity.info().attempt
    if attempt == 1:
        raise ConnectionError("no line")
    return attempt


@workflow
async def hooked(ctx: WorkflowContext, fails: bool) -> int:
    await ctx.wait_for_signal("go")
    attempt: int = await ctx.execute_activity(shaky, retry=RetryPolicy(2, initial_delay=0.01))
    if fails:
        raise ValueError("fails")
    return attempt


async def test_hooks(temporal_server: DevServer, temporal_namespace: str) -> None:
    """Start, signal, attempts, retry and both ends; a hook that raises touches no run."""
    told: list[tuple[str, str, Any]] = []

    def hook(name: str) -> Any:
        async def tell(event: Mapping[str, Any]) -> None:
            step = event.get("activity") or event.get("signal")
            told.append((name, event["workflow_id"], step))
            raise RuntimeError("a bug in the hook")

        return tell

    names = [
        *("on_workflow_start", "on_workflow_complete", "on_workflow_fail", "on_activity_start"),
        *("on_activity_complete", "on_signal", "on_retry"),
    ]
    hooks = Hooks(**{name: hook(name) for name in names})
    executor = new_executor(
        "temporal",
        host=temporal_server.address,
        namespace=temporal_namespace,
        workflows=[hooked],
        hooks=hooks,
        # Every turn is a replay: what was told before is not told again.
        cache_runs=0,
    )
    async with executor:
        for run, fails in (("good", False), ("bad", True)):
            await executor.execute(hooked, id=run, input=fails)
            await executor.wait(run, until="signal:go", max_wait=60)
            await executor.signal(run, Signal("go"))
            await asyncio.wait_for(executor.wait(run), 60)
    common = [
        ("on_workflow_start", None),
        ("on_signal", "go"),
        ("on_activity_start", "shaky"),
        ("on_retry", "shaky"),
        ("on_activity_start", "shaky"),
        ("on_activity_complete", "shaky"),
    ]
    expected = Counter((name, run, step) for run in ("good", "bad") for name, step in common)
    expected[("on_workflow_complete", "good", None)] = 1
    expected[("on_workflow_fail", "bad", None)] = 1
    assert Counter(told) == expected
