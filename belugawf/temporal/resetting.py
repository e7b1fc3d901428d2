"""Taking a run up again: the server's reset, at the workflow task before a point of its history.

The server copies the history up to that task into a new run, and has the task done once more. What
comes later is gone over again: signals are delivered again, but how activities ended is forgotten,
so those are done again. Which point that is, and what it costs, is decided here from the history.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.service import RPCError

from belugawf.executor import RunInfo
from belugawf.model.errors import RefusedError, UsageError
from belugawf.model.shell import command_line
from belugawf.model.values import frozen
from belugawf.temporal.connection import CALL_TIMEOUT, server_error
from belugawf.temporal.histories import Translation
from belugawf.temporal.server import RunName, Server
from belugawf.temporal.snapshots import Snapshot

logger = logging.getLogger("belugawf.temporal")

_COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
_FAILURES = (
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
)
_CANCEL_REQUESTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
_FACTS = (
    *(_COMPLETED, *_FAILURES, _CANCEL_REQUESTED),
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
    EventType.EVENT_TYPE_TIMER_FIRED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
)
_TASKS = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)


@frozen()
class Reset:
    """Where a run is taken up again.

    `task` is the event with which the workflow task ended that is done once more, `again` are the
    activities that have completed since that began, by the events that say so.
    """

    task: int
    again: Mapping[int, str]


async def reset(
    server: Server, snapshot: Snapshot, from_position: int | None, discard: bool, reason: str
) -> RunName:
    """Reset the run; the new one. Raises `RefusedError`, `UsageError`."""
    info = snapshot.info
    _check_may(info)
    if (await server.resolve(str(info.workflow_id))).run_id != info.run_id:
        raise RefusedError(
            f"run {info.run_id} is not the last one of workflow id {info.workflow_id!r}",
            hint=f"take up that: {command_line('retry', info.workflow_id)}",
        )
    history = await server.fetch_history(snapshot.run)
    point = _ending(history, info) if from_position is None else _event_at(history, from_position)
    plan = planned(history, point)
    # Whoever names a point knows what comes after it.
    lost = [name for id, name in plan.again.items() if from_position is None or id < point]
    if lost and not discard:
        raise RefusedError(
            f"run {info.workflow_id!r} cannot be taken up without doing again what has completed: "
            f"{', '.join(lost)}",
            hint=f"if that may be: {command_line('retry', info.workflow_id)} --yes (in Python "
            "discard=True)",
        )
    if plan.again:
        done = ", ".join(plan.again.values())
        logger.warning("run %r: these activities are done again: %s", info.workflow_id, done)
    excluded = [ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST]
    request = ResetWorkflowExecutionRequest(
        namespace=server.settings.namespace,
        workflow_execution=snapshot.run.execution,
        reason=reason,
        workflow_task_finish_event_id=plan.task,
        # Two who ask for the same get the same run.
        request_id=f"belugawf-retry-{info.run_id}-{plan.task}",
        reset_reapply_exclude_types=excluded if info.status == "cancelled" else (),
        identity=server.client.identity,
    )
    try:
        answer = await server.client.workflow_service.reset_workflow_execution(
            request, retry=True, timeout=CALL_TIMEOUT
        )
    except RPCError as error:
        raise server_error(error, server.settings) from error
    return RunName(info.workflow_id, answer.run_id)


def told(reason: str | None, by: str | None) -> str:
    """Why a run is reset, as the server keeps it."""
    what = "retry" if by is None else f"retry by {by}"
    return what if reason is None else f"{what}: {reason}"


def planned(history: Sequence[HistoryEvent], point: int) -> Reset:
    """The reset that leaves out that event, and as little before it as can be."""
    ended = [event for event in history if event.event_type in _TASKS]
    tasks = [(_attributes(event).started_event_id, event.event_id) for event in ended]
    # One that nobody had begun has no such event.
    tasks = [pair for pair in tasks if pair[0] > 0]
    if not tasks:
        raise RefusedError("nothing of it was done", hint="start it anew: belugawf rerun RUN")
    began, task = max((pair for pair in tasks if pair[0] < point), default=min(tasks))
    names, positions = dict(_names(history)), _positions(history)
    again = {}
    for event in history:
        if event.event_type == _COMPLETED and event.event_id > began:
            name = names[_attributes(event).scheduled_event_id]
            again[event.event_id] = f"{name} (event {positions[event.event_id]})"
    return Reset(task, again)


def _check_may(info: RunInfo) -> None:
    if info.status == "running" and info.problem is None:
        what, hint = "runs, and is not parked", command_line("status", info.workflow_id)
    elif info.status in ("completed", "terminated", "continued_as_new"):
        what, hint = f"is {info.status.replace('_', ' ')}", command_line("rerun", info.workflow_id)
    else:
        return
    raise RefusedError(f"run {info.workflow_id!r} {what}: it is not taken up again", hint=hint)


def _ending(history: Sequence[HistoryEvent], info: RunInfo) -> int:
    """The event that has brought about the run's end; if none has, what would come next."""
    end = history[-1].event_id + 1
    if info.status == "cancelled":
        requests = (e.event_id for e in history if e.event_type == _CANCEL_REQUESTED)
        return next(requests, end)
    facts = [event for event in history if event.event_type in _FACTS]
    if info.status == "failed" and info.error is not None and info.error.activity is not None:
        names = dict(_names(history))
        for event in reversed(facts):
            failed = event.event_type in _FAILURES
            if failed and names[_attributes(event).scheduled_event_id] == info.error.activity:
                return event.event_id
    if info.status == "failed" and facts and facts[-1].event_type in _FAILURES:
        return facts[-1].event_id
    return end


def _event_at(history: Sequence[HistoryEvent], position: int) -> int:
    """The server's event behind that one of ours."""
    positions = _positions(history)
    if not 2 <= position <= max(positions.values()):
        raise UsageError(
            f"position {position} is not between 2 and {max(positions.values())}",
            hint="see them: belugawf history RUN",
        )
    return next(id for id, last in positions.items() if last >= position)


def _positions(history: Sequence[HistoryEvent]) -> dict[int, int]:
    """For each of the server's events, how many of ours there are up to it."""
    translation, positions = Translation(), {}
    for event in history:
        translation.take(event)
        positions[event.event_id] = len(translation.events)
    return positions


def _names(history: Sequence[HistoryEvent]) -> Iterator[tuple[int, str]]:
    for event in history:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            yield event.event_id, _attributes(event).activity_type.name


def _attributes(event: HistoryEvent) -> Any:
    return getattr(event, str(event.WhichOneof("attributes")))
