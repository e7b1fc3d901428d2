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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from belugawf.local.drive.run import OwnedRun, Slot, SlotPhase
from belugawf.local.store.damage import damaged
from belugawf.local.store.rows import Message, Turn, signal_received, unread
from belugawf.model import codec, commands as c, events as e
from belugawf.model.durations import duration_ns, parse_instant
from belugawf.model.errors import Failure
from belugawf.model.history import OpenActivity, record
from belugawf.model.outcomes import (
    Outcome,
    died_with_it,
    interrupted,
    next_attempt_at,
    out_of_time,
    total_timeout_over,
)

# Of facts of one moment, messages come first, and the deadline last.
_MESSAGE, _ACTIVITY, _TIMER, _DEADLINE = range(4)

Happening: TypeAlias = Message | Outcome | e.TimerStarted | None
Entry: TypeAlias = tuple[int, int, int, int, Happening]


@dataclass(slots=True)
class MadeTurn:
    """What a turn comes to: events to append, and what the store is told beside them.

    `now` is the time up to which everything that was due has been applied. `used` are the
    slots that had ended when the turn was made. `rests`: when it is on disk the run is PINNED.
    """

    run: OwnedRun
    now: int
    length: int
    events: list[e.Event]
    read_to: int
    used: list[Slot]
    begun: list[Slot]
    interrupted: str | None
    first: bool
    rests: bool = False

    def rest(self, rests: bool) -> None:
        """What is to become of its run once it is on disk."""
        self.rests = rests

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
            or self.run.state is None
            or turn.due_at != self.run.state.due_at
        )


class TurnMaker:
    """Makes one turn.

    `max_crashes` as in the configuration; `now` was read with the messages. `starting`: attempts
    may start.
    """

    def __init__(
        self,
        run: OwnedRun,
        messages: Sequence[Message],
        now: int,
        *,
        max_crashes: int,
        starting: bool = True,
    ) -> None:
        assert run.state is not None
        self._run = run
        self._state = run.state
        self._work = run.state.work
        self._replayer = run.state.replayer
        self._now = now
        self._max_crashes = max_crashes
        self._starting = starting
        self._events: list[e.Event] = []
        self._length = self._state.length
        self._heap: list[Entry] = []
        self._pushed = 0
        self._held: list[Entry] = []
        self._used = list(run.ended)
        self._ended: set[int] = set()
        self._begun: list[Slot] = []
        self._read_to = messages[-1].id if messages else 0
        for message in messages:
            if not message.sound:
                raise damaged(run.row.workflow_id, ValueError("its inbox"))
            if message.kind == "attempt":
                self._push_end(message.outcome())
            else:
                self._push(message.sent_at, _MESSAGE, message.id, message)
        for slot in run.ended:
            assert slot.outcome is not None
            self._push_end(slot.outcome)
        deadline = run.deadline
        if deadline is not None and deadline <= now:
            self._push(deadline, _DEADLINE, 0, None)

    def make(self) -> MadeTurn:
        """Apply everything that has happened. Raises `TurnError` where the turn cannot be taken."""
        run = self._run
        interrupted, first = run.interrupted, not self._state.code_started
        if run.interrupted is not None:
            self._note_interruptions(run.interrupted)
        self._end_what_began_elsewhere()
        if not self._state.code_started:
            if run.deadline is not None and run.deadline <= self._now:
                # Its code never runs: what was sent is not its to see, and is kept as unread.
                self._time_out(run.deadline)
            else:
                self._first_turn()
        for timer in self._work.timers.values():
            self._push_if_due(timer)
        self._expire_waiting()
        while self._heap and not self._work.closed:
            self._take(heapq.heappop(self._heap))
        if not self._work.closed:
            self._begin_attempts()
        return MadeTurn(
            run=run,
            now=self._now,
            length=self._state.length,
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
        activity = self._work.activities.get(outcome.seq)
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
        if timer.seq not in self._work.timers:
            return
        if self._is_held(timer.due_at, timer.due_at - duration_ns(timer.delay)):
            self._held.append(entry)
            return
        position, time = self._next()
        self._apply(e.TimerFired(position=position, time=time, seq=timer.seq, at=timer.due_at))

    def _is_held(self, due_at: int, started_at: int) -> bool:
        run = self._run
        if not run.is_late(due_at) or not self._work.late:
            return False
        return self._now < run.held_until(due_at, started_at)

    def _release_held(self) -> None:
        if self._held and not self._work.late:
            for entry in self._held:
                heapq.heappush(self._heap, entry)
            self._held.clear()

    # -- facts -----------------------------------------------------------------------------------

    def _first_turn(self) -> None:
        started = self._replayer.started
        self._state.start_code()
        self._record(self._replayer.apply(started))

    def _apply(self, fact: e.Event) -> None:
        """Append a fact, let the code run, append what it asks for."""
        self._append(fact)
        self._record(self._replayer.apply(fact))
        self._release_held()

    def _next(self) -> tuple[int, int]:
        """Position and time of the next event: time never goes back within a history."""
        return self._length + 1, max(self._now, self._state.last_time)

    def _append(self, event: e.Event) -> None:
        self._length = event.position
        self._events.append(event)
        self._state.append(event)

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
        return any(run.is_late(timer.due_at) for timer in self._work.timers.values())

    def _close(self, closing: e.Event) -> None:
        """End the run; what came too late to be seen is kept as notes before that."""
        for *_, left in sorted(self._heap, key=lambda entry: entry[:4]):
            note: e.Event | None = None
            if isinstance(left, Message):
                note = unread(left, *self._next())
            elif isinstance(left, Outcome) and left.seq in self._work.activities:
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
        activity = self._work.activities.get(outcome.seq)
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
        for seq, activity in self._work.expiring.items():
            expires_at = activity.expires_at
            if expires_at is None or self._run.in_flight(seq) or seq in self._ended:
                continue
            if expires_at <= self._now:
                outcome = _expired(activity)
                self._push(expires_at, _ACTIVITY, seq, outcome)

    # -- crashes ---------------------------------------------------------------------------------

    def _note_interruptions(self, reason: str) -> None:
        """The last owner died: note what may have been running, and who is suspect."""
        self._run.noted()
        for activity in list(self._work.activities.values()):
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
        run = self._run
        for seq, activity in list(self._work.once.items()):
            ours = seq in self._ended or seq in run.recording or run.in_flight(seq)
            if activity.begun and not ours:
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
        for slot in list(self._run.recording.values()):
            activity = self._work.activities.get(slot.seq)
            if activity is None:
                continue
            if activity.begun:  # by a commit of ours that seemed to fail
                self._begun.append(slot)
                continue
            if not self._starting:
                slot.move(SlotPhase.WAITING)
                continue
            self._begun.append(slot)
            position, time = self._next()
            self._append(
                e.AttemptStarted(
                    position=position,
                    time=time,
                    seq=slot.seq,
                    attempt=activity.attempt,
                    alone=slot.manner == "alone",
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
