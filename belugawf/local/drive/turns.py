"""One turn of one run: facts applied one by one, in the order in which they happened.

The life of a turn: `TurnBuilder` gets a run, its new messages, its attempts' outcomes and the time.
In the order of `PendingFacts` it applies one fact after the other: the fact's event, the run's
code, the events of the commands that it asks for. Attempts that will be tried again become notes.
What comes out are events to append; nothing has been written or started yet.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import field, replace

from belugawf.local.drive.pending import PendingFact, PendingFacts
from belugawf.local.drive.run import OwnedRun, Slot, SlotPhase
from belugawf.local.store.damage import damaged
from belugawf.local.store.rows import Message, Turn, signal_received, unread
from belugawf.model import commands as c, events as e
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
from belugawf.model.values import mutable


@mutable(kw_only=True)
class OwnedTurn(Turn):
    """A turn of a run that we own: what it writes, and what follows when that is on disk.

    `now` is the time up to which everything that was due has been applied. `consumed` are the slots
    that had ended when it was built, `begun` those that it records as started. `first`: its code
    has not run before. `pins`: when it is on disk, the run is PINNED.
    """

    owned: OwnedRun
    now: int
    interrupted: str | None
    first: bool
    consumed: list[Slot]
    begun: list[Slot] = field(default_factory=list)
    pins: bool = False

    def finish(
        self, *, due_at: int | None, rests: bool, needed: bool, progress: str | None
    ) -> None:
        """All is in it: its run can move on at `due_at`, or `rests`.

        `needed`: something that works for it keeps it ours.
        """
        self.due_at, self.progress = due_at, progress
        state = self.owned.state
        self.moves = self.first or state is None or due_at != state.due_at
        self.release, self.keep, self.pins = rests and not needed, needed, needed
        if state is not None and not state.work.closed:
            self.open_work = state.tell_open_work(self.length + len(self.events))

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to write and nothing to begin, as most retries that fall due."""
        if self.events or self.begun or self.read_to or self.release or self.moves:
            return False
        return self.progress is None and self.claimed_at is None


class TurnBuilder:
    """Builds one turn.

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
        self._max_crashes = max_crashes
        self._starting = starting
        self._turn = OwnedTurn(
            run=run.key,
            length=run.state.length,
            read_to=messages[-1].id if messages else 0,
            claimed_at=run.claimed_at if run.claims else None,
            born=None if run.state.length else run.row,
            owned=run,
            now=now,
            interrupted=run.interrupted,
            first=not run.state.code_started,
            consumed=list(run.by_phase[SlotPhase.ENDED].values()),
        )
        self._ended: set[int] = set()
        self._pending = PendingFacts(run, self._work, now)
        for message in messages:
            if not message.sound:
                raise damaged(run.row.workflow_id, ValueError("its inbox"))
            if message.kind == "attempt":
                self._add_end(message.outcome())
            else:
                self._pending.add(message)
        for slot in self._turn.consumed:
            assert slot.outcome is not None
            self._add_end(slot.outcome)

    def build(self) -> OwnedTurn:
        """Apply everything that has happened. Raises `TurnError` if the turn cannot be taken."""
        run, now = self._run, self._turn.now
        if not self._state.length:
            self._append(self._replayer.started)
        if run.interrupted is not None:
            self._note_interruptions(run.interrupted)
        self._end_what_began_elsewhere()
        if not self._state.code_started:
            if run.deadline is not None and run.deadline <= now:
                # Its code never runs: what was sent is not its to see, and is kept as unread.
                self._time_out(run.deadline)
            else:
                self._first_turn()
        if not self._work.closed:
            for timer in self._work.timers.values():
                self._pending.add_timer(timer)
            self._expire_waiting()
            for fact in self._pending.take():
                self._apply_fact(fact)
                if self._work.closed:
                    break
        if not self._work.closed:
            self._begin_attempts()
        return self._turn

    def _add_end(self, outcome: Outcome) -> None:
        """An attempt has ended; once, though it may be in memory, in the inbox and on record.

        It is if it was not known whether a commit had succeeded.
        """
        activity = self._work.activities.get(outcome.seq)
        if activity is None or activity.attempt != outcome.attempt or outcome.seq in self._ended:
            return
        self._ended.add(outcome.seq)
        self._pending.add(outcome)

    # -- facts -----------------------------------------------------------------------------------

    def _first_turn(self) -> None:
        started = self._replayer.started
        self._state.start_code()
        self._record(self._replayer.apply(started))

    def _apply(self, fact: e.Event) -> None:
        """Append a fact, let the code run, append what it asks for."""
        self._append(fact)
        self._record(self._replayer.apply(fact))

    def _next(self) -> tuple[int, int]:
        """Position and time of the next event: time never goes back within a history."""
        turn = self._turn
        return turn.length + len(turn.events) + 1, max(turn.now, self._state.last_time)

    def _append(self, event: e.Event) -> None:
        self._turn.events.append(event)
        self._state.append(event)

    def _record(self, commands: Sequence[c.Command]) -> None:
        for command in commands:
            late = type(command) is c.ScheduleActivity and self._is_catching_up()
            position, time = self._next()
            event = record(command, position, time, clock=self._turn.now, late=late)
            if event.kind is e.Kind.CLOSING:
                self._close(event)
                return
            self._append(event)
            if isinstance(event, e.TimerStarted):
                self._pending.add_timer(event)

    def _is_catching_up(self) -> bool:
        """Whether a timer or the deadline is still overdue from before the run was picked up."""
        run = self._run
        deadline = run.deadline
        if deadline is not None and run.is_late(deadline):
            return True
        timers = self._work.timers
        return bool(timers) and any(run.is_late(timer.due_at) for timer in timers.values())

    def _close(self, closing: e.Event) -> None:
        """End the run; what came too late to be seen is kept as notes before that."""
        for left in self._pending.left():
            note: e.Event | None = None
            if isinstance(left, Message):
                note = unread(left, *self._next())
            elif isinstance(left, Outcome) and left.seq in self._work.activities:
                note = left.unread(*self._next())
            if note is not None:
                self._append(note)
        self._append(replace(closing, position=self._next()[0]))

    def _apply_fact(self, fact: PendingFact) -> None:
        match fact:
            case Message():
                self._apply_message(fact)
            case Outcome():
                self._apply_outcome(fact)
            case e.TimerStarted(seq=seq, due_at=at):
                if seq in self._work.timers:
                    position, time = self._next()
                    self._apply(e.TimerFired(position=position, time=time, seq=seq, at=at))
            case None:
                assert self._run.deadline is not None
                self._time_out(self._run.deadline)

    def _time_out(self, deadline: int) -> None:
        position, time = self._next()
        self._close(e.WorkflowTimedOut(position=position, time=time, at=deadline))

    def _apply_message(self, message: Message) -> None:
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

    def _apply_outcome(self, outcome: Outcome) -> None:
        activity = self._work.activities.get(outcome.seq)
        if activity is None:
            return
        match outcome.status:
            case "completed":
                self._apply(outcome.as_event(e.ActivityCompleted, *self._next()))
            case "interrupted":
                self._note_interruption(activity, "shutdown", activity.crashes)
            case "failed" | "timed_out":
                self._apply_failure(activity, outcome)
            case "over":
                self._apply(outcome.end(*self._next()))
            case "expired":
                self._fail_activity(activity, outcome, activity.failures)

    def _apply_failure(self, activity: OpenActivity, outcome: Outcome) -> None:
        failures = activity.failures + 1
        chance = random.random()  # noqa: S311 - spreads retries
        retry_at = next_attempt_at(outcome, activity.options, failures, chance)
        if retry_at is not None:
            if activity.expires_at is None or retry_at < activity.expires_at:
                self._append(outcome.as_event(e.AttemptFailed, *self._next(), retry_at=retry_at))
                return
            outcome = out_of_time(outcome, activity.options)
        self._fail_activity(activity, outcome, failures)

    def _fail_activity(self, activity: OpenActivity, outcome: Outcome, failures: int) -> None:
        assert outcome.failure is not None
        attempts = max(failures, 1)
        failure = replace(outcome.failure, activity=activity.scheduled.name, attempts=attempts)
        self._apply(replace(outcome, failure=failure).end(*self._next()))

    def _expire_waiting(self) -> None:
        """Activities whose `total_timeout` passed while no attempt of them was running."""
        for seq, activity in self._work.expiring.items():
            expires_at = activity.expires_at
            if expires_at is None or self._run.in_flight(seq) or seq in self._ended:
                continue
            if expires_at <= self._turn.now:
                self._pending.add(_expired(activity))

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
            recording = seq in run.by_phase[SlotPhase.RECORDING]
            ours = seq in self._ended or recording or run.in_flight(seq)
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
            at=self._turn.now,
            started_at=activity.scheduled.time,
            failure=failure,
        )
        self._pending.add(outcome)

    # -- starts ----------------------------------------------------------------------------------

    def _begin_attempts(self) -> None:
        """Note the starts that must be on disk before they happen."""
        for slot in list(self._run.by_phase[SlotPhase.RECORDING].values()):
            activity = self._work.activities.get(slot.seq)
            if activity is None:
                continue
            if activity.begun:  # by a commit of ours that seemed to fail
                self._turn.begun.append(slot)
                continue
            if not self._starting:
                slot.move(SlotPhase.WAITING)
                continue
            self._turn.begun.append(slot)
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
        failure=total_timeout_over(activity.options, activity.last_error),
        limit="total_timeout",
    )
