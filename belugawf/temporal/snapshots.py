"""Runs on the server as people see them: `RunInfo` and its kin."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio.api.enums.v1 import (
    PendingActivityState,
    PendingWorkflowTaskState,
    TaskQueueType,
)
from temporalio.api.workflow.v1 import PendingActivityInfo, WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from belugawf.executor import OpenWait, Owner, Problem, RunId, RunInfo, Waiting
from belugawf.executor.views import waiting_for
from belugawf.host.loops import hidden_task
from belugawf.model import events as e
from belugawf.model.durations import parse_instant
from belugawf.model.errors import Failure, PayloadTypeError
from belugawf.model.values import frozen
from belugawf.temporal.connection import owner_of
from belugawf.temporal.following import Followed, Histories
from belugawf.temporal.histories import instant
from belugawf.temporal.payloads import LABELS_MEMO, PROGRESS_MEMO, to_text, waits_in
from belugawf.temporal.server import STATUSES, RunName, Server

if TYPE_CHECKING:
    from belugawf.temporal.driving import Driving

PROVIDER = "temporal"
# Calls to the server at the same time.
_AT_ONCE = 16
# A `resume` without a name ends after this silence of the task queue, in seconds.
_SILENCE_S = 1.0
# How often a run that is waited for is looked at here, and whether anybody drives it, in seconds.
_LOOKED_S = 0.25
_DRIVEN_S = 1.0
# How long a worker may take until it polls, in seconds.
_BEGINS_S = 2.0
# How long a `resume` waits for a turn that was refused before, in seconds.
_REFUSED_S = 30.0
# A task that no worker has taken for so long, though some polled lately: they are gone.
_POLLED_LATELY_S = 12.0
# The same if none polled lately.
_UNPOLLED_S = 3.0
# So many runs are watched for that.
_WATCHED = 10_000
_SCHEDULED = PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED


@frozen()
class Snapshot:
    """A run as it was at one moment, `seen_at` by the server's clock as far as it is known.

    `recorded` is the problem that its history tells of. `lasting`: if nobody takes what it has
    ready, that has been so for a while.
    """

    run: RunName
    info: RunInfo
    described: DescribeWorkflowExecutionResponse
    events: Sequence[e.Event]
    recorded: Problem | None
    seen_at: int
    lasting: bool

    @property
    def recorded_input(self) -> str | None:
        """See `base.Snapshot`."""
        started = self.events[0]
        assert isinstance(started, e.WorkflowStarted)
        return started.payload

    @property
    def timeout(self) -> timedelta | None:
        """See `base.Snapshot`."""
        given = self.described.execution_config.workflow_execution_timeout.ToTimedelta()
        return given or None

    @property
    def settled(self) -> RunInfo:
        """The run, for those who can wait a moment for a worker."""
        return self.info if self.lasting else replace(self.info, unattended=None)

    def goes_on(self, idle_wait_ns: int, *, ignoring_problem: bool = False) -> bool:
        """Whether it will move within `idle_wait_ns`, if workers are there.

        `ignoring_problem`: with a worker that is yet to come, whose code may have been mended.
        """
        info = self.settled
        stuck = info.problem is not None or info.unattended is not None
        if not info.open or (stuck and not ignoring_problem):
            return False
        if self.described.HasField("pending_workflow_task"):
            return True
        soon = self.seen_at + idle_wait_ns
        for wait in info.waiting_for:
            if wait.kind == "activity" and wait.until is None and wait.state != "paused":
                return True
            if wait.until is not None and wait.until <= soon:
                return True
        return not info.waiting_for

    def with_news(self, before: Snapshot | None) -> RunInfo:
        """The run with its problem marked as new, if it had no such problem before."""
        problem = self.info.problem
        if problem is None:
            return self.info
        known = None if before is None else before.recorded
        new = known is None or known.code != problem.code
        return replace(self.info, problem=replace(problem, new=new))


class SnapshotReader:
    """Looks at runs. What our own worker has met counts before what the server tells."""

    def __init__(self, server: Server, driving: Driving) -> None:
        self._server = server
        self._driving = driving
        self.histories = Histories(server)
        # Since when nobody took what these runs have ready, by the monotonic clock.
        self._unpolled: dict[str, float] = {}

    async def read(self, name: RunName) -> Snapshot:
        """The run as it is now."""
        # Before the server is asked: a turn that is taken meanwhile is not in its answer.
        touched = self._driving.has_touched(name.run_id)
        described = await self._server.describe(name)
        followed = self.histories.of(name)
        await followed.until(described.workflow_execution_info.history_length)
        info, events = run_info(described, followed)
        recorded, lasting = info.problem, False
        if info.open:
            problem = self._problem(info, described) if touched else recorded
            unattended = None
            if problem is None:
                unattended, lasting = await self._unattended(name, described)
            info = replace(
                info,
                problem=problem,
                unattended=unattended,
                state=_state(problem, described, self._server.now()),
            )
        return Snapshot(name, info, described, events, recorded, self._server.now(), lasting)

    def news(self, name: RunName) -> asyncio.Future[None]:
        """Done when there is more to read of the run, or there was not for a while."""
        return self.histories.of(name).more()

    async def until_closed(self, name: RunName) -> None:
        """Until the run has ended, or something may keep it from that."""
        loop, began = asyncio.get_running_loop(), time.monotonic()
        closing = hidden_task(loop, self._server.closed(name))
        try:
            while not closing.done():
                await asyncio.wait([closing], timeout=_LOOKED_S)
                if self._driving.knows_trouble(name.run_id):
                    return
                if not self._driving.is_on and time.monotonic() - began > _DRIVEN_S:
                    return
            if closing.exception() is not None:
                await asyncio.sleep(_DRIVEN_S)
        finally:
            closing.cancel()

    async def read_many(self, runs: Sequence[RunName]) -> Sequence[Snapshot]:
        """Many runs, a few at a time."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(run: RunName) -> Snapshot:
            async with gate:
                return await self.read(run)

        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(hidden_task(loop, read(run)) for run in runs)))

    async def until_at_rest(
        self, runs: Sequence[RunName], named: bool, idle_wait_ns: int, end: int | None
    ) -> None:
        """Until each of these runs rests, or time is up, or somebody interrupts."""
        driving, left = self._driving, list(runs)
        worker = driving.begun()
        began = time.monotonic()
        while not await self._server.compare_clocks():
            await driving.pause(_BEGINS_S / 40)
            if driving.interrupts or time.monotonic() - began > _BEGINS_S:
                break
        while not driving.interrupts and (end is None or time.monotonic_ns() < end):
            worker.raise_if_broken()
            # A problem that was recorded before is no word on the code as it is here now. But the
            # server may take its time before it hands out a refused turn again.
            waits = time.monotonic() - began < _REFUSED_S
            # Before the server is asked: a turn that is taken meanwhile is not in its answer.
            touched = {run.run_id for run in driving.touched()}
            snapshots = await self.read_many(left)
            left = [
                snapshot.run
                for snapshot in snapshots
                if snapshot.goes_on(
                    idle_wait_ns, ignoring_problem=waits and snapshot.run.run_id not in touched
                )
            ]
            if not named:
                others = [run for run in driving.touched() if run not in left]
                snapshots = await self.read_many(others)
                left += [snapshot.run for snapshot in snapshots if snapshot.goes_on(idle_wait_ns)]
            silent = time.monotonic() - worker.environment.active_at > _SILENCE_S
            if not left and (named or (silent and not worker.in_flight)):
                return
            pause = 0.2 if end is None else min(0.2, max((end - time.monotonic_ns()) / 1e9, 0.01))
            await driving.pause(pause)

    def _problem(
        self, info: RunInfo, described: DescribeWorkflowExecutionResponse
    ) -> Problem | None:
        """What keeps a run from moving that our own worker has touched: that knows best."""
        worker = self._driving.worker
        assert worker is not None
        if not described.HasField("pending_workflow_task"):
            return None  # the last turn was taken, wherever that was
        own = worker.environment.problems.get(info.run_id)
        task = described.pending_workflow_task
        if own is None and task.attempt > 1 and task.state == _SCHEDULED:
            # We had nothing against the turn, and the server refused it. One that is started is
            # on its way there.
            return info.problem
        return own

    async def _unattended(
        self, run: RunName, described: DescribeWorkflowExecutionResponse
    ) -> tuple[str | None, bool]:
        """That no worker takes what the run has ready, if none does; whether for a while.

        How long that lies there is measured by our clock alone, or by the server's alone.
        """
        own = self._server.settings.task_queue
        kind, queue = _ready(described, own)
        if kind is None or (self._driving.is_on and queue == own):
            self._unpolled.pop(run.run_id, None)
            return None, False
        if len(self._unpolled) > _WATCHED:
            self._unpolled.clear()
        since = self._unpolled.setdefault(run.run_id, time.monotonic())
        # Ours take turns, and so activities too; others may take only these.
        turns = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
        polled = bool(await self._server.workers(queue, turns if queue == own else kind))
        if polled and kind is TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY:
            return None, False  # all of them may be busy
        count, age_s = await self._server.backlog(kind, queue)
        patience = _POLLED_LATELY_S if polled else _UNPOLLED_S
        lasting = max(age_s, time.monotonic() - since) >= patience
        if not count or (polled and not lasting):
            return None, False
        return f"no worker answers on task queue {queue!r}", lasting


def _state(problem: Problem | None, described: DescribeWorkflowExecutionResponse, now: int) -> str:
    """See `RunInfo.state`: due is what lies on a task queue, and no worker has taken."""
    if problem is not None:
        return "parked"
    turn = described.HasField("pending_workflow_task")
    if turn and described.pending_workflow_task.state != _SCHEDULED:
        return "working"
    activities = [a for a in described.pending_activities if not a.paused]
    if any(a.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED for a in activities):
        return "working"
    # An activity that is to be tried again later has a moment for that.
    is_due = turn or any(instant(a.next_attempt_schedule_time) <= now for a in activities)
    return "due" if is_due else "waiting"


def _ready(
    described: DescribeWorkflowExecutionResponse, own: str
) -> tuple[TaskQueueType.ValueType | None, str]:
    """What the run has ready that no worker has taken, if it has something, and on which queue.

    What lies in another queue holds the run up only if it has no other activity.
    """
    if described.HasField("pending_workflow_task"):
        if described.pending_workflow_task.state == _SCHEDULED:
            return TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, own
        return None, own
    pending = described.pending_activities
    scheduled = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    queues = [
        activity.activity_options.task_queue.name or own
        for activity in pending
        if activity.state == scheduled
    ]
    if own in queues:
        return TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, own
    if not queues or len(queues) < len(pending):
        return None, own
    return TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, queues[0]


def run_info(
    described: DescribeWorkflowExecutionResponse, followed: Followed
) -> tuple[RunInfo, Sequence[e.Event]]:
    """The run as it is now, from what the server says of it and its history; and its events."""
    info = described.workflow_execution_info
    events, work, pending = followed.with_pending(described.pending_activities)
    started, last = events[0], followed.events[-1]
    assert isinstance(started, e.WorkflowStarted)
    status = status_of(info)
    waits = [_as_seen(wait, pending) for wait in waiting_for(work)]
    if status == "running" and not followed.begun:
        begins = instant(info.execution_time)
        waits.append(Waiting(kind="timer", name="its start", since=started.time, until=begins))
    expires = described.workflow_extended_info.execution_expiration_time
    return RunInfo(
        workflow_id=info.execution.workflow_id,
        run_id=RunId(info.execution.run_id),
        workflow=info.type.name,
        status=status,
        input=None if started.payload is None else json.loads(started.payload),
        result=json.loads(last.payload) if isinstance(last, e.WorkflowCompleted) else None,
        error=_error(last),
        waiting_for=tuple(waits) if status == "running" else (),
        problem=followed.problem if status == "running" else None,
        created_at=instant(info.start_time),
        updated_at=max(last.time, started.time),
        closed_at=instant(info.close_time) if info.HasField("close_time") else None,
        # A reset sets another one than the history begins with.
        deadline=instant(expires) if expires.seconds > 0 else started.deadline,
        owner=_owner(described) if status == "running" else None,
        provider=PROVIDER,
        labels=labels_of(info),
        parent=info.parent_execution.run_id or None,
        progress=memo_of(info, PROGRESS_MEMO) if status == "running" else None,
        history_length=len(events),
        cancel_requested=work.cancel_requested and status == "running",
    ), events


def _as_seen(wait: Waiting, pending: Mapping[int, PendingActivityInfo]) -> Waiting:
    """What a run waits for, with what only the server knows: attempts that died, the last error."""
    activity = pending.get(wait.seq or 0)
    if wait.kind != "activity" or activity is None:
        return wait
    error = wait.error or activity.last_failure.message or None
    if activity.paused:
        # By `temporal activity pause`; until somebody unpauses it.
        return replace(wait, attempt=activity.attempt, error=error, state="paused", until=None)
    return replace(wait, attempt=activity.attempt, error=error)


def status_of(info: WorkflowExecutionInfo) -> str:
    """Our word for a status of the server's."""
    return STATUSES.get(info.status, "running")


def _error(last: e.Event) -> Failure | None:
    if isinstance(last, e.WorkflowFailed | e.WorkflowTimedOut) and last.payload is not None:
        return Failure.from_json(json.loads(last.payload))
    if isinstance(last, e.WorkflowTerminated) and last.reason:
        return Failure("Terminated", last.reason)
    return None


def _owner(described: DescribeWorkflowExecutionResponse) -> Owner | None:
    """The worker that runs an activity of it now."""
    for activity in described.pending_activities:
        if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
            return owner_of(activity.last_worker_identity, instant(activity.last_started_time))
    return None


# -- the memo ------------------------------------------------------------------------------------


def memo_of(info: WorkflowExecutionInfo, key: str) -> Any:
    """A value of the run's memo, `None` if it has none."""
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
        for wait in (waits_in(info.memo.fields) or {}).values()
        if wait
    ]
