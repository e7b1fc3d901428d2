"""Exceptions that a policy names end the attempts, wherever they are raised."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from belugawf import ActivityError, RetryPolicy, WorkflowContext, activity, new_executor, workflow


class Declined(Exception):
    """One of the user's own."""


class DeclinedForGood(Declined):
    """What it is in the end."""


def _raise(kind: str) -> None:
    if kind == "file":
        Path("/nowhere/at/all").read_text()
    elif kind == "own":
        raise DeclinedForGood
    elif kind == "json":
        json.loads("{")
    elif kind == "group":
        raise ExceptionGroup("several", [KeyError("x"), DeclinedForGood()])
    raise RuntimeError("another")


@activity
def in_thread(kind: str) -> None:
    _raise(kind)


@activity
async def on_loop(kind: str) -> None:
    _raise(kind)


@activity(isolation="process")
def isolated(kind: str) -> None:
    _raise(kind)


NAMED = {
    "file": [subprocess.SubprocessError, OSError],
    "own": Declined,
    "json": "json.JSONDecodeError",
    "group": [Declined],
    "other": ["ValueError", OSError],
}


@workflow
async def tried(ctx: WorkflowContext) -> dict[str, list[int]]:
    async def attempts(function: Any, kind: str, named: Any) -> int:
        retry = RetryPolicy(max_attempts=2, initial_delay=0, non_retryable=named)
        try:
            await ctx.execute_activity(function, kind, retry=retry)
        except ActivityError as error:
            return error.attempts
        return 0

    return {
        kind: [await attempts(f, kind, named) for f in (in_thread, on_loop, isolated)]
        for kind, named in NAMED.items()
    }


def test_tried_once(tmp_path: Path) -> None:
    """By class or by name, of what it derives from, in a group; in each sort of activity."""
    with new_executor("default", db=tmp_path / "state.db", workflows=[tried]).sync() as executor:
        result = executor.execute(tried).result()
    assert result == {  # FINDINGS A8
        "file": [1, 1, 1],
        "own": [1, 1, 1],
        "json": [1, 1, 1],
        "group": [1, 1, 1],
        "other": [2, 2, 2],
    }
