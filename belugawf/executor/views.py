"""What a history shows to people: what the run waits for, and the states of its activities."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from belugawf.executor.info import ActivityState, Waiting
from belugawf.model import events as e
from belugawf.model.durations import format_duration
from belugawf.model.history import OpenActivity, OpenWork, activity_id_of


def waiting_for(work: OpenWork) -> Iterable[Waiting]:
    """What open work waits for: signals, activities, then timers that belong to neither."""
    bounded = [wait.until for wait in work.waits.values()]
    for wait in work.waits.values():
        yield Waiting(
            kind="signal",
            name=wait.name,
            since=wait.time,
            until=wait.until,
            prompt=wait.prompt,
            expected=wait.expected,
            seq=wait.seq,
        )
    for activity in work.activities.values():
        yield _activity_wait(activity)
    for timer in work.timers.values():
        if timer.due_at in bounded:
            bounded.remove(timer.due_at)
            continue
        yield Waiting(
            kind="timer",
            name=format_duration(timer.delay),
            since=timer.time,
            until=timer.due_at,
            seq=timer.seq,
        )


def _activity_wait(activity: OpenActivity) -> Waiting:
    scheduled = activity.scheduled
    return Waiting(
        kind="activity",
        name=scheduled.name,
        since=scheduled.time,
        until=activity.retry_at,
        attempt=activity.attempt,
        max_attempts=activity.options.retry.max_attempts,
        state="running" if activity.retry_at is None else "retrying",
        error=activity.last_error,
        id=scheduled.activity_id or None,
        seq=scheduled.seq,
    )


def activity_states(
    events: Sequence[e.Event], still_open: OpenWork | None = None
) -> list[ActivityState]:
    """Every activity that the events schedule, in that order.

    If the events are the last ones of a history, those before them that are `still_open` come too.
    """
    work = OpenWork()
    states: dict[int, ActivityState] = {}
    for event in events:
        ended = _ENDED.get(type(event))
        seq = getattr(event, "seq", None)
        if ended is not None and seq in work.activities:
            states[seq] = _state(work.activities[seq], ended, event)
        work.fold(event)
        if isinstance(event, e.ActivityScheduled):
            states[event.seq] = _state(work.activities[event.seq], "scheduled", None)
    for seq, activity in (work if still_open is None else still_open).activities.items():
        states[seq] = _state(activity, "running" if activity.retry_at is None else "retrying", None)
    return [states[seq] for seq in sorted(states)]


_ENDED = {
    e.ActivityCompleted: "completed",
    e.ActivityFailed: "failed",
    e.ActivityTimedOut: "timed_out",
    e.ActivityCancelRequested: "cancelled",
}


def _state(activity: OpenActivity, state: str, end: e.Event | None) -> ActivityState:
    scheduled = activity.scheduled
    error = activity.last_error
    if isinstance(end, e.ActivityFailed | e.ActivityTimedOut):
        failure = json.loads(end.payload)
        error = f"{failure.get('type')}: {failure.get('message')}"
    return ActivityState(
        seq=scheduled.seq,
        activity_id=activity_id_of(scheduled),
        name=scheduled.name,
        state=state,
        attempt=activity.attempt,
        max_attempts=activity.options.retry.max_attempts,
        since=scheduled.time,
        until=activity.retry_at if end is None else end.time,
        error=None if state == "completed" else error,
    )
