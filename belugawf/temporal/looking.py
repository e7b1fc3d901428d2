"""Runs on the server as people see them: `RunInfo` and its kin."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from temporalio.api.enums.v1 import (
    EventType,
    PendingActivityState,
    PendingWorkflowTaskState,
    WorkflowExecutionStatus,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo, WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from belugawf.executor import OpenWait, Owner, Problem, RunId, RunInfo, Waiting
from belugawf.model import events as e
from belugawf.model.durations import parse_instant
from belugawf.model.errors import Failure, PayloadTypeError
from belugawf.model.history import OpenWork
from belugawf.temporal.environment import problem_of
from belugawf.temporal.histories import instant, translate
from belugawf.temporal.payloads import LABELS_MEMO, PROGRESS_MEMO, WAITS_MEMO, to_text
from belugawf.temporal.server import owner_of
from belugawf.views import waiting_for

PROVIDER = "temporal"
# A task that no worker has taken for so long, though some polled lately: they are gone.
_UNTAKEN_S = 12.0
# The same where none polled lately.
_UNPOLLED_S = 3.0

STATUSES = {
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING: "running",
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED: "completed",
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED: "failed",
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED: "cancelled",
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED: "terminated",
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW: "continued_as_new",
    WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT: "timed_out",
}


def run_info(
    described: DescribeWorkflowExecutionResponse, history: Sequence[HistoryEvent]
) -> RunInfo:
    """The run as it is now, from what the server says of it and its history."""
    info = described.workflow_execution_info
    translation = translate(history, described.pending_activities)
    events = translation.events
    started, last = events[0], events[-1]
    assert isinstance(started, e.WorkflowStarted)
    status = status_of(info)
    work = OpenWork.of(events) if status == "running" else OpenWork()
    expires = described.workflow_extended_info.execution_expiration_time
    return RunInfo(
        workflow_id=info.execution.workflow_id,
        run_id=RunId(info.execution.run_id),
        workflow=info.type.name,
        status=status,
        input=None if started.payload is None else json.loads(started.payload),
        result=json.loads(last.payload) if isinstance(last, e.WorkflowCompleted) else None,
        error=_error(last),
        waiting_for=tuple(_as_seen(wait, translation.pending) for wait in waiting_for(work)),
        problem=_problem(history) if status == "running" else None,
        created_at=instant(info.start_time),
        updated_at=max(last.time, started.time),
        closed_at=instant(info.close_time) if info.HasField("close_time") else None,
        deadline=started.deadline or (instant(expires) if expires.seconds > 0 else None),
        owner=_owner(described) if status == "running" else None,
        provider=PROVIDER,
        labels=labels_of(info),
        parent=info.parent_execution.run_id or None,
        progress=memo_of(info, PROGRESS_MEMO) if status == "running" else None,
        history_length=len(events),
        cancel_requested=work.cancel_requested,
    )


def _as_seen(wait: Waiting, pending: Mapping[int, PendingActivityInfo]) -> Waiting:
    """What a run waits for, with what only the server knows: attempts that died, the last error."""
    activity = pending.get(wait.seq or 0)
    if wait.kind != "activity" or activity is None:
        return wait
    error = wait.error or activity.last_failure.message or None
    return replace(wait, attempt=activity.attempt, error=error)


def status_of(info: WorkflowExecutionInfo) -> str:
    """Our word for a status of the server's."""
    return STATUSES.get(info.status, "running")


def _error(last: e.Event) -> Failure | None:
    if isinstance(last, e.WorkflowFailed):
        return Failure.from_json(json.loads(last.payload))
    if isinstance(last, e.WorkflowTerminated) and last.reason:
        return Failure("Terminated", last.reason)
    return None


def _problem(history: Sequence[HistoryEvent]) -> Problem | None:
    """Why the last turn could not be taken, if it could not."""
    for event in reversed(history):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return None
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            attributes = event.workflow_task_failed_event_attributes
            if attributes.cause in _NO_FAULT:
                return None
            return problem_of(attributes.failure)
    return None


# The task was given up for something that happened to the run, not for its code.
_NO_FAULT = (
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_STICKY_TASK_QUEUE,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FAILOVER_CLOSE_COMMAND,
)


def _owner(described: DescribeWorkflowExecutionResponse) -> Owner | None:
    """The worker that runs an activity of it now."""
    for activity in described.pending_activities:
        if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
            return owner_of(activity.last_worker_identity, instant(activity.last_started_time))
    return None


# -- the memo ------------------------------------------------------------------------------------


def memo_of(info: WorkflowExecutionInfo, key: str) -> Any:
    """A value of the run's memo, `None` where it has none."""
    payload = info.memo.fields.get(key)
    if payload is None:
        return None
    try:
        return json.loads(to_text(payload))
    except (PayloadTypeError, ValueError):
        return None


def labels_of(info: WorkflowExecutionInfo) -> Mapping[str, str]:
    """The run's labels."""
    labels = memo_of(info, LABELS_MEMO)
    return labels if isinstance(labels, dict) else {}


def open_waits(info: WorkflowExecutionInfo) -> list[OpenWait]:
    """The signals that an open run waits for, without its history."""
    if status_of(info) != "running":
        return []
    return [
        OpenWait(
            workflow_id=info.execution.workflow_id,
            run_id=RunId(info.execution.run_id),
            workflow=info.type.name,
            signal=wait["signal"],
            since=parse_instant(wait["since"]),
            until=None if wait.get("until") is None else parse_instant(wait["until"]),
            prompt=wait.get("prompt"),
            expected=wait.get("expected"),
        )
        for wait in memo_of(info, WAITS_MEMO) or ()
    ]


# -- whether it moves ----------------------------------------------------------------------------


def is_untaken(described: DescribeWorkflowExecutionResponse, *, polled: bool) -> bool:
    """Whether something of the run waits for a worker, and none comes."""
    patience = _UNTAKEN_S if polled else _UNPOLLED_S
    return any(time.time() - since > patience for since in _untaken_since(described))


def _untaken_since(described: DescribeWorkflowExecutionResponse) -> list[float]:
    """Since when tasks of the run wait for a worker, in seconds since 1970."""
    moments: list[float] = []
    task = described.pending_workflow_task
    scheduled = PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
    if described.HasField("pending_workflow_task") and task.state == scheduled:
        moments.append(task.original_scheduled_time.ToNanoseconds() / 1e9)
    for activity in described.pending_activities:
        if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
            due = activity.next_attempt_schedule_time or activity.scheduled_time
            first = activity.scheduled_time.ToNanoseconds() / 1e9
            moments.append(max(due.ToNanoseconds() / 1e9, first))
    return moments


def has_turn_due(described: DescribeWorkflowExecutionResponse) -> bool:
    """Whether a worker is to take a turn of the run now."""
    return described.HasField("pending_workflow_task")


def goes_on(
    info: RunInfo, described: DescribeWorkflowExecutionResponse, now: int, patience: int
) -> bool:
    """Whether the run will move within `patience` nanoseconds, where workers are there."""
    if not info.open or info.problem is not None or info.unattended is not None:
        return False
    if has_turn_due(described):
        return True
    soon = now + patience
    for wait in info.waiting_for:
        if wait.kind == "activity" and (wait.until is None or wait.until <= soon):
            return True
        if wait.kind == "timer" and wait.until is not None and wait.until <= soon:
            return True
        if wait.kind == "signal" and wait.until is not None and wait.until <= soon:
            return True
    return not info.waiting_for
