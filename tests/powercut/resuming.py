"""Whatever a power cut has left, belugawf goes on from there: each run comes to its right end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from belugawf import new_executor
from tests.powercut.checks import Corrupt, Snapshot, build, recorded_activities
from tests.powercut.record import State
from tests.powercut.vfs import recording
from tests.powercut.workload import (
    ORDERS,
    WORDS,
    WORKFLOWS,
    Durability,
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
        asyncio.run(_Resuming(snapshot).run(build(state, folder)))
    again = begun & recorded_activities(snapshot)
    if again:
        raise Corrupt(f"recorded activities ran again: {sorted(again)}")


def record_resuming(
    state: State, snapshot: Snapshot, folder: Path, log: Path, durability: Durability
) -> None:
    """The same, recorded to `log` with what is acknowledged on the way."""
    db = build(state, folder)
    with recording(folder, log) as recorder:

        def begins(run_id: str, activity_id: str, attempt: int) -> None:
            recorder.mark("begun", run_id=run_id, activity_id=activity_id, attempt=attempt)

        with on_attempts(begins):
            asyncio.run(_Resuming(snapshot, durability, recorder.mark).run(db))
        recorder.mark("settling")
        recorder.mark("settled")


class _Resuming:
    """Sends what is missing, waits for each end, and tells `mark` what was acknowledged."""

    def __init__(
        self,
        snapshot: Snapshot,
        durability: Durability = "full",
        mark: Callable[..., None] = lambda kind, **facts: None,
    ) -> None:
        self._snapshot = snapshot
        self._durability: Durability = durability
        self._mark = mark
        self._executor: Any = None

    async def run(self, db: Path) -> None:
        async with new_executor(
            "default", db=db, workflows=WORKFLOWS, durability=self._durability
        ) as self._executor:
            for workflow_id, number in ORDERS.items():
                await self._finish_order(workflow_id, number)
            await self._end_patient()
            doomed = self._snapshot.latest("doomed")
            if doomed is not None and doomed["status"] == "running":
                await self._executor.terminate("doomed")
                self._mark("terminated", workflow_id="doomed")

    async def _finish_order(self, workflow_id: str, number: int) -> None:
        row = self._snapshot.latest(workflow_id)
        if row is None:
            handle = await self._executor.execute(order, id=workflow_id, input=number)
            self._mark("started", workflow_id=workflow_id, run_id=handle.run_id)
        if not _has_message(self._snapshot, row, "go"):
            await self._executor.signal(workflow_id, "go", f"on {number}")
            self._mark("signalled", workflow_id=workflow_id, name="go", payload=f"on {number}")
        result = await self._executor.handle(workflow_id).result()
        self._mark("completed", workflow_id=workflow_id, result=result)
        _expect(workflow_id, result, order_result(number))

    async def _end_patient(self) -> None:
        row = self._snapshot.latest("patient")
        if row is None:
            return
        if row["status"] == "running" and not _has_message(self._snapshot, row, None):
            await self._executor.cancel("patient")
            self._mark("cancelled", workflow_id="patient")
        result = await self._executor.handle("patient").result()
        self._mark("completed", workflow_id="patient", result=result)
        *heard, cleaned_up = result
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
