"""Whatever a power cut has left, belugawf goes on from there: each run comes to its right end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from belugawf import new_executor
from tests.powercut.checks import Corrupt, Snapshot, build, recorded_activities
from tests.powercut.disk import State
from tests.powercut.workload import (
    ORDERS,
    WORDS,
    WORKFLOWS,
    on_attempts,
    order,
    order_result,
)


def check_resumes(state: State, snapshot: Snapshot, folder: Path) -> None:
    """Drive every run of a state to its end, on a copy of its own in a new folder.

    No activity whose end is recorded may run again. Raises Corrupt.
    """
    begun: set[tuple[str, str]] = set()
    with on_attempts(lambda run_id, activity_id, _attempt: begun.add((run_id, activity_id))):
        asyncio.run(_resume(build(state, folder), snapshot))
    again = begun & recorded_activities(snapshot)
    if again:
        raise Corrupt(f"recorded activities ran again: {sorted(again)}")


async def _resume(db: Path, snapshot: Snapshot) -> None:
    async with new_executor("default", db=db, workflows=WORKFLOWS) as executor:
        for workflow_id, number in ORDERS.items():
            row = snapshot.latest(workflow_id)
            if row is None:
                await executor.execute(order, id=workflow_id, input=number)
            if not _has_message(snapshot, row, "go"):
                await executor.signal(workflow_id, "go", f"on {number}")
            result = await executor.handle(workflow_id).result()
            _expect(workflow_id, result, order_result(number))
        await _end_patient(executor, snapshot)
        doomed = snapshot.latest("doomed")
        if doomed is not None and doomed["status"] == "running":
            await executor.terminate("doomed")


async def _end_patient(executor: Any, snapshot: Snapshot) -> None:
    row = snapshot.latest("patient")
    if row is None:
        return
    if row["status"] == "running" and not _has_message(snapshot, row, None):
        await executor.cancel("patient")
    *heard, cleaned_up = await executor.handle("patient").result()
    _expect("patient", [heard, cleaned_up], [WORDS[: len(heard)], 99])


def _has_message(snapshot: Snapshot, row: Any, signal: str | None) -> bool:
    """Whether a run has got a signal, or a request to cancel where `signal` is `None`."""
    if row is None:
        return False
    kind, event = ("cancel", "CancelRequested") if signal is None else ("signal", "SignalReceived")
    unread = any(
        message["run"] == row["key"] and (message["kind"], message["name"]) == (kind, signal)
        for message in snapshot.tables["inbox"]
    )
    return unread or any(
        found["run"] == row["key"] and (found["type"], found["name"]) == (event, signal)
        for found in snapshot.tables["events"]
    )


def _expect(workflow_id: str, found: object, expected: object) -> None:
    if found != expected:
        raise Corrupt(f"{workflow_id}: came to {found!r:.200}, and not to {expected!r:.200}")
