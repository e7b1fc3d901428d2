"""One run from the outside."""

from __future__ import annotations

from typing import Any

from belugawf.executor.info import Delivery, RunInfo
from belugawf.executor.protocol import DurableExecutor
from belugawf.model.messages import Signal


class WorkflowHandle:
    """One run of an executor; `run_id` is a `RunId`, so it means no other run."""

    def __init__(self, executor: DurableExecutor, workflow_id: str, run_id: str) -> None:
        self._executor = executor
        self.id = workflow_id
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"WorkflowHandle({self.id!r}, {self.run_id!r})"

    async def status(self) -> str:
        """The status word, such as "running"."""
        return (await self.describe()).status

    async def describe(self) -> RunInfo:
        """The run as it is now."""
        return await self._executor.describe(self.run_id)

    async def result(self) -> Any:
        """The result once the run has completed, decoded by the workflow's return annotation.

        Raises `WorkflowFailedError`, `WorkflowCancelledError`, `WorkflowTerminatedError`,
        `WorkflowTimedOutError`; `NotFinishedError` if nobody drives it; the `TurnError` that
        keeps it from moving.
        """
        return await self._executor.result_of(self.run_id)

    async def signal(self, signal: Signal | str, payload: Any = None) -> Delivery:
        message = Signal(signal, payload) if isinstance(signal, str) else signal
        return await self._executor.signal(self.run_id, message)

    async def query(self, name: str, *args: Any) -> Any:
        return await self._executor.query(self.run_id, name, *args)

    async def cancel(self, reason: str | None = None) -> RunInfo:
        """Ask the run to stop and clean up."""
        return await self._executor.cancel(self.run_id, reason)

    async def terminate(self, reason: str | None = None) -> RunInfo:
        """End the run at once, without running its code."""
        return await self._executor.terminate(self.run_id, reason)
