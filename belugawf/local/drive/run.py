"""A run that this process owns, and its open activities: what may follow what.

A run has one phase, which says what we know of it:

    CLAIMING   what the disk has of it is to be read before anything is decided: it was just
               claimed, or is by its next turn, or a turn of it could not be taken, or a commit of
               ours failed, which may have been made. Memory is dropped; attempts and their ends
               stay
    HELD       it is ours, and driven
    PINNED     it is at rest, and ours because something works for it that cannot be stopped
    LEAVING    it is not driven any more, and ours until what is in flight for it has ended
    GONE       it is not ours any more

How it leaves is its exit:

    RELEASED   it came to rest: let go by the transaction of its last turn
    CLOSED     its closing event is committed; ours on disk while something works for it
    LOST       somebody else has ended it, or owns it
    REFUSED    its turn cannot be taken: it has a problem, and the ends of its attempts are in its
               inbox; let go after the last of them
    LIMITED    a limit, or a stop: its attempts were drained, or cut; let go, whatever is due

An open activity has one slot, which says what this process does about it:

    WAITING    its next attempt is not due yet, or its run's turn is not on disk
    QUEUED     it is due, and starts when there is room
    RECORDING  its AttemptStarted has to be on disk before it starts
    RUNNING    an attempt is in flight
    ENDED      how the attempt ended is not on disk yet
    GONE       the activity has ended, or somebody else sees to it

An attempt outlives what its run has in memory. When a run is read again from the disk, slots that
are RECORDING, RUNNING or ENDED stay, and the others are made anew from its history.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import field, replace
from enum import Enum
from typing import Any

from belugawf.host.suspects import Manner
from belugawf.local.store.rows import RunRow
from belugawf.model import events as e
from belugawf.model.durations import duration_ns
from belugawf.model.errors import BelugaError
from belugawf.model.history import OpenActivity, OpenWork
from belugawf.model.outcomes import Outcome
from belugawf.model.values import frozen, mutable
from belugawf.replay.replayer import Replayer

# How many events whoever looks at a run reads at most, more or less.
LONGEST_LOOK = 256


class Phase(Enum):
    """What we know of a run that is ours."""

    CLAIMING = "claiming"
    HELD = "held"
    PINNED = "pinned"
    LEAVING = "leaving"
    GONE = "gone"

    # Enum's own is a Python function, and members are told apart by identity anyway.
    __hash__ = object.__hash__


_PHASES = {
    Phase.CLAIMING: {Phase.HELD, Phase.LEAVING, Phase.GONE},
    Phase.HELD: {Phase.PINNED, Phase.LEAVING, Phase.CLAIMING, Phase.GONE},
    Phase.PINNED: {Phase.HELD, Phase.LEAVING, Phase.CLAIMING, Phase.GONE},
    Phase.LEAVING: {Phase.CLAIMING, Phase.GONE},
    Phase.GONE: set[Phase](),
}


class Exit(Enum):
    """How a run leaves."""

    RELEASED = "released"
    CLOSED = "closed"
    LOST = "lost"
    REFUSED = "refused"
    LIMITED = "limited"

    __hash__ = object.__hash__


@frozen(kw_only=True)
class ExitRule:
    """What an exit comes to.

    `cached`: the run's state is kept in memory, for when it moves again. `forgotten`: nobody wants
    it driven any more. `polls`: more may be found now. `frees`: its row may still be ours, and is
    freed once nothing works for it.
    """

    cached: bool = False
    forgotten: bool = False
    polls: bool = False
    frees: bool = False


EXITS = {
    Exit.RELEASED: ExitRule(cached=True),
    Exit.CLOSED: ExitRule(forgotten=True),
    Exit.LOST: ExitRule(frees=True),
    Exit.REFUSED: ExitRule(polls=True),
    Exit.LIMITED: ExitRule(cached=True, polls=True),
}


class SlotPhase(Enum):
    """What this process does about an open activity."""

    WAITING = "waiting"
    QUEUED = "queued"
    RECORDING = "recording"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"

    __hash__ = object.__hash__


_NEXT = {
    SlotPhase.WAITING: {SlotPhase.QUEUED, SlotPhase.GONE},
    SlotPhase.QUEUED: {SlotPhase.WAITING, SlotPhase.RECORDING, SlotPhase.RUNNING, SlotPhase.GONE},
    SlotPhase.RECORDING: {SlotPhase.WAITING, SlotPhase.RUNNING, SlotPhase.GONE},
    SlotPhase.RUNNING: {SlotPhase.ENDED, SlotPhase.GONE},
    SlotPhase.ENDED: {SlotPhase.WAITING, SlotPhase.GONE},
    SlotPhase.GONE: set[SlotPhase](),
}
_IN_FLIGHT = {SlotPhase.RUNNING, SlotPhase.ENDED}
NOT_STARTED = (SlotPhase.WAITING, SlotPhase.QUEUED, SlotPhase.RECORDING)


@mutable()
class Slot:
    """One open activity of one run.

    `activity` and `function` are what its run has of it. `manner` is how its attempt runs,
    `details` are what the one before it reported last, and `outcome` is how it ended.
    """

    run: OwnedRun
    seq: int
    activity: OpenActivity
    function: Callable[..., Any]
    phase: SlotPhase = SlotPhase.WAITING
    manner: Manner = "shared"
    details: Any = None
    outcome: Outcome | None = None

    def move(self, to: SlotPhase) -> None:
        """Go on to that phase, also in the run's index of them."""
        assert to in _NEXT[self.phase], f"{self.phase} -> {to}"
        run = self.run
        del run.by_phase[self.phase][self.seq]
        self.phase = to
        if to is SlotPhase.GONE:
            del run.slots[self.seq]
            return
        run.by_phase[to][self.seq] = self
        if to is SlotPhase.WAITING:
            self.outcome = None

    def queue(self, manner: Manner) -> None:
        """It is due, and runs in that manner once there is room."""
        self.manner = manner
        self.move(SlotPhase.QUEUED)

    def prepare(self, details: Any) -> None:
        """These were reported last by the attempt before it."""
        self.details = details

    def end(self, outcome: Outcome) -> None:
        """Its attempt has ended."""
        self.outcome = outcome
        self.move(SlotPhase.ENDED)

    @property
    def in_flight(self) -> bool:
        """Whether an attempt of it has started whose end is not on disk."""
        return self.phase in _IN_FLIGHT


@mutable()
class RunState:
    """What a run's history comes to: its code in memory, and what it has open.

    `length` is how many events are on disk, `last_time` the time of the last one, `due_at` what the
    disk says of when it can move again. `code_started`: its first turn was taken. `open_at` is up
    to which event the disk says what is open.
    """

    replayer: Replayer
    work: OpenWork
    length: int
    last_time: int
    due_at: int | None
    code_started: bool
    open_at: int = 0

    def start_code(self) -> None:
        """Its first turn is taken."""
        self.code_started = True

    def append(self, event: e.Event) -> None:
        """That event comes next in its history."""
        self.last_time = event.time
        self.work.fold(event)

    def tell_open_work(self, length: int) -> str | None:
        """What is open with so many events, as JSON, if it is time to store that again."""
        grown = length - self.open_at - LONGEST_LOOK
        if grown < 0 or grown < self.work.size:
            return None
        self.open_at = length
        return json.dumps(self.work.to_json(), ensure_ascii=False)

    def runnable(self) -> bool:
        """Whether an activity is running or could."""
        return len(self.work.activities) > len(self.work.delayed)

    def due_now(self, now: int) -> int:
        """A moment that says "it can move": the one that is stored already, if it does."""
        stored = self.due_at
        return stored if stored is not None and stored <= now else min(self.last_time, now)


@mutable()
class OwnedRun:
    """A run that this process owns, as of its last committed turn.

    `claimed_at` is when it was claimed; `claims`: it is nobody's yet, and its next turn claims it,
    if it is on disk as it was in `row`. `interrupted` says how the last owner ended ("crash",
    "reboot") until that has been noted. `state` is `None` while the disk is to be read, or memory
    is short. `has_mail`: its inbox is to be read; `next_at` is when something is due, `wake_at`
    when the engine looks for that. `refused` is why it is LEAVING, if it was refused. `deadline` is
    when it times out, in nanoseconds since 1970, `None` for never.
    """

    row: RunRow
    claimed_at: int
    idle_wait_ns: int
    interrupted: str | None
    claims: bool = False
    phase: Phase = Phase.CLAIMING
    state: RunState | None = None
    slots: dict[int, Slot] = field(default_factory=dict)
    by_phase: dict[SlotPhase, dict[int, Slot]] = field(default_factory=lambda: defaultdict(dict))
    refused: BelugaError | None = None
    has_mail: bool = True
    next_at: int | None = None
    wake_at: int | None = None
    key: int = field(init=False)
    deadline: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.row.key
        self.deadline = self.row.deadline

    @property
    def length(self) -> int:
        """How many events its history has, as far as is known."""
        return self.row.history_length if self.state is None else self.state.length

    def is_had(self, row: RunRow, owner: str) -> bool:
        """Whether it is that owner's, or can be, now that this is on disk."""
        as_seen = row.status == "running" and row.history_length == self.row.history_length
        return row.owner == owner or (self.claims and row.owner is None and as_seen)

    def read(self, row: RunRow, state: RunState) -> None:
        """This is what the disk has of it."""
        self.row, self.state = row, state
        self.claims = row.owner is None
        self.move(Phase.HELD)

    def born(self, state: RunState | None) -> None:
        """It was created as ours: nothing but its deadline can be due."""
        self.state, self.next_at = state, self.deadline
        if state is not None:
            self.move(Phase.HELD)

    def name(self, row: RunRow) -> None:
        """It was recorded with its first turn, and has its key."""
        self.row, self.key = row, row.key

    def doubt(self, interrupted: str | None) -> None:
        """What it has in memory is not on disk, or may not be: it is read again."""
        self.move(Phase.CLAIMING)
        self.interrupted, self.has_mail = interrupted, True

    def take_state(self) -> RunState | None:
        """Its state, which it has no longer."""
        state, self.state = self.state, None
        return state

    def noted(self) -> None:
        """How its last owner ended is noted."""
        self.interrupted = None

    def expect(self, next_at: int | None) -> None:
        """A turn of it is about to be committed, and nothing will be due before `next_at`."""
        self.next_at, self.has_mail = next_at, False
        if self.phase is not Phase.HELD:
            self.move(Phase.HELD)

    def begin_commit(self) -> None:
        """Requests that arrive during the commit are seen after it."""
        self.has_mail = False

    def commit(self, length: int, due_at: int | None) -> None:
        """Its turn is on disk."""
        assert self.state is not None
        self.state.length, self.state.due_at = length, due_at
        self.claims = False
        if self.row.problem is not None:
            self.row = replace(self.row, problem=None)

    def receive(self) -> None:
        """Something may be in its inbox."""
        self.has_mail = True

    def want(self, idle_wait_ns: int) -> bool:
        """Somebody asks for it; false if it is leaving, and cannot be had."""
        if self.phase is Phase.LEAVING:
            if self.refused is None:
                return False
            # It is tried again: what is in flight for it goes on meanwhile.
            self.refused = None
            self.move(Phase.CLAIMING)
        elif self.phase is Phase.PINNED:
            self.move(Phase.HELD)
        self.extend_idle_wait(idle_wait_ns)
        self.has_mail = True
        return True

    def extend_idle_wait(self, idle_wait_ns: int) -> None:
        """Sleep through longer waits."""
        self.idle_wait_ns = max(self.idle_wait_ns, idle_wait_ns)

    def wake(self, at: int | None) -> None:
        """The engine looks at it at that moment."""
        self.wake_at = at

    def move(self, to: Phase) -> None:
        """Go on to that phase."""
        assert to is self.phase or to in _PHASES[self.phase], f"{self.phase} -> {to}"
        self.phase = to

    @property
    def rests(self) -> bool:
        """Whether nothing will happen to it here, but for what cannot be stopped."""
        if self.phase is Phase.LEAVING:
            return not any(slot.in_flight for slot in self.slots.values())
        return self.phase is Phase.PINNED

    # -- slots -----------------------------------------------------------------------------------

    def open(self, seq: int) -> None:
        """If that activity is open, its first attempt, or the next one, starts when it is due."""
        assert self.state is not None
        activity = self.state.work.activities.get(seq)
        if activity is None:
            return
        slot = self.slots.get(seq)
        if slot is None:
            function = self.state.replayer.functions[seq]
            slot = self.slots[seq] = Slot(self, seq, activity, function)
            self.by_phase[slot.phase][seq] = slot
        elif slot.phase is not SlotPhase.WAITING:
            slot.move(SlotPhase.WAITING)

    def open_all(self) -> None:
        """All that its history leaves open has a slot."""
        assert self.state is not None
        for seq, activity in self.state.work.activities.items():
            if seq in self.slots:
                self.slots[seq].activity = activity
            else:
                self.open(seq)

    def is_open(self, seq: int) -> bool:
        """Whether that activity has not ended."""
        return self.state is not None and seq in self.state.work.activities

    def in_flight(self, seq: int) -> bool:
        """Whether an attempt of that activity has started whose end is not on disk."""
        slot = self.slots.get(seq)
        return slot is not None and slot.in_flight

    def is_running(self) -> bool:
        """Whether an attempt is in flight."""
        return bool(self.by_phase[SlotPhase.RUNNING])

    def leave(self, reason: BelugaError | None) -> None:
        """It is not driven any more, and kept until nothing is at work for it."""
        self.move(Phase.LEAVING)
        self.refused = reason
        self.has_mail, self.next_at = False, None

    def stored(self, ends: Collection[Slot]) -> None:
        """How these ended is in its inbox now."""
        for slot in [slot for slot in ends if slot.run is self and slot.phase is SlotPhase.ENDED]:
            slot.move(SlotPhase.GONE)

    def is_ready(self, now: int) -> bool:
        """Whether something has happened to it, or falls due."""
        if self.has_mail or (self.next_at is not None and self.next_at <= now):
            return True
        return bool(self.by_phase[SlotPhase.ENDED] or self.by_phase[SlotPhase.RECORDING])

    def may_be_due(self, now: int) -> bool:
        """Whether a timer or a limit may be applied: then its messages are read under the lock.

        What is held back counts: the end of the activity that holds it lets it go.
        """
        if self.state is None:
            due_at = self.row.due_at
            return not self.claims or (due_at is not None and due_at <= now)
        if self.next_at is not None and self.next_at <= now:
            return True
        timers = self.state.work.timers
        return bool(timers) and any(timer.due_at <= now for timer in timers.values())

    def moments(self, now: int) -> list[int]:
        """When something will be due; what is held back counts as due when it is let go."""
        assert self.state is not None
        work, deadline = self.state.work, self.deadline
        if not (work.timers or work.delayed or work.expiring or deadline):
            return []
        limits = [(t.due_at, t.due_at - duration_ns(t.delay)) for t in work.timers.values()]
        if deadline is not None:
            limits.append((deadline, self.row.created_at))
        held = bool(work.late)  # overdue timers are held back for an activity of the catch-up
        moments = [
            self.held_until(due_at, started_at) if held and self.is_late(due_at) else due_at
            for due_at, started_at in limits
        ]
        moments += [a.retry_at for a in work.delayed.values() if a.retry_at is not None]
        moments += [a.expires_at for a in work.expiring.values() if a.expires_at is not None]
        return moments

    def held_until(self, due_at: int, started_at: int) -> int:
        """When a limit that is held back is applied at the latest: after as long as it took."""
        return self.claimed_at + (due_at - started_at)

    def is_late(self, due_at: int) -> bool:
        """Whether it was overdue already when the run was picked up."""
        return due_at <= self.claimed_at

    def check(self, in_flight: Collection[int]) -> None:
        """Raise AssertionError if its state contradicts the tables.

        `in_flight` are the activities with an attempt in flight.
        """
        assert self.phase is not Phase.GONE
        assert self.phase is not Phase.CLAIMING or self.state is None
        for seq, slot in self.slots.items():
            assert (slot.run, slot.seq) == (self, seq)
            assert slot.phase is not SlotPhase.GONE
            assert [phase for phase, of in self.by_phase.items() if seq in of] == [slot.phase]
            assert (slot.outcome is not None) is (slot.phase is SlotPhase.ENDED)
            assert (seq in in_flight) is (slot.phase is SlotPhase.RUNNING)
            assert self.phase is not Phase.LEAVING or slot.in_flight
        assert self.slots.keys() >= {
            *in_flight,
            *(seq for of in self.by_phase.values() for seq in of),
        }
