"""What must hold of a run that is taken up again: of its history, its inbox, and its attempts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from belugawf.model import events as e
from belugawf.model.history import OpenWork, effective
from belugawf.model.soundness import check_history

if TYPE_CHECKING:
    from tests.simulation.observer import Execution

# How an attempt ends, for good or not.
ATTEMPT_ENDS = (
    *(e.ActivityCompleted, e.ActivityFailed, e.ActivityTimedOut),
    *(e.AttemptFailed, e.AttemptInterrupted),
)


def incarnations(history: Sequence[e.Event]) -> Iterator[tuple[e.Event, int, int]]:
    """Each event, with where the activity was scheduled that it is about (0: it is about none), and
    how often the run had been taken up again.
    """
    counting: list[e.Event] = []
    places: dict[int, int] = {}
    times = 0
    for event in history:
        counting.append(event)
        if isinstance(event, e.RunReopened):
            times += 1
            counting = effective(counting)
            scheduled = [x for x in counting if isinstance(x, e.ActivityScheduled)]
            places = {x.seq: x.position for x in scheduled}
        elif isinstance(event, e.ActivityScheduled):
            places[event.seq] = event.position
        yield event, places.get(getattr(event, "seq", 0), 0), times


def complaints(
    history: Sequence[e.Event],
    inbox: Sequence[tuple[str, str | None]],
    executions: Sequence[Execution],
) -> Iterator[str]:
    """What is wrong with a run that was taken up again just now.

    `inbox` has the kinds and payloads of its messages, in order.
    """
    try:
        check_history(history)
    except ValueError as error:
        yield f"its history is not sound: {error}"
        return
    counting = effective(history)
    yield from _of_signals(history, counting, [text for kind, text in inbox if kind == "signal"])
    work = OpenWork.of(counting)
    ends = [json.loads(text or "") for kind, text in inbox if kind == "attempt"]
    yield from _of_ends(history, work, ends)
    ended = {end["seq"] for end in ends}
    for x in executions:
        activity = work.activities.get(int(x.info.activity_id))
        if activity is None or activity.scheduled.position != x.scheduled_at:
            continue
        if activity.attempt <= x.info.attempt and activity.scheduled.seq not in ended:
            yield f"attempt {activity.attempt} is to begin, after {x.name} has"


def _of_signals(
    history: Sequence[e.Event], counting: Sequence[e.Event], waiting: Sequence[str | None]
) -> Iterator[str]:
    read = [x.payload for x in counting if isinstance(x, e.SignalReceived)]
    told = Counter([*read, *waiting])
    for x in history:
        if isinstance(x, e.SignalReceived) and not told[x.payload]:
            yield f"signal {x.payload} is dropped"
    for payload, times in told.items():
        if times > 1:
            yield f"signal {payload} counts {times} times"


def _of_ends(
    history: Sequence[e.Event], work: OpenWork, ends: Sequence[dict[str, object]]
) -> Iterator[str]:
    for end in ends:
        activity = work.activities.get(end["seq"])  # type: ignore[call-overload]
        if activity is None or activity.attempt != end["attempt"]:
            yield f"the end of attempt {end['attempt']} of {end['seq']} is kept, which is not open"
    completed = {end["seq"] for end in ends if end["status"] == "completed"}
    for event, place, _ in incarnations(history):
        if isinstance(event, e.ActivityCompleted) and event.seq not in completed:
            activity = work.activities.get(event.seq)
            if activity is not None and activity.scheduled.position == place:
                yield f"the end of activity {event.seq} is dropped: event {event.position}"
