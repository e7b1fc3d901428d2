"""Log lines and hooks of turns that are on disk: each at most once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from belugawf.executor import Hooks, RunId
from belugawf.host.hooks import HookCaller, emit
from belugawf.local.drive.run import OwnedRun
from belugawf.local.store.rows import RunRow
from belugawf.model import events as e
from belugawf.model.history import OpenActivity
from belugawf.replay.replayer import Replayer

logger = logging.getLogger("belugawf.engine")


class TurnHooks:
    """Calls loggers and hooks. A hook that raises is logged, and touches no run."""

    def __init__(self, hooks: Sequence[Hooks]) -> None:
        self._has_hooks = bool(hooks)
        self._hooks = HookCaller(hooks, logger)

    def turn(self, run: OwnedRun, replayer: Replayer, events: Iterable[e.Event]) -> None:
        """A turn of that run was committed with these events. What they end still has its slot."""
        logs = replayer.take_logs()
        if logs:
            emit(logger, logs)
        if self._has_hooks:
            for event in events:
                self._event(run, event)

    def _event(self, run: OwnedRun, event: e.Event) -> None:
        row = run.row
        match event:
            case e.SignalReceived():
                self.hook("on_signal", row, signal=event.name)
            case e.ActivityCompleted():
                name = run.slots[event.seq].activity.scheduled.name
                self.hook("on_activity_complete", row, activity=name, attempt=event.attempt)
            case e.AttemptFailed():
                name = run.slots[event.seq].activity.scheduled.name
                self.hook("on_retry", row, activity=name, attempt=event.attempt)
            case e.WorkflowCompleted():
                self.hook("on_workflow_complete", row)
            case e.WorkflowFailed() | e.WorkflowTimedOut() | e.WorkflowCancelled():
                self.hook("on_workflow_fail", row, event=type(event).__name__)

    def attempt_started(self, run: OwnedRun, activity: OpenActivity) -> None:
        """An attempt of that activity has started."""
        name = activity.scheduled.name
        self.hook("on_activity_start", run.row, activity=name, attempt=activity.attempt)

    def hook(self, name: str, row: RunRow, **details: Any) -> None:
        """Call every hook of that name."""
        if not self._has_hooks:
            return
        told = {
            "workflow_id": row.workflow_id,
            "run_id": RunId(row.run_id),
            "workflow": row.workflow,
            **details,
        }
        self._hooks.call(name, told)

    async def close(self) -> None:
        """Wait for the hooks that are still running."""
        await self._hooks.close()
