"""A history of the server's as ours: the same types, fields and order for both providers.

Temporal's own book-keeping (workflow tasks) is left out. What it has no events for is read from
where we put it: waits from changes of the memo, failed attempts from what their activity ended
with. `seq` numbers activities, timers and waits as they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo

from belugawf.executor import Problem
from belugawf.executor.checks import parked_failure
from belugawf.model import codec, events as e
from belugawf.model.durations import parse_duration, parse_instant
from belugawf.model.errors import Failure, PayloadTypeError
from belugawf.temporal.environment import problem_of
from belugawf.temporal.headers import read_header, sent_at
from belugawf.temporal.ledger import AttemptLedger
from belugawf.temporal.payloads import (
    ATTEMPTS,
    WAIT_MEMO,
    failure_of,
    join,
    one,
    recorded_in,
    timeout_failure,
    to_text,
    waits_in,
)

# A type of event and its fields, without its position.
Made: TypeAlias = tuple[type[e.Event], dict[str, Any]]


def instant(moment: Timestamp) -> int:
    """A moment of the server's in nanoseconds since 1970, in whole microseconds."""
    return moment.ToNanoseconds() // 1000 * 1000


def translated(history: Iterable[HistoryEvent]) -> list[e.Event]:
    """The events, with positions from 1."""
    translation = Translation()
    for event in history:
        translation.take(event)
    return translation.events


class Translation:
    """A history on its way: `events` so far. `problem` is why the last turn could not be taken."""

    def __init__(self) -> None:
        self.events: list[e.Event] = []
        self.problem: Problem | None = None
        self._numbers: dict[tuple[str, int], int] = {}
        self._waits: dict[int, dict[str, Any]] = {}
        self._due: dict[int, int] = {}
        # When the timers of one workflow task and length are due.
        self._bounds: dict[tuple[int, int], int] = {}
        self._activities: dict[str, int] = {}
        self._time = 0

    def take(self, event: HistoryEvent) -> None:
        """Translate one more event."""
        self._time = max(instant(event.event_time), self._time)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            self.problem = None
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failed = event.workflow_task_failed_event_attributes
            self.problem = None if failed.cause in _NO_FAULT else problem_of(failed.failure)
        translate = _TRANSLATORS.get(event.event_type)
        if translate is None:
            return
        attributes = getattr(event, str(event.WhichOneof("attributes")))
        for event_type, fields in translate(self, event, attributes):
            self._add(event_type, fields)

    def pending(
        self, activities: Iterable[PendingActivityInfo]
    ) -> tuple[list[e.Event], dict[int, PendingActivityInfo]]:
        """The failed attempts of activities that are open, and these by their `seq`."""
        by_seq = {self._activities.get(a.activity_id, 0): a for a in activities}
        by_seq.pop(0, None)  # scheduled since
        position, attempts = len(self.events), []
        for seq, activity in by_seq.items():
            details = [_json(payload) for payload in activity.heartbeat_details.payloads]
            for event_type, fields in _attempts(seq, AttemptLedger.read(details).attempts):
                position += 1
                attempts.append(event_type(position=position, time=self._time, **fields))
        return attempts, by_seq

    def _add(self, event_type: type[e.Event], fields: dict[str, Any]) -> None:
        position = len(self.events) + 1
        self.events.append(event_type(position=position, time=self._time, **fields))

    def _number(self, kind: str, id: int) -> int:
        return self._numbers.setdefault((kind, id), len(self._numbers) + 1)

    # -- the run ---------------------------------------------------------------------------------

    def started(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        data = read_header(attributes.header.fields)
        deadline = attributes.workflow_execution_expiration_time
        parent = attributes.parent_workflow_execution.run_id
        fields = {
            "name": attributes.workflow_type.name,
            "workflow_id": attributes.workflow_id,
            "run_id": attributes.original_execution_run_id,
            "payload": _text(attributes.input.payloads),
            "deadline": instant(deadline) if deadline.seconds > 0 else None,
            "python": data.get("python", ""),
            "belugawf": data.get("belugawf", ""),
            "parent": parent or None,
        }
        yield e.WorkflowStarted, fields

    def signaled(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        data = read_header(attributes.header.fields)
        moment = sent_at(data)
        fields = {
            "name": attributes.signal_name,
            "payload": _text(attributes.input.payloads) or "null",
            "at": self._time if moment is None else moment,
            "sender": data.get("sender"),
            "key": data.get("key"),
        }
        yield e.SignalReceived, fields

    def cancel_requested(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        yield e.CancelRequested, {"at": self._time, "reason": attributes.cause or None}

    def completed(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        yield from self._end_waits()
        yield e.WorkflowCompleted, {"payload": _text(attributes.result.payloads) or "null"}

    def failed(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        yield from self._end_waits()
        failure = failure_of(attributes.failure)
        yield e.WorkflowFailed, {"payload": codec.encode(failure.to_json())}

    def cancelled(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        yield from self._end_waits()
        yield e.WorkflowCancelled, {}

    def terminated(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        yield e.WorkflowTerminated, {"reason": attributes.reason or None}

    def timed_out(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        told = None
        if self.problem is not None:
            failure = parked_failure(self.problem.message, self.problem.traceback)
            told = codec.encode(failure.to_json())
        yield e.WorkflowTimedOut, {"at": self._time, "payload": told}

    # -- timers and waits ------------------------------------------------------------------------

    def timer_started(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("timer", event.event_id)
        delay: Duration = attributes.start_to_fire_timeout
        due_at = instant(event.event_time) + delay.ToNanoseconds() // 1000 * 1000
        self._due[seq] = due_at
        task = attributes.workflow_task_completed_event_id
        self._bounds[(task, _milliseconds(delay.ToNanoseconds()))] = due_at
        yield e.TimerStarted, {"seq": seq, "delay": delay.ToTimedelta(), "due_at": due_at}

    def timer_fired(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("timer", attributes.started_event_id)
        yield e.TimerFired, {"seq": seq, "at": self._due[seq]}

    def timer_cancelled(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        yield e.TimerCancelled, {"seq": self._number("timer", attributes.started_event_id)}

    def memo_changed(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        memo = attributes.upserted_memo.fields
        changed = waits_in(memo)
        if changed is None:
            return
        if not any(key.startswith(WAIT_MEMO) for key in memo):
            # An older version writes all that are open.
            changed = {**dict.fromkeys(self._waits), **changed}
        yield from self._end_waits([token for token, wait in changed.items() if wait is None])
        for token, wait in changed.items():
            if wait is not None and token not in self._waits:
                self._waits[token] = wait
                task = attributes.workflow_task_completed_event_id
                fields = {
                    "seq": self._number("wait", token),
                    "name": wait["signal"],
                    "until": self._until(wait, task),
                    "prompt": wait.get("prompt"),
                    "expected": wait.get("expected"),
                    "schema": wait.get("schema"),
                }
                yield e.WaitStarted, fields

    def _until(self, wait: Mapping[str, Any], task: int) -> int | None:
        """When the wait times out: when the timer is due that was started with it."""
        if wait.get("until") is None:
            return None
        until = parse_instant(wait["until"])
        length = _milliseconds(until - parse_instant(wait["since"]))
        return self._bounds.get((task, length), until)

    def _end_waits(self, over: Sequence[int] | None = None) -> Iterable[Made]:
        for token in list(self._waits) if over is None else over:
            if self._waits.pop(token, None) is not None:
                yield e.WaitEnded, {"seq": self._number("wait", token)}

    # -- activities ------------------------------------------------------------------------------

    def activity_scheduled(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("activity", event.event_id)
        self._activities[attributes.activity_id] = seq
        name = attributes.activity_type.name
        beside = read_header(attributes.header.fields)
        fields = {
            "seq": seq,
            "name": name,
            "payload": _arguments(attributes.input.payloads),
            "activity_id": beside.get("id", attributes.activity_id if not beside else ""),
            **_options(beside, attributes),
        }
        yield e.ActivityScheduled, fields

    def activity_completed(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("activity", attributes.scheduled_event_id)
        payloads = attributes.result.payloads
        ended = {}
        if payloads and ATTEMPTS in payloads[0].metadata:
            ended = json.loads(payloads[0].metadata[ATTEMPTS])
        yield from _attempts(seq, ended.get("attempts", ()))
        yield e.ActivityCompleted, {"payload": _text(payloads) or "null", **self._end(seq, ended)}

    def activity_failed(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("activity", attributes.scheduled_event_id)
        ours = recorded_in(attributes.failure)
        failure, beside = ours or (failure_of(attributes.failure), {})
        yield from _attempts(seq, beside.get("attempts", ()))
        yield self._failed(seq, failure, beside.get("limit", ""), self._end(seq, beside))

    def activity_timed_out(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("activity", attributes.scheduled_event_id)
        limit, failure = timeout_failure(attributes.failure.timeout_failure_info.timeout_type)
        yield self._failed(seq, failure, limit, self._end(seq, {}))

    def _failed(self, seq: int, failure: Failure, limit: str, end: dict[str, Any]) -> Made:
        fields = {"payload": codec.encode(failure.to_json()), **end}
        if limit:
            return e.ActivityTimedOut, {**fields, "limit": limit}
        return e.ActivityFailed, fields

    def _end(self, seq: int, ended: Mapping[str, Any]) -> dict[str, Any]:
        at, started_at = ended.get("at"), ended.get("started_at")
        return {
            "seq": seq,
            "at": self._time if at is None else parse_instant(at),
            "attempt": ended.get("attempt", 1),
            "started_at": None if started_at is None else parse_instant(started_at),
        }

    def activity_cancel_requested(self, event: HistoryEvent, attributes: Any) -> Iterable[Made]:
        seq = self._number("activity", attributes.scheduled_event_id)
        yield e.ActivityCancelRequested, {"seq": seq}


_Translator: TypeAlias = Callable[[Translation, HistoryEvent, Any], Iterable[Made]]

_TRANSLATORS: dict[int, _Translator] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: Translation.started,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: Translation.signaled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: Translation.cancel_requested,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: Translation.completed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: Translation.failed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: Translation.cancelled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: Translation.terminated,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: Translation.timed_out,
    EventType.EVENT_TYPE_TIMER_STARTED: Translation.timer_started,
    EventType.EVENT_TYPE_TIMER_FIRED: Translation.timer_fired,
    EventType.EVENT_TYPE_TIMER_CANCELED: Translation.timer_cancelled,
    EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED: Translation.memo_changed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: Translation.activity_scheduled,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: Translation.activity_completed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: Translation.activity_failed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: Translation.activity_timed_out,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: Translation.activity_cancel_requested,
}


# The task was given up for something that happened to the run, not for its code.
_NO_FAULT = (
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_STICKY_TASK_QUEUE,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FAILOVER_CLOSE_COMMAND,
)


def _milliseconds(nanoseconds: int) -> int:
    return round(nanoseconds / 1_000_000)


def _attempts(seq: int, attempts: Iterable[Mapping[str, Any]]) -> Iterable[Made]:
    """Attempts that failed and were followed by another."""
    for attempt in attempts:
        fields = {
            "seq": seq,
            "payload": codec.encode(attempt["error"]),
            "at": parse_instant(attempt["at"]),
            "attempt": attempt["attempt"],
            "retry_at": parse_instant(attempt["retry_at"]),
            "started_at": parse_instant(attempt["started_at"]),
        }
        yield e.AttemptFailed, fields


def _options(data: Mapping[str, Any], attributes: Any) -> dict[str, Any]:
    """The limits as `ActivityScheduled` has them; the server's own if others scheduled it."""
    if "max_attempts" not in data:
        return {"max_attempts": attributes.retry_policy.maximum_attempts}
    fields = {k: v for k, v in data.items() if k not in _NO_LIMITS}
    for name in ("timeout", "total_timeout", "heartbeat_timeout", "initial_delay", "max_delay"):
        if name in fields:
            fields[name] = parse_duration(fields[name])
    if "non_retryable" in fields:
        fields["non_retryable"] = tuple(fields["non_retryable"])
    return fields


# What else stands in the header of an activity.
_NO_LIMITS = ("max_crashes", "id", "function", "run", "run_timeout")


def _text(payloads: Sequence[Any]) -> str | None:
    """A payload's JSON text; what is not ours to read is said instead of it."""
    try:
        return one(payloads)
    except PayloadTypeError as error:
        return codec.encode({"unreadable": error.found})


def _arguments(payloads: Sequence[Any]) -> str:
    try:
        return join(payloads)
    except PayloadTypeError as error:
        return codec.encode([{"unreadable": error.found}])


def _json(payload: Any) -> Any:
    try:
        return json.loads(to_text(payload))
    except PayloadTypeError:
        return None
