"""One turn of one run: facts applied one by one, in the order in which they happened.

The life of a turn: `TurnMaker` gets a run, its new messages, its attempts' outcomes and the time.
It sorts what has happened by when that was (`at`; of one moment: messages, then activity ends,
then timers, then the deadline), and applies one fact after the other: the fact's event, the run's
code, the events of the commands that it asks for. Attempts that will be tried again become notes.
What comes out are events to append; nothing has been written or started yet.

Catching up. Timers that were overdue when the run was picked up, and its deadline, are held while
an activity is open that was scheduled meanwhile: a reminder that is sent late must not cost the run
the approval that came in time. They are held no longer than they would have taken themselves.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from belugawf.host.attempts import (
    died_with_it,
    interrupted,
    next_attempt_at,
    out_of_time,
    total_timeout_over,
)
from belugawf.host.suspects import Manner
from belugawf.local.damage import damaged
from belugawf.local.rows import Message, RunRow, Turn, signal_received, unread
from belugawf.model import codec
from belugawf.model import commands as c
from belugawf.model import events as e
from belugawf.model.durations import duration_ns, parse_instant
from belugawf.model.errors import BelugaError, Failure
from belugawf.model.history import OpenActivity, OpenWork, record
from belugawf.model.outcomes import Outcome
from belugawf.model.values import frozen
from belugawf.replay.replayer import Replayer

# Of facts of one moment, messages come first, and the deadline last.
_MESSAGE, _ACTIVITY, _TIMER, _DEADLINE = range(4)

Happening: TypeAlias = Message | Outcome | e.TimerStarted | None
Entry: TypeAlias = tuple[int, int, int, int, Happening]


@frozen()
class Beginning:
    """How an attempt starts; `details` are what the one before it reported last, as a value."""

    manner: Manner = "shared"
    details: Any = None


@dataclass(slots=True)
class DrivenRun:
    """A run that this process owns, as of its last committed turn.

    `picked_up_at` is when it was claimed; `functions` are the callables of open activities, which
    the code has named; `interrupted` says how the last owner ended ("crash", "reboot") until that
    has been noted. `to_begin` are attempts whose AttemptStarted must be on disk before they start,
    `launched` activities with an attempt that has started and whose end is not on disk yet,
    `unstarted` those that may be started once they are due. `next_at` is when something is due,
    `alarm_at` when the engine looks for that. `resting`: it would be let go, but for a thread that
    cannot be stopped. `leaving`: it is not driven here any more, and still this process's because
    something is at work for it; `refused` is why, where it was refused.
    """

    row: RunRow
    history_length: int
    last_time: int
    work: OpenWork
    picked_up_at: int
    patience_ns: int
    replayer: Replayer | None = None
    begun: bool = False
    interrupted: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    functions: dict[int, Callable[..., Any]] = field(default_factory=dict)
    stored_due_at: int | None = None
    to_begin: dict[int, Beginning] = field(default_factory=dict)
    launched: set[int] = field(default_factory=set)
    unstarted: dict[int, None] = field(default_factory=dict)
    resting: bool = False
    leaving: bool = False
    refused: BelugaError | None = None
    dirty: bool = True
    next_at: int | None = None
    alarm_at: int | None = None
    key: int = field(init=False)
    deadline: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.row.key
        self.deadline = None if self.row.deadline is None else parse_instant(self.row.deadline)

    def leave(self, reason: BelugaError | None) -> None:
        """It is not driven any more, and kept until nothing is at work for it."""
        self.leaving = self.resting = True
        self.refused = reason
        self.dirty, self.next_at = False, None

    def kept(self, ends: Sequence[Outcome]) -> None:
        """These ends are in its inbox now."""
        stored = {id(end) for end in ends}
        self.launched.difference_update(end.seq for end in self.outcomes if id(end) in stored)
        self.outcomes = [end for end in self.outcomes if id(end) not in stored]

    def runnable(self) -> bool:
        """Whether an activity is running or could."""
        return len(self.work.activities) > len(self.work.delayed)

    def due_now(self, now: int) -> int:
        """A moment that says "it can move": the one that is stored already, if it does."""
        stored = self.stored_due_at
        return stored if stored is not None and stored <= now else min(self.last_time, now)

    def is_ready(self, now: int) -> bool:
        """Whether something has happened to it, or falls due."""
        happened = self.dirty or self.outcomes or self.to_begin
        return bool(happened) or (self.next_at is not None and self.next_at <= now)

    def may_be_due(self, now: int) -> bool:
        """Whether a timer or a limit may be applied: then its messages are read under the lock.

        What is held back counts: the end of the activity that holds it lets it go.
        """
        if self.replayer is None:
            # Not read yet, or again after a commit that failed: only a new run has nothing due.
            return bool(self.row.begun or self.history_length or self.row.deadline)
        if self.next_at is not None and self.next_at <= now:
            return True
        return any(timer.due_at <= now for timer in self.work.timers.values())

    def moments(self, now: int) -> list[int]:
        """When something will be due; what is held back counts as due when it is let go."""
        limits = [(t.due_at, t.due_at - duration_ns(t.delay)) for t in self.work.timers.values()]
        deadline = self.deadline
        if deadline is not None:
            limits.append((deadline, parse_instant(self.row.created_at)))
        held = self.holds(now)
        moments = [
            self.held_until(due_at, started_at) if held and self.is_late(due_at) else due_at
            for due_at, started_at in limits
        ]
        moments += [a.retry_at for a in self.work.delayed.values() if a.retry_at is not None]
        moments += [a.expires_at for a in self.work.expiring.values() if a.expires_at is not None]
        return moments

    def held_until(self, due_at: int, started_at: int) -> int:
        """When a limit that is held back is applied at the latest: after as long as it took."""
        return self.picked_up_at + (due_at - started_at)

    def is_late(self, due_at: int) -> bool:
        """Whether it was overdue already when the run was picked up."""
        return due_at <= self.picked_up_at

    def holds(self, now: int) -> bool:
        """Whether overdue timers are held back for an activity of the catch-up."""
        return bool(self.work.late)


@dataclass(slots=True)
class MadeTurn:
    """What a turn comes to: events to append, and what the store is told beside them.

    `now` is the time up to which everything that was due has been applied. `used` are the first of
    the run's outcomes: those that had come when the turn was made. `rests`: when it is on disk the
    run is `resting`.
    """

    run: DrivenRun
    now: int
    length: int
    events: list[e.Event]
    read_to: int
    used: list[Outcome]
    begun: dict[int, Beginning]
    interrupted: str | None
    first: bool
    rests: bool = False

    def says_something(self, turn: Turn) -> bool:
        """Whether `turn`, as it is to be written, has anything to write or to begin.

        Most retries that fall due have not.
        """
        return bool(
            turn.events
            or self.begun
            or turn.read_to
            or turn.release
            or turn.progress is not None
            or self.first
            or turn.due_at != self.run.stored_due_at
        )


class TurnMaker:
    """Makes one turn. `max_crashes` as in the configuration; `now` was read with the messages."""

    def __init__(
        self,
        run: DrivenRun,
        messages: Sequence[Message],
        now: int,
        *,
        max_crashes: int,
    ) -> None:
        assert run.replayer is not None
        self._run = run
        self._replayer = run.replayer
        self._now = now
        self._max_crashes = max_crashes
        self._events: list[e.Event] = []
        self._length = run.history_length
        self._heap: list[Entry] = []
        self._pushed = 0
        self._held: list[Entry] = []
        self._used = list(run.outcomes)
        self._ended: set[int] = set()
        self._begun: dict[int, Beginning] = {}
        self._read_to = messages[-1].id if messages else 0
        for message in messages:
            if not message.sound:
                raise damaged(run.row.workflow_id, ValueError("its inbox"))
            if message.kind == "attempt":
                self._push_end(message.outcome())
            else:
                self._push(message.sent_at, _MESSAGE, message.id, message)
        for outcome in run.outcomes:
            self._push_end(outcome)
        deadline = run.deadline
        if deadline is not None and deadline <= now:
            self._push(deadline, _DEADLINE, 0, None)

    def make(self) -> MadeTurn:
        """Apply everything that has happened. Raises `TurnError` where the turn cannot be taken."""
        run = self._run
        interrupted, first = run.interrupted, not run.begun
        if run.interrupted is not None:
            self._note_interruptions(run.interrupted)
        self._end_what_began_elsewhere()
        if not run.begun:
            if run.deadline is not None and run.deadline <= self._now:
                # Its code never runs: what was sent is not its to see, and is kept as unread.
                self._time_out(run.deadline)
            else:
                self._first_turn()
        for timer in run.work.timers.values():
            self._push_if_due(timer)
        self._expire_waiting()
        while self._heap and not run.work.closed:
            self._take(heapq.heappop(self._heap))
        if not run.work.closed:
            self._begin_attempts()
        return MadeTurn(
            run=run,
            now=self._now,
            length=run.history_length,
            events=self._events,
            read_to=self._read_to,
            used=self._used,
            begun=self._begun,
            interrupted=interrupted,
            first=first,
        )

    # -- in the order of time --------------------------------------------------------------------

    def _push(self, at: int, rank: int, number: int, happening: Happening) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, rank, number, self._pushed, happening))

    def _push_end(self, outcome: Outcome) -> None:
        """An attempt has ended; once, though it may be in memory, in the inbox and on record.

        It is where it was not known whether a commit had succeeded.
        """
        activity = self._run.work.activities.get(outcome.seq)
        if activity is None or activity.attempt != outcome.attempt or outcome.seq in self._ended:
            return
        self._ended.add(outcome.seq)
        self._push(outcome.at, _ACTIVITY, outcome.seq, outcome)

    def _push_if_due(self, timer: e.TimerStarted) -> None:
        if timer.due_at <= self._now:
            self._push(timer.due_at, _TIMER, timer.seq, timer)

    def _take(self, entry: Entry) -> None:
        at, _, _, _, happening = entry
        match happening:
            case Message():
                self._take_message(happening)
            case Outcome():
                self._take_outcome(happening)
            case e.TimerStarted():
                self._take_timer(entry, happening)
            case None:
                if self._is_held(at, parse_instant(self._run.row.created_at)):
                    self._held.append(entry)
                else:
                    self._time_out(at)

    def _time_out(self, deadline: int) -> None:
        position, time = self._next()
        self._close(e.WorkflowTimedOut(position=position, time=time, at=deadline))

    def _take_timer(self, entry: Entry, timer: e.TimerStarted) -> None:
        if timer.seq not in self._run.work.timers:
            return
        if self._is_held(timer.due_at, timer.due_at - duration_ns(timer.delay)):
            self._held.append(entry)
            return
        position, time = self._next()
        self._apply(e.TimerFired(position=position, time=time, seq=timer.seq, at=timer.due_at))

    def _is_held(self, due_at: int, started_at: int) -> bool:
        run = self._run
        if not run.is_late(due_at) or not run.holds(self._now):
            return False
        return self._now < run.held_until(due_at, started_at)

    def _release_held(self) -> None:
        if self._held and not self._run.holds(self._now):
            for entry in self._held:
                heapq.heappush(self._heap, entry)
            self._held.clear()

    # -- facts -----------------------------------------------------------------------------------

    def _first_turn(self) -> None:
        started = self._replayer.started
        self._run.begun = True
        self._record(self._replayer.apply(started))

    def _apply(self, fact: e.Event) -> None:
        """Append a fact, let the code run, append what it asks for."""
        self._append(fact)
        self._record(self._replayer.apply(fact))
        self._release_held()

    def _next(self) -> tuple[int, int]:
        """Position and time of the next event: time never goes back within a history."""
        return self._length + 1, max(self._now, self._run.last_time)

    def _append(self, event: e.Event) -> None:
        self._length = event.position
        self._run.last_time = event.time
        self._events.append(event)
        self._run.work.fold(event)

    def _record(self, commands: Sequence[c.Command]) -> None:
        for command in commands:
            late = isinstance(command, c.ScheduleActivity) and self._is_catching_up()
            position, time = self._next()
            event = record(command, position, time, clock=self._now, late=late)
            if event.kind is e.Kind.CLOSING:
                self._close(event)
                return
            self._append(event)
            if isinstance(event, e.TimerStarted):
                self._push_if_due(event)

    def _is_catching_up(self) -> bool:
        """Whether a timer or the deadline is still overdue from before the run was picked up."""
        run = self._run
        deadline = run.deadline
        if deadline is not None and run.is_late(deadline):
            return True
        return any(run.is_late(timer.due_at) for timer in run.work.timers.values())

    def _close(self, closing: e.Event) -> None:
        """End the run; what came too late to be seen is kept as notes before that."""
        for *_, left in sorted(self._heap, key=lambda entry: entry[:4]):
            note: e.Event | None = None
            if isinstance(left, Message):
                note = unread(left, *self._next())
            elif isinstance(left, Outcome) and left.seq in self._run.work.activities:
                note = left.unread(*self._next())
            if note is not None:
                self._append(note)
        self._append(replace(closing, position=self._length + 1))

    def _take_message(self, message: Message) -> None:
        position, time = self._next()
        if message.kind == "signal":
            self._apply(signal_received(message, position, time))
            return
        self._apply(
            e.CancelRequested(
                position=position,
                time=time,
                at=message.sent_at,
                reason=message.payload,
                sender=message.sender,
            )
        )

    # -- attempts --------------------------------------------------------------------------------

    def _take_outcome(self, outcome: Outcome) -> None:
        activity = self._run.work.activities.get(outcome.seq)
        if activity is None:
            return
        match outcome.status:
            case "completed":
                position, time = self._next()
                self._apply(
                    e.ActivityCompleted(
                        position=position,
                        time=time,
                        seq=outcome.seq,
                        payload=outcome.payload,
                        at=outcome.at,
                        attempt=outcome.attempt,
                        started_at=outcome.started_at,
                    )
                )
            case "interrupted":
                self._note_interruption(activity, "shutdown", activity.crashes)
            case "failed" | "timed_out":
                self._take_failure(activity, outcome)
            case "expired":
                self._fail_activity(activity, outcome, activity.failures)

    def _take_failure(self, activity: OpenActivity, outcome: Outcome) -> None:
        failures = activity.failures + 1
        chance = random.random()  # noqa: S311 - spreads retries
        retry_at = next_attempt_at(outcome, activity.options, failures, chance)
        if retry_at is not None:
            if activity.expires_at is None or retry_at < activity.expires_at:
                self._note_failure(outcome, retry_at)
                return
            outcome = out_of_time(outcome, activity.options)
        self._fail_activity(activity, outcome, failures)

    def _note_failure(self, outcome: Outcome, retry_at: int) -> None:
        position, time = self._next()
        self._append(
            e.AttemptFailed(
                position=position,
                time=time,
                seq=outcome.seq,
                payload=outcome.payload,
                at=outcome.at,
                attempt=outcome.attempt,
                retry_at=retry_at,
                started_at=outcome.started_at,
            )
        )

    def _fail_activity(self, activity: OpenActivity, outcome: Outcome, failures: int) -> None:
        failure = replace(
            Failure.from_json(codec.parse_json(outcome.payload)),
            activity=activity.scheduled.name,
            attempts=max(failures, 1),
        )
        position, time = self._next()
        failed = e.ActivityFailed(
            position=position,
            time=time,
            seq=outcome.seq,
            payload=codec.encode(failure.to_json()),
            at=outcome.at,
            attempt=outcome.attempt,
            started_at=outcome.started_at,
        )
        if not outcome.limit:
            self._apply(failed)
            return
        self._apply(
            e.ActivityTimedOut(
                position=position,
                time=time,
                seq=failed.seq,
                payload=failed.payload,
                at=failed.at,
                limit=outcome.limit,
                attempt=failed.attempt,
                started_at=failed.started_at,
            )
        )

    def _expire_waiting(self) -> None:
        """Activities whose `total_timeout` passed while no attempt of them was running."""
        for seq, activity in self._run.work.expiring.items():
            expires_at = activity.expires_at
            if expires_at is None or seq in self._run.launched or seq in self._ended:
                continue
            if expires_at <= self._now:
                outcome = _expired(activity)
                self._push(expires_at, _ACTIVITY, seq, outcome)

    # -- crashes ---------------------------------------------------------------------------------

    def _note_interruptions(self, reason: str) -> None:
        """The last owner died: note what may have been running, and who is suspect."""
        self._run.interrupted = None
        for activity in list(self._run.work.activities.values()):
            if activity.scheduled.seq in self._ended or not _may_have_been_running(activity):
                continue
            crashes = self._crashes_after(activity) if reason == "crash" else activity.crashes
            alone = activity.alone
            attempt = activity.attempt
            self._note_interruption(activity, reason, crashes)
            if reason == "shutdown":
                continue
            if activity.options.at_most_once:
                failure = interrupted("its process ended in the middle of it")
                self._push_interrupted(activity, attempt, failure)
            elif alone and 0 < self._max_crashes <= crashes:
                self._push_interrupted(activity, attempt, died_with_it(crashes))

    def _end_what_began_elsewhere(self) -> None:
        """What may run only once began under an owner who has let the run go: it is over."""
        ours = self._run.launched | self._run.to_begin.keys() | self._ended
        for seq, activity in list(self._run.work.once.items()):
            if activity.begun and seq not in ours:
                self._note_interruption(activity, "shutdown", activity.crashes)

    def _crashes_after(self, activity: OpenActivity) -> int:
        """A death shared with others is never the last one allowed: only one alone names it."""
        if activity.alone or not self._max_crashes:
            return activity.crashes + 1
        return min(activity.crashes + 1, max(self._max_crashes - 1, 1))

    def _note_interruption(self, activity: OpenActivity, reason: str, crashes: int) -> None:
        seq, attempt = activity.scheduled.seq, activity.attempt
        position, time = self._next()
        self._append(
            e.AttemptInterrupted(
                position=position,
                time=time,
                seq=seq,
                attempt=attempt,
                reason=reason,
                crashes=crashes,
            )
        )
        if reason == "shutdown" and activity.options.at_most_once:
            failure = interrupted("it was stopped in the middle of it")
            self._push_interrupted(activity, attempt, failure)

    def _push_interrupted(self, activity: OpenActivity, attempt: int, failure: Failure) -> None:
        outcome = Outcome(
            run=self._run.key,
            seq=activity.scheduled.seq,
            attempt=attempt,
            status="failed",
            at=self._now,
            started_at=activity.scheduled.time,
            payload=codec.encode(failure.to_json()),
            error_type=failure.type,
            non_retryable=True,
        )
        self._push(outcome.at, _ACTIVITY, outcome.seq, outcome)

    # -- starts ----------------------------------------------------------------------------------

    def _begin_attempts(self) -> None:
        """Note the starts that must be on disk before they happen."""
        for seq, beginning in self._run.to_begin.items():
            activity = self._run.work.activities.get(seq)
            if activity is None:
                continue
            self._begun[seq] = beginning
            if activity.begun:  # by a commit of ours that seemed to fail
                continue
            position, time = self._next()
            self._append(
                e.AttemptStarted(
                    position=position,
                    time=time,
                    seq=seq,
                    attempt=activity.attempt,
                    alone=beginning.manner == "alone",
                )
            )


def _may_have_been_running(activity: OpenActivity) -> bool:
    """First attempts start without a word; all others are noted before they start."""
    if activity.options.at_most_once:
        return activity.begun
    return activity.begun or (activity.attempt == 1 and activity.retry_at is None)


def _expired(activity: OpenActivity) -> Outcome:
    """`total_timeout` was over while no attempt ran."""
    return Outcome(
        run=0,
        seq=activity.scheduled.seq,
        attempt=max(activity.attempt - 1, 1),  # the last one: the next has not begun
        status="expired",
        at=activity.expires_at or 0,
        started_at=activity.scheduled.time,
        payload=total_timeout_over(activity.options, activity.last_error),
        error_type="TimeoutError",
        limit="total_timeout",
    )
