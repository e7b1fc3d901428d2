"""Taking up a run again that has ended: at which event, what of it happens again, what is lost.

A `RunReopened` says that what stands between its `to` and itself does not count any more: replay
leaves it out. Facts are not undone by that: what was sent to the run, and how activities ended that
were open at `to`, goes back into its inbox, and is applied once more in its order. Left out is only
the failure that ended the run, and a request to cancel it. Timers that were open are open again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from belugawf.model import events as e
from belugawf.model.errors import PROCESS_DIED, Failure, UsageError
from belugawf.model.history import OpenWork, effective, is_fact, is_recorded_command
from belugawf.model.outcomes import Outcome, interrupted
from belugawf.model.shell import command_line
from belugawf.model.values import frozen

_End: TypeAlias = e.ActivityCompleted | e.ActivityFailed | e.ActivityTimedOut
_FAILURES = (e.ActivityFailed, e.ActivityTimedOut)


@frozen(kw_only=True)
class Reopening:
    """How a run is taken up again: after event `to`, with that `work` open.

    `signals` and `ends` (of activities that were open then) happened since and count again;
    `attempts` are the numbers of the next attempts of what is open, by seq. `forgotten` are
    activities that were asked for since and have completed: their work is lost from the history.
    `doubtful` are such as run at most once, have begun, and did not tell how they ended: they would
    begin once more.
    """

    to: int
    work: OpenWork
    code_started: bool
    signals: Sequence[e.SignalReceived]
    ends: Sequence[Outcome]
    attempts: dict[str, int]
    forgotten: Sequence[e.ActivityScheduled]
    doubtful: Sequence[e.ActivityScheduled]


def plan(
    history: Sequence[e.Event], run: int, position: int | None, unread: Sequence[Outcome] = ()
) -> Reopening:
    """How that run is taken up again from event `position` on; by default, from what ended it.

    `unread` are ends of attempts that it has not taken in. Raises `UsageError` for a position that
    its history does not have.
    """
    events = effective(history)
    closing = events[-1] if events[-1].kind is e.Kind.CLOSING else None
    causes = _causes(events, closing)
    begin = _beginning(events, closing, causes) if position is None else _index(events, position)
    kept, left = events[:begin], events[begin:]
    if position is not None and left and isinstance(left[0], _FAILURES):
        causes.add(left[0].seq)
    work = OpenWork.of(kept)
    last, begun, completed = _attempts(history, work)
    ends = {seq: _outcome(event, run) for seq, event in completed.items()}
    signals = []
    scheduled: dict[int, e.ActivityScheduled] = {}
    forgotten = []
    for event in left:
        match event:
            case e.SignalReceived():
                signals.append(event)
            case e.ActivityScheduled():
                scheduled[event.seq] = event
            case e.ActivityCompleted(seq=seq) if seq in scheduled:
                forgotten.append(scheduled[seq])
            case e.ActivityFailed(seq=seq) | e.ActivityTimedOut(seq=seq) if seq in last:
                if seq not in ends and seq not in causes:
                    ends[seq] = _outcome(event, run)
    for end in unread:
        if end.seq not in ends and last.get(end.seq) == end.attempt and end.status != "interrupted":
            ends[end.seq] = end
    for seq in begun.intersection(work.once).difference(ends, causes):
        ends[seq] = _interrupted(work.once[seq].scheduled, run, last[seq], history[-1].time)
    may_begin = (last.keys() | scheduled.keys()) - ends.keys()
    return Reopening(
        to=kept[-1].position,
        work=work,
        code_started=any(is_fact(x) or is_recorded_command(x) for x in kept[1:]),
        signals=signals,
        ends=list(ends.values()),
        attempts={
            str(seq): ends[seq].attempt if seq in ends else number + 1
            for seq, number in last.items()
        },
        forgotten=forgotten,
        doubtful=[one for one in _doubtful(events) if one.seq in may_begin],
    )


def _attempts(
    history: Sequence[e.Event], work: OpenWork
) -> tuple[dict[int, int], set[int], dict[int, e.ActivityCompleted]]:
    """The numbers of the last attempts of what is open, what of it has begun and not ended, and
    what has completed.

    Also of what does not count any more. First attempts may begin without a word.
    """
    last, begun = dict.fromkeys(work.activities, 1), set()
    completed: dict[int, e.ActivityCompleted] = {}
    for event in history:
        seq, attempt = getattr(event, "seq", 0), getattr(event, "attempt", 0)
        if not attempt or seq not in last:
            continue
        if event.position < work.activities[seq].scheduled.position:
            continue  # of what was asked for, in that place, before the run was taken up again
        last[seq] = max(last[seq], attempt)
        if isinstance(event, e.AttemptStarted | e.AttemptInterrupted):
            begun.add(seq)
        else:
            begun.discard(seq)
        if isinstance(event, e.ActivityCompleted):
            completed[seq] = event
    return last, begun, completed


def _interrupted(scheduled: e.ActivityScheduled, run: int, attempt: int, at: int) -> Outcome:
    """What may run only once had begun when its run ended or was parked: it is over."""
    failure = interrupted("its run was taken up again after it had begun")
    return Outcome(
        run=run,
        seq=scheduled.seq,
        attempt=attempt,
        status="over",
        at=at,
        started_at=at,
        failure=replace(failure, activity=scheduled.name, attempts=1),
    )


def _doubtful(events: Sequence[e.Event]) -> list[e.ActivityScheduled]:
    """The at-most-once activities that have begun, and may or may not have been done."""
    once: dict[int, e.ActivityScheduled] = {}
    begun: set[int] = set()
    for event in events:
        match event:
            case e.ActivityScheduled(seq=seq, at_most_once=True):
                once[seq] = event
            case e.AttemptStarted(seq=seq) if seq in once:
                begun.add(seq)
            case e.ActivityCompleted(seq=seq):
                begun.discard(seq)
            case e.ActivityFailed(seq=seq) if _is_its_own(event):
                begun.discard(seq)
    return [once[seq] for seq in sorted(begun)]


def _is_its_own(event: e.ActivityFailed) -> bool:
    """Whether the activity's code has raised that: then it is known how it ended."""
    failure = Failure.from_json(json.loads(event.payload))
    return failure.kind == "application" and failure.type != PROCESS_DIED


def _outcome(event: _End, run: int) -> Outcome:
    """How an activity ended, once more: for good, whatever its policy would have."""
    failed = not isinstance(event, e.ActivityCompleted)
    return Outcome(
        run=run,
        seq=event.seq,
        attempt=event.attempt,
        status="over" if failed else "completed",
        at=event.at,
        started_at=event.at if event.started_at is None else event.started_at,
        result="null" if failed else event.payload,
        failure=Failure.from_json(json.loads(event.payload)) if failed else None,
        limit=event.limit if isinstance(event, e.ActivityTimedOut) else "",
    )


def _causes(events: Sequence[e.Event], closing: e.Event | None) -> set[int]:
    """The numbers of the activities whose failures have ended the run."""
    if not isinstance(closing, e.WorkflowFailed):
        return set()
    failure = Failure.from_json(json.loads(closing.payload))
    facts = [event for event in events if is_fact(event)]
    failed = {event.seq for event in facts if isinstance(event, _FAILURES)}
    named = failed.intersection(failure.seqs)
    last = facts[-1]
    # Its code may have raised an error of its own when an activity failed.
    return named or ({last.seq} if isinstance(last, _FAILURES) else set())


def _beginning(events: Sequence[e.Event], closing: e.Event | None, causes: set[int]) -> int:
    """Where what ended the run begins, as an index."""
    facts = [index for index, event in enumerate(events) if is_fact(event)]
    for index in facts:
        event = events[index]
        if isinstance(closing, e.WorkflowCancelled) and isinstance(event, e.CancelRequested):
            return index
        if isinstance(event, _FAILURES) and event.seq in causes:
            return index
    if isinstance(closing, e.WorkflowFailed):
        return max(facts[-1], 1)
    asked = [index for index, event in enumerate(events) if is_recorded_command(event)]
    return max([*facts, *asked]) + 1


def _index(events: Sequence[e.Event], position: int) -> int:
    """Where the fact stands at that position, or the one that was answered by what stands there.

    What an end left unread is read now, all of it; it stands within the answer that ends a run.
    """
    answered = is_recorded_command(events[-1])
    for index, event in enumerate(events):
        if event.position == position:
            while index > 1 and (
                is_recorded_command(events[index]) or (answered and _is_unread(events[index]))
            ):
                index -= 1
            while index > 1 and _is_unread(events[index - 1]):
                index -= 1
            return max(index, 1)
    last, started = events[-1].position, events[0]
    run = started.workflow_id if isinstance(started, e.WorkflowStarted) else ""
    raise UsageError(
        f"the run's history has no event {position} that counts",
        hint=f"it has events up to {last}: {command_line('history', run)}",
    )


def _is_unread(event: e.Event) -> bool:
    """Whether it came too late to be seen by the code."""
    return getattr(event, "unread", False)
