"""One run from the outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from belugawf.executor import Delivery, RunInfo
from belugawf.local.rows import RunRow
from belugawf.model.messages import Signal

if TYPE_CHECKING:
    from belugawf.local.executor import LocalExecutor


class LocalHandle:
    """One run of a `LocalExecutor`."""

    def __init__(self, executor: LocalExecutor, row: RunRow) -> None:
        self._executor = executor
        self._key = row.key
        self.id = row.workflow_id
        self.run_id = row.run_id

    def __repr__(self) -> str:
        return f"LocalHandle({self.id!r}, {self.run_id!r})"

    async def status(self) -> str:
        """The status word, such as "running"."""
        return (await self.describe()).status

    async def describe(self) -> RunInfo:
        """The run as it is now."""
        return await self._executor.describe(self.run_id)

    async def result(self) -> Any:
        """The result once the run has completed, decoded by the workflow's return annotation.

        Raises `WorkflowFailedError`, `WorkflowCancelledError`, `WorkflowTerminatedError`,
        `WorkflowTimedOutError`; `NotFinishedError` where nobody drives it; the `TurnError` that
        keeps it from moving.
        """
        return await self._executor.result_of(self._key)

    async def signal(self, signal: Signal | str, payload: Any = None) -> Delivery:
        """See `DurableExecutor.signal`."""
        return await self._executor.signal(self.run_id, signal, payload)

    async def query(self, name: str, *args: Any) -> Any:
        """See `DurableExecutor.query`."""
        return await self._executor.query(self.run_id, name, *args)

    async def cancel(self, reason: str | None = None) -> RunInfo:
        """Ask the run to stop and clean up."""
        return await self._executor.cancel(self.run_id, reason)

    async def terminate(self, reason: str | None = None) -> RunInfo:
        """End the run at once, without running its code."""
        return await self._executor.terminate(self.run_id, reason)
