"""The rules of histories: which event records which command, what may follow, what it adds up to.

A history begins with WorkflowStarted. Then facts and the commands that each led to alternate,
with notes between them, until one closing event ends it. The status of a run is the closing
event's, and "running" while there is none::

    WorkflowStarted  (fact commands*)*  closing
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from operator import attrgetter
from typing import Any, assert_never

from belugawf.model import commands as c, events as e
from belugawf.model.codec import encode
from belugawf.model.durations import duration_ns, from_micros, to_micros
from belugawf.model.policy import ActivityOptions, RetryPolicy
from belugawf.model.values import mutable

STATUS_OF: dict[type[e.Event], str] = {
    e.WorkflowCompleted: "completed",
    e.WorkflowFailed: "failed",
    e.WorkflowCancelled: "cancelled",
    e.WorkflowTerminated: "terminated",
    e.WorkflowTimedOut: "timed_out",
}


# The running Python's version, as WorkflowStarted records it.
PYTHON_VERSION = ".".join(map(str, sys.version_info[:3]))


def is_fact(event: e.Event) -> bool:
    """Whether replay applies it. What came too late to be seen by the code is only a note."""
    return event.kind is e.Kind.FACT and not getattr(event, "unread", False)


def is_recorded_command(event: e.Event) -> bool:
    """Whether it answers a command of the code, so that replay must meet that command."""
    return event.kind is e.Kind.COMMAND or isinstance(event, _ENDS_BY_CODE)


_ENDS_BY_CODE = (e.WorkflowCompleted, e.WorkflowFailed, e.WorkflowCancelled)


def record(
    command: c.Command, position: int, time: int, *, clock: int, late: bool = False
) -> e.Event:
    """The event that records a command.

    `time` is the event's, `clock` the engine's real clock, by which timers are due. `late`: the
    run is catching up after an outage.
    """
    match command:
        case c.ScheduleActivity():
            return _activity_scheduled(command, position, time, late)
        case c.RequestActivityCancel():
            return e.ActivityCancelRequested(position=position, time=time, seq=command.seq)
        case c.StartTimer():
            return e.TimerStarted(
                position=position,
                time=time,
                seq=command.seq,
                delay=command.delay,
                due_at=clock + duration_ns(command.delay)
                if command.moment is None
                else command.moment,
            )
        case c.CancelTimer():
            return e.TimerCancelled(position=position, time=time, seq=command.seq)
        case c.StartWait():
            return e.WaitStarted(
                position=position,
                time=time,
                seq=command.seq,
                name=command.name,
                until=None if command.timeout is None else clock + duration_ns(command.timeout),
                prompt=command.prompt,
                expected=command.expected,
                schema=command.schema,
            )
        case c.EndWait():
            return e.WaitEnded(
                position=position, time=time, seq=command.seq, outcome=command.outcome
            )
        case c.CompleteWorkflow():
            return e.WorkflowCompleted(position=position, time=time, payload=command.result)
        case c.FailWorkflow():
            payload = encode(command.failure.to_json())
            return e.WorkflowFailed(position=position, time=time, payload=payload)
        case c.CancelWorkflow():
            return e.WorkflowCancelled(position=position, time=time)
    assert_never(command)


def _activity_scheduled(
    command: c.ScheduleActivity, position: int, time: int, late: bool
) -> e.ActivityScheduled:
    options = command.options
    return e.ActivityScheduled(
        position=position,
        time=time,
        seq=command.seq,
        name=command.name,
        payload=command.arguments,
        activity_id="" if command.activity_id == str(command.seq) else command.activity_id,
        timeout=options.timeout,
        total_timeout=options.total_timeout,
        heartbeat_timeout=options.heartbeat_timeout,
        max_attempts=options.retry.max_attempts,
        initial_delay=options.retry.initial_delay,
        backoff_coefficient=options.retry.backoff_coefficient,
        max_delay=options.retry.max_delay,
        jitter=options.retry.jitter,
        non_retryable=options.retry.non_retryable,
        at_most_once=options.at_most_once,
        isolation=options.isolation,
        late=late,
    )


_RETRY = (
    *("max_attempts", "initial_delay", "backoff_coefficient", "max_delay", "jitter"),
    "non_retryable",
)
_LIMITS = ("timeout", "total_timeout", "heartbeat_timeout", "at_most_once")
_recorded = attrgetter(*_RETRY, *_LIMITS, "isolation")


def options_of(event: e.ActivityScheduled) -> ActivityOptions:
    """The limits that were recorded with an activity."""
    return _options(*_recorded(event))


@lru_cache(maxsize=256)  # the activities of a program share a few
def _options(*recorded: Any) -> ActivityOptions:
    *values, isolation = recorded
    named = dict(zip((*_RETRY, *_LIMITS), values, strict=True))
    return ActivityOptions(
        retry=RetryPolicy(**{name: named.pop(name) for name in _RETRY}),
        isolation="process" if isolation == "process" else "none",
        **named,
    )


def activity_id_of(event: e.ActivityScheduled) -> str:
    """The activity's id: the one given, else its number."""
    return event.activity_id or str(event.seq)


# What a command's recorded form is called, for comparing the two.
RECORDED_AS: dict[type[c.Command], type[e.Event]] = {
    c.ScheduleActivity: e.ActivityScheduled,
    c.RequestActivityCancel: e.ActivityCancelRequested,
    c.StartTimer: e.TimerStarted,
    c.CancelTimer: e.TimerCancelled,
    c.StartWait: e.WaitStarted,
    c.EndWait: e.WaitEnded,
    c.CompleteWorkflow: e.WorkflowCompleted,
    c.FailWorkflow: e.WorkflowFailed,
    c.CancelWorkflow: e.WorkflowCancelled,
}


def describe(asked: c.Command | e.Event) -> str:
    """A command, or the event that records it, in the same words, for messages."""
    match asked:
        case c.ScheduleActivity() | e.ActivityScheduled():
            return f"activity {asked.name!r}"
        case c.StartTimer() | e.TimerStarted():
            return f"a timer of {asked.delay.total_seconds():g} s"
        case c.StartWait() | e.WaitStarted():
            return f"a wait for signal {asked.name!r}"
        case c.RequestActivityCancel() | e.ActivityCancelRequested():
            return f"cancelling activity number {asked.seq}"
        case c.CancelTimer() | e.TimerCancelled():
            return f"cancelling timer number {asked.seq}"
        case c.EndWait() | e.WaitEnded():
            return f"the end of wait number {asked.seq}"
        case c.CompleteWorkflow() | e.WorkflowCompleted():
            return "the workflow's end with a result"
        case c.FailWorkflow():
            return f"the workflow's end with {asked.failure.type}: {asked.failure.message}"
        case e.WorkflowFailed():
            return "the workflow's end with an error"
        case c.CancelWorkflow() | e.WorkflowCancelled():
            return "the workflow's end as cancelled"
        case e.Event():
            return type(asked).__name__
    assert_never(asked)


def effective(history: Sequence[e.Event]) -> list[e.Event]:
    """A whole history without what does not count, because the run was taken up again before it."""
    counting: list[e.Event] = []
    for event in history:
        if isinstance(event, e.RunReopened):
            while counting and counting[-1].position > event.to:
                counting.pop()
        counting.append(event)
    return counting


# -- what is open --------------------------------------------------------------------------------


@mutable()
class OpenActivity:
    """An activity that was scheduled and has not ended.

    `attempt` is the number of the present attempt, or of the next one. `retry_at` is when that may
    start (`None`: at once). `crashes` counts deaths of its process, `begun` says that
    an AttemptStarted is on record for the present attempt, `alone` that it ran by itself.
    `since`: when its run was taken up again, from which `total_timeout` counts.
    """

    scheduled: e.ActivityScheduled
    attempt: int = 1
    failures: int = 0
    crashes: int = 0
    retry_at: int | None = None
    last_error: str | None = None
    begun: bool = False
    alone: bool = False
    since: int | None = None
    _options: ActivityOptions | None = None

    @property
    def options(self) -> ActivityOptions:
        """The limits that were recorded. Of what has ended nobody asks: so they are made late."""
        if self._options is None:
            self._options = options_of(self.scheduled)
        return self._options

    @property
    def expires_at(self) -> int | None:
        """When `total_timeout` is over; `None`: never."""
        total_timeout = self.scheduled.total_timeout
        if total_timeout is None:
            return None
        began = self.scheduled.time if self.since is None else self.since
        return began + duration_ns(total_timeout)


@mutable()
class OpenWork:
    """What a history leaves open: folded event by event, in order.

    The engine folds what it appends, so memory and a fresh load of the history always agree.
    Beside all `activities` stand those with a property that is asked for at every turn: `delayed`
    until their next attempt, `expiring` by a total_timeout, `once` at most, `late` in a catch-up.
    """

    activities: dict[int, OpenActivity] = field(default_factory=dict)
    delayed: dict[int, OpenActivity] = field(default_factory=dict)
    expiring: dict[int, OpenActivity] = field(default_factory=dict)
    once: dict[int, OpenActivity] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)
    timers: dict[int, e.TimerStarted] = field(default_factory=dict)
    waits: dict[int, e.WaitStarted] = field(default_factory=dict)
    cancel_requested: bool = False
    closed: bool = False

    @classmethod
    def of(cls, history: Iterable[e.Event]) -> OpenWork:
        """What is open after a whole history."""
        work = cls()
        for event in history:
            work.fold(event)
        return work

    @property
    def size(self) -> int:
        """How much is open."""
        return len(self.activities) + len(self.timers) + len(self.waits)

    def to_json(self) -> dict[str, Any]:
        """What `restore` makes this of again, with the events at these positions."""
        began = [activity.scheduled for activity in self.activities.values()]
        events = [*began, *self.timers.values(), *self.waits.values()]
        return {
            "events": sorted(event.position for event in events),
            "attempts": {
                str(activity.scheduled.seq): list(_attempts_of(activity))
                for activity in self.activities.values()
                if activity.attempt > 1 or activity.begun
            },
            "cancel_requested": self.cancel_requested,
        }

    @classmethod
    def restore(cls, data: Mapping[str, Any], events: Iterable[e.Event]) -> OpenWork:
        """What was open when `data` was made by `to_json`. Raises `ValueError` if it was not."""
        work = cls.of(events)
        work.cancel_requested = data["cancel_requested"]
        for seq, attempts in data["attempts"].items():
            activity = work.activities[int(seq)]
            for (name, kinds), value in zip(_ATTEMPTS.items(), attempts, strict=True):
                if not isinstance(value, kinds):
                    raise TypeError(name)
                setattr(activity, name, value)
            if activity.retry_at is not None:
                from_micros(to_micros(activity.retry_at))  # whether it is a time
                work.delayed[int(seq)] = activity
        if work.to_json() != data:
            raise ValueError("what was open")
        return work

    def fold(self, event: e.Event) -> None:
        """Take one more event into account."""
        match event:
            case e.ActivityScheduled():
                self._open(OpenActivity(event))
            case (
                e.ActivityCompleted()
                | e.ActivityFailed()
                | e.ActivityTimedOut()
                | e.ActivityCancelRequested()
            ):
                self._end(event.seq)
            case e.AttemptStarted() | e.AttemptFailed() | e.AttemptInterrupted():
                activity = self.activities.get(event.seq)
                if activity is not None:
                    _fold_attempt(activity, event)
                    if activity.retry_at is None:
                        self.delayed.pop(event.seq, None)
                    else:
                        self.delayed[event.seq] = activity
            case e.TimerStarted():
                self.timers[event.seq] = event
            case e.TimerFired() | e.TimerCancelled():
                self.timers.pop(event.seq, None)
            case e.WaitStarted():
                self.waits[event.seq] = event
            case e.WaitEnded():
                self.waits.pop(event.seq, None)
            case e.CancelRequested():
                self.cancel_requested = True
            case e.RunReopened():
                self._reopen(event)
            case _ if event.kind is e.Kind.CLOSING:
                self.closed = True
                for seq in list(self.activities):
                    self._end(seq)
                self.timers.clear()
                self.waits.clear()

    def is_open(self, end: e.Event) -> bool:
        """Whether an activity's end is of the present attempt of one that is open."""
        activity = self.activities.get(getattr(end, "seq", 0))
        return activity is not None and activity.attempt == getattr(end, "attempt", 0)

    def _open(self, activity: OpenActivity) -> None:
        scheduled = activity.scheduled
        seq = scheduled.seq
        self.activities[seq] = activity
        if scheduled.total_timeout is not None:
            self.expiring[seq] = activity
        if scheduled.at_most_once:
            self.once[seq] = activity
        if scheduled.late:
            self.late.add(seq)

    def _reopen(self, event: e.RunReopened) -> None:
        """What is open begins anew, as far as its policy is concerned."""
        self.delayed.clear()
        for text, attempt in event.attempts.items():
            activity = self.activities[int(text)]
            activity.attempt, activity.since = attempt, event.time
            activity.failures = activity.crashes = 0
            activity.retry_at = None
            activity.begun = activity.alone = False

    def _end(self, seq: int) -> None:
        for activities in (self.activities, self.delayed, self.expiring, self.once):
            activities.pop(seq, None)
        self.late.discard(seq)


# What an open activity has beside its ActivityScheduled.
_ATTEMPTS: dict[str, tuple[type, ...]] = {
    "attempt": (int,),
    "failures": (int,),
    "crashes": (int,),
    "retry_at": (int, type(None)),
    "last_error": (str, type(None)),
    "begun": (bool,),
    "alone": (bool,),
    "since": (int, type(None)),
}
_attempts_of = attrgetter(*_ATTEMPTS)


def _fold_attempt(
    activity: OpenActivity, event: e.AttemptStarted | e.AttemptFailed | e.AttemptInterrupted
) -> None:
    match event:
        case e.AttemptStarted():
            activity.begun = True
            activity.alone = event.alone
            activity.retry_at = None
        case e.AttemptFailed():
            activity.failures += 1
            activity.attempt = event.attempt + 1
            activity.retry_at = event.retry_at
            activity.begun = activity.alone = False
            error = json.loads(event.payload)
            activity.last_error = f"{error.get('type')}: {error.get('message')}"
        case e.AttemptInterrupted():
            activity.attempt = event.attempt + 1
            activity.crashes = event.crashes
            activity.retry_at = None
            activity.begun = activity.alone = False
