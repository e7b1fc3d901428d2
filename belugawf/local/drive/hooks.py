"""Log lines and hooks of turns that are on disk: each at most once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from belugawf.executor import Hooks, RunId
from belugawf.host.hooks import HookCaller, emit
from belugawf.host.logs import LineBuffer, mark
from belugawf.local.drive.run import OwnedRun
from belugawf.local.store.rows import RunRow
from belugawf.model import events as e
from belugawf.model.history import OpenActivity
from belugawf.replay.replayer import Replayer

logger = logging.getLogger("belugawf.engine")


class TurnHooks:
    """Calls loggers and hooks. A hook that raises is logged, and touches no run.

    `lines` keeps what the runs have logged, `None`: nobody does.
    """

    def __init__(self, hooks: Sequence[Hooks], lines: LineBuffer | None = None) -> None:
        self._lines = lines
        # Of turns that could not be taken, until it is known whether that is news.
        self._held: dict[int, tuple[RunRow, list[logging.LogRecord]]] = {}
        self._has_hooks = bool(hooks)
        self._hooks = HookCaller(hooks, logger)

    def turn(self, run: OwnedRun, replayer: Replayer, events: Iterable[e.Event]) -> None:
        """A turn of that run was committed with these events. What they end still has its slot."""
        logs = replayer.take_logs()
        if logs:
            self._emit(run.row, logs)
        if self._has_hooks:
            for event in events:
                self._event(run, event)

    def hold_logs(self, run: OwnedRun) -> None:
        """The run's turn cannot be taken: hold what its code has logged in it."""
        if run.state is not None and (logs := run.state.replayer.take_logs(refused=True)):
            self._held[run.key] = run.row, logs

    def refused(self, news: Collection[int]) -> None:
        """Runs were refused, and the problems of these are new: their held lines are shown."""
        for key in [key for key in self._held if key in news]:
            self._emit(*self._held[key])
        self._held.clear()

    def _emit(self, row: RunRow, logs: Sequence[logging.LogRecord]) -> None:
        for record in logs:
            mark(record, row.workflow_id, row.run_id)
            if self._lines is not None:
                self._lines.add(record, row.key)
        emit(logger, logs)

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
